from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import ConfigError, DataError, ShapeError
from maskwright.metrics import SCORES, ObjectMeter, match_objects, sample_counts


def drawn(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def tensors(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None]


def everywhere(mask: np.ndarray) -> torch.Tensor:
    return torch.ones(1, *mask.shape, dtype=torch.bool)


TRUE = drawn("####..#...", "..........", "##......#.", "##......#.")  # sizes 4, 1, 4, 2
SAID = drawn("###.......", "..........", "##......#.", "#....#..##")  # sizes 3, 3, 3, 1


def test_objects_are_matched_by_their_iou() -> None:
    found = match_objects(SAID, TRUE)

    assert sorted(found.true_px.tolist()) == [1, 2, 4, 4]
    assert sorted(found.called_px.tolist()) == [1, 3, 3, 3]
    assert found.ious.tolist() == pytest.approx([3 / 4, 3 / 4, 2 / 3])
    assert match_objects(SAID, TRUE, min_iou=0.75).ious.tolist() == [3 / 4, 3 / 4]  # reached exactly
    assert match_objects(SAID, TRUE, min_iou=0.7).ious.tolist() == pytest.approx([3 / 4, 3 / 4])


def test_a_called_object_has_one_partner_only() -> None:
    """One call over two true objects: the better one is found, the other missed."""
    found = match_objects(drawn("#######"), drawn("##.####"), min_iou=0.0)

    assert found.pairs.tolist() == [[1, 0]]
    assert found.ious.tolist() == pytest.approx([4 / 7])


def test_corners_join_pixels_only_with_eight_neighbours() -> None:
    mask = drawn("#.", ".#")

    assert match_objects(mask, mask, connectivity=8).true_px.tolist() == [2]
    assert match_objects(mask, mask, connectivity=4).true_px.tolist() == [1, 1]


def test_scores_and_sizes_by_hand() -> None:
    meter = ObjectMeter(("5m",))
    meter.update(tensors(SAID), tensors(TRUE), everywhere(TRUE), pixel_area_m2=0.25)

    scores = meter.compute()

    assert (scores["object_precision"], scores["object_recall"], scores["object_f1"]) == (3 / 4, 3 / 4, 3 / 4)
    assert scores["object_iou"] == pytest.approx((3 / 4 + 3 / 4 + 2 / 3) / 3)
    assert sorted(map(tuple, meter.sizes("5m"))) == [(0.5, 0.75), (1.0, 0.75), (1.0, 0.75)]
    assert scores["size_bias"] == pytest.approx(-0.25 / 3)
    assert scores["size_median_bias"] == -0.25
    assert scores["size_mae"] == 0.25
    assert scores["size_rmse"] == pytest.approx(0.25)
    assert math.isnan(scores["size_correlation"])  # all called sizes are the same
    assert scores["object_f1@5m"] == scores["object_f1"]


def test_recall_and_precision_by_size() -> None:
    meter = ObjectMeter(("5m",))
    meter.update(tensors(SAID), tensors(TRUE), everywhere(TRUE))

    rows = meter.by_size((2, 4))

    assert [(row["low"], row["high"]) for row in rows] == [(0, 2), (2, 4), (4, math.inf)]
    assert [(row["true"], row["found"], row["recall"]) for row in rows] == [(1, 0, 0.0), (1, 1, 1.0), (2, 2, 1.0)]
    assert [(row["called"], row["right"]) for row in rows] == [(1, 0), (3, 3), (0, 0)]
    assert math.isnan(rows[2]["precision"])


@pytest.mark.parametrize(
    ("pred", "target", "expected"),
    [
        (".....", ".....", (math.nan, math.nan, math.nan)),
        (".....", "##...", (math.nan, 0.0, 0.0)),
        ("##...", ".....", (0.0, math.nan, 0.0)),
        ("##...", "##...", (1.0, 1.0, 1.0)),
    ],
)
def test_empty_and_full_masks_are_defined_or_said_not_to_be(
    pred: str, target: str, expected: tuple[float, ...]
) -> None:
    meter = ObjectMeter(("a",))
    meter.update(tensors(drawn(pred)), tensors(drawn(target)), torch.ones(1, 1, 5).bool())

    scores = meter.compute()

    found = [scores[name] for name in ("object_precision", "object_recall", "object_f1")]
    assert found == pytest.approx(expected, nan_ok=True)


def test_nodata_belongs_to_no_object() -> None:
    meter = ObjectMeter(("a",))
    valid = torch.tensor([[[True, True, False, True, True]]])
    meter.update(tensors(drawn("#####")), tensors(drawn("##.##")), valid)

    assert meter.compute()["object_f1"] == 1.0
    assert len(meter.sizes("a")) == 2


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 6), max_size=4), sides=st.lists(st.booleans(), min_size=5, max_size=5))
def test_any_partition_gives_the_same_bits(cuts: list[int], sides: list[bool]) -> None:
    generator = torch.Generator().manual_seed(0)
    pred = torch.rand((6, 2, 12, 12), generator=generator) < 0.25
    target = pred ^ (torch.rand(pred.shape, generator=generator) < 0.08)
    valid = torch.rand((6, 12, 12), generator=generator) < 0.95
    whole, left, right = (ObjectMeter(("a", "b"), min_iou=0.2) for _ in range(3))
    whole.update(pred, target, valid, 0.3)
    edges = [0, *sorted(cuts), 6]
    for start, stop, goes_left in zip(edges, edges[1:], sides, strict=False):
        rows = slice(start, stop)
        (left if goes_left else right).update(pred[rows], target[rows], valid[rows], 0.3)
    left.merge(right)

    assert left.compute() == whole.compute()
    assert [row["found"] for row in left.by_size((2, 5))] == [row["found"] for row in whole.by_size((2, 5))]
    left.reset()
    assert math.isnan(left.compute()["object_f1"])


def test_samples_are_right_or_wrong_as_a_whole() -> None:
    pixels = np.array([[[5, 2, 1, 92]], [[0, 3, 0, 97]], [[0, 0, 4, 96]], [[0, 0, 0, 100]], [[0, 0, 0, 0]]])

    samples = sample_counts(pixels)

    assert samples[:, 0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    total = samples.sum(axis=0)
    assert float(SCORES["precision"].function(total)[0]) == 0.5
    assert float(SCORES["recall"].function(total)[0]) == 0.5
    assert sample_counts(pixels, min_px=4)[1, 0].tolist() == [0, 0, 0, 1]


def test_wrong_arguments_are_refused() -> None:
    meter, mask = ObjectMeter(("a",)), tensors(TRUE)

    with pytest.raises(ConfigError, match=r"min_iou: 1\.5 is not inside 0\.\.1"):
        ObjectMeter(("a",), min_iou=1.5)
    with pytest.raises(ConfigError, match="connectivity: 6 is not known"):
        ObjectMeter(("a",), connectivity=6)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="different names"):
        ObjectMeter(())
    with pytest.raises(ConfigError, match="cannot be merged"):
        meter.merge(ObjectMeter(("a",), min_iou=0.1))
    with pytest.raises(ConfigError, match="must rise from above 0"):
        meter.by_size((3, 2))
    with pytest.raises(ConfigError, match='no objects of "b"'):
        meter.sizes("b")
    with pytest.raises(ShapeError, match=r"\(B, 1, H, W\) twice"):
        meter.update(mask.expand(1, 2, 4, 10), mask.expand(1, 2, 4, 10), everywhere(TRUE))
    with pytest.raises(DataError, match="holds 255"):
        meter.update(mask, mask.long() * 255, everywhere(TRUE))
    with pytest.raises(ShapeError, match="do not end in 4"):
        sample_counts(np.zeros((2, 3), dtype=np.int64))
    with pytest.raises(ConfigError, match="min_px: 0"):
        sample_counts(np.zeros((2, 4), dtype=np.int64), 0)
