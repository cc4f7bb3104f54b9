from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import ConfigError, DataError, ModelError, ShapeError
from maskwright.metrics import SegmentationMetrics

KINDS = {
    "one class": {"num_classes": 1},
    "classes": {"num_classes": 3},
    "labels": {"num_classes": 3, "multilabel": True},
}


def batch(kind: str, images: int = 7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    classes = KINDS[kind]["num_classes"]
    probs = torch.rand((images, classes, 5, 6), generator=generator)
    if kind == "classes":
        target = torch.randint(classes, (images, 5, 6), generator=generator)
    else:
        target = torch.rand(probs.shape, generator=generator) < 0.3
    return probs, target, torch.rand((images, 5, 6), generator=generator) < 0.8


def meter(kind: str, **options: object) -> SegmentationMetrics:
    return SegmentationMetrics(**KINDS[kind], **options)  # type: ignore[arg-type]


def test_scores_of_one_class_by_hand() -> None:
    metrics = SegmentationMetrics()
    metrics.update(torch.tensor([[[0.9, 0.8, 0.1, 0.2]]]), torch.tensor([[[1, 0, 1, 0]]]))

    assert metrics.counts.tolist() == [[[1, 1, 1, 1]]]
    assert metrics.confusion_matrix().tolist() == [[1, 1], [1, 1]]
    scores = metrics.compute()
    assert scores["iou"] == pytest.approx(1 / 3)
    assert scores["accuracy"] == 0.5
    assert set(scores) == set(metrics.scores)


def test_scores_of_classes_by_hand() -> None:
    metrics = SegmentationMetrics(3, class_names=("field", "road", "water"))
    metrics.update(torch.tensor([[[0, 1, 1, 1, 2, 0, 2, 2]]]), torch.tensor([[[0, 0, 1, 1, 2, 2, 2, 0]]]))

    scores = metrics.compute()

    assert metrics.confusion_matrix().tolist() == [[1, 1, 1], [0, 2, 0], [1, 0, 2]]
    assert [scores[f"iou@{name}"] for name in metrics.class_names] == pytest.approx([1 / 4, 2 / 3, 2 / 4])
    assert scores["iou"] == pytest.approx((1 / 4 + 2 / 3 + 1 / 2) / 3)
    assert scores["accuracy"] == pytest.approx(5 / 8)
    assert metrics.confusion_matrix("truth")[1].tolist() == [0, 1, 0]


def test_the_largest_output_is_the_class_and_of_equals_the_first() -> None:
    metrics = SegmentationMetrics(3)
    logits = torch.tensor([[-3.0, 5.0], [2.0, 5.0], [1.0, -9.0]]).reshape(1, 3, 1, 2)
    metrics.update(logits, torch.tensor([[[1, 0]]]))

    assert metrics.compute()["accuracy"] == 1.0


def test_a_class_without_a_true_pixel_is_in_no_mean_and_is_named() -> None:
    metrics = SegmentationMetrics(4, class_names=("field", "road", "water", "snow"))
    metrics.update(torch.tensor([[[0, 0, 3, 0]]]), torch.tensor([[[0, 0, 0, 1]]]))

    scores = metrics.compute()

    assert metrics.absent_classes == ("water", "snow")
    assert metrics.notes == (
        "Without a true pixel, so in no mean: water, snow.",
        "Never called, so without a precision: road.",
    )
    assert scores["iou"] == pytest.approx((2 / 4 + 0) / 2)  # snow was called once, which field pays for
    assert scores["iou@snow"] == 0
    assert math.isnan(scores["iou@water"])


def test_false_alarms_of_a_single_class_that_never_occurs_are_seen() -> None:
    metrics = SegmentationMetrics(image_means=("one",))
    metrics.update(torch.tensor([[[0.9, 0.1]], [[0.1, 0.1]]]), torch.zeros(2, 1, 2).bool())

    scores = metrics.compute()

    assert scores["iou"] == 0
    assert scores["accuracy"] == 0.75
    assert scores["iou_images_one"] == 0.5
    assert metrics.notes == ("Without a true pixel: class_0.",)


def test_the_name_of_an_image_mean_says_what_empty_images_score() -> None:
    metrics = SegmentationMetrics(scores=("iou",), image_means=("skip", "zero", "one"))
    probs = torch.tensor([[[0.9, 0.9]], [[0.1, 0.1]]])  # the second image: nothing true, nothing called
    metrics.update(probs, torch.tensor([[[1, 0]], [[0, 0]]]))

    assert metrics.compute() == {"iou": 0.5, "iou_images_skip": 0.5, "iou_images_zero": 0.25, "iou_images_one": 0.75}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_counted_is_not_defined(kind: str) -> None:
    metrics = meter(kind, image_means=("one",))
    assert all(math.isnan(value) for value in metrics.compute().values())

    probs, target, valid = batch(kind)
    metrics.update(probs, target, torch.zeros_like(valid))
    assert all(math.isnan(value) for value in metrics.compute().values())
    assert metrics.counts.sum() == 0


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 7), max_size=4), where=st.lists(st.booleans(), min_size=5, max_size=5))
def test_any_partition_into_batches_and_meters_gives_the_same_bits(
    kind: str, cuts: list[int], where: list[bool]
) -> None:
    probs, target, valid = batch(kind)
    whole, left, right = (meter(kind, image_means=("skip", "zero", "one")) for _ in range(3))
    whole.update(probs, target, valid)
    edges = [0, *sorted(cuts), 7]
    for start, stop, goes_left in zip(edges, edges[1:], where, strict=False):
        (left if goes_left else right).update(probs[start:stop], target[start:stop], valid[start:stop])
    left.merge(right)

    assert np.array_equal(left.confusion_matrix(), whole.confusion_matrix())
    assert {k: v for k, v in left.compute().items() if v == v} == {k: v for k, v in whole.compute().items() if v == v}


@pytest.mark.parametrize("kind", KINDS)
def test_nodata_is_never_counted(kind: str) -> None:
    probs, target, valid = batch(kind)
    plain, hidden, marked = meter(kind), meter(kind), meter(kind)
    plain.update(probs, target, valid)
    off = ~valid if kind == "classes" else (~valid).unsqueeze(1).expand(target.shape)
    hidden.update(probs.masked_fill(~valid.unsqueeze(1), math.nan), target, valid)
    marked.update(probs, target.long().masked_fill(off, 255))

    assert np.array_equal(plain.counts, hidden.counts)
    assert np.array_equal(plain.counts, marked.counts)


def test_each_label_has_its_own_ignored_pixels() -> None:
    metrics = SegmentationMetrics(2, multilabel=True)
    target = torch.tensor([[[[1, 255]], [[255, 0]]]])
    metrics.update(torch.full((1, 2, 1, 2), 0.9), target)

    assert metrics.counts.tolist() == [[[1, 0, 0, 0], [0, 1, 0, 0]]]
    assert metrics.confusion_matrix().tolist() == [[[0, 0], [0, 1]], [[0, 1], [0, 0]]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_meter_goes_on_exactly(kind: str) -> None:
    probs, target, valid = batch(kind)
    whole, first, second = (meter(kind) for _ in range(3))
    whole.update(probs, target, valid)
    first.update(probs[:4], target[:4], valid[:4])
    second.load_state_dict(first.state_dict())
    second.update(probs[4:], target[4:], valid[4:])

    assert np.array_equal(second.counts, whole.counts)
    with pytest.raises(ConfigError, match="does not fit this one"):
        SegmentationMetrics(5).load_state_dict(first.state_dict())


def test_groups_of_images_are_scored_beside_the_whole() -> None:
    metrics = SegmentationMetrics(scores=("iou",))
    metrics.update(torch.tensor([[[0.9, 0.9]], [[0.9, 0.1]]]), torch.tensor([[[1, 0]], [[1, 0]]]))

    rows = metrics.by_group(["north", "south"])

    assert [(row["group"], row["iou"], row["images"], row["valid_px"]) for row in rows] == [
        ("north", 0.5, 1, 2),
        ("south", 1.0, 1, 2),
    ]
    assert rows[0]["iou_difference"] == pytest.approx(0.5 - 2 / 3)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_classes: 0 is below the minimum 1"):
        SegmentationMetrics(0)
    with pytest.raises(ConfigError, match=r"class_names: .* are not 3 different names"):
        SegmentationMetrics(3, class_names=("a", "b", "a"))
    with pytest.raises(ConfigError, match='There is no score "dise"'):
        SegmentationMetrics(scores=("dise",))
    with pytest.raises(ConfigError, match=r'image_means: "half" is not known\. Use skip, zero or one'):
        SegmentationMetrics(image_means=("half",))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="probability_threshold: 1 is not between 0 and 1"):
        SegmentationMetrics(probability_threshold=1.0)
    with pytest.raises(ConfigError, match="cannot be merged"):
        SegmentationMetrics(2).merge(SegmentationMetrics(3))


def test_wrong_batches_are_refused_and_not_counted() -> None:
    one, many = SegmentationMetrics(), SegmentationMetrics(3)
    probs, target, valid = batch("classes")

    with pytest.raises(ShapeError, match="probs has 2 channels, but there are 3 classes"):
        many.update(probs[:, :2], target)
    with pytest.raises(ShapeError, match="must have the same shape"):
        many.update(probs, target[:1])
    with pytest.raises(ShapeError, match="must have the same shape"):
        many.update(probs, target, valid[:1])
    with pytest.raises(ModelError, match="NaN"):
        many.update(probs.masked_fill(valid.unsqueeze(1), math.nan), target)
    with pytest.raises(DataError, match="class id 7"):
        many.update(probs, torch.full_like(target, 7))
    with pytest.raises(ModelError, match="not probabilities"):
        one.update(probs[:, :1] * 9, target[:, None] == 1)
    with pytest.raises(DataError, match="target holds other values than 0 and 1 and 255"):
        one.update(probs[:, :1], torch.full_like(target[:, None], 2))
    with pytest.raises(ShapeError, match=r"probs has shape \(7, 3, 5, 6\); \(B, 1, H, W\) is needed"):
        one.update(probs, target)
    with pytest.raises(ShapeError, match=r"valid \(1, 5, 6\) does not fit"):
        one.update(probs[:, :1], target[:, None] == 1, valid[:1])
    assert len(one.counts) == len(many.counts) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_an_accelerator_is_not_waited_for(kind: str, dtype: torch.dtype) -> None:
    """Meta tensors have no values: whoever looked at one during an update would fail."""
    probs, target, valid = batch(kind)
    whole = torch.int64 if kind == "classes" else dtype
    metrics = meter(kind)

    metrics.update(probs.to("meta"), target.to("meta", whole), valid.to("meta"))
    metrics.update(probs.to("meta"), target.to("meta", whole))

    with pytest.raises((NotImplementedError, RuntimeError)):
        metrics.compute()
