from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.errors import DataError, ModelError, ShapeError
from maskwright.metrics.counts import as_bool, confusion_counts, count_arrays, probability_counts


def random_masks(seed: int, shape: tuple[int, ...] = (3, 2, 7, 9)) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pred, target = (torch.rand(shape, generator=generator) < share for share in (0.4, 0.3))
    return pred, target, torch.rand((shape[0], *shape[2:]), generator=generator) < 0.7


def counted_slowly(pred: Tensor, target: Tensor, valid: Tensor) -> list[list[list[int]]]:
    batch, channels, height, width = pred.shape
    counts = [[[0, 0, 0, 0] for _ in range(channels)] for _ in range(batch)]
    for b in range(batch):
        for k in range(channels):
            for i in range(height):
                for j in range(width):
                    if valid[b, i, j]:
                        said, true = bool(pred[b, k, i, j]), bool(target[b, k, i, j])
                        counts[b][k][{(1, 1): 0, (1, 0): 1, (0, 1): 2, (0, 0): 3}[said, true]] += 1
    return counts


def test_each_kind_of_pixel_is_counted_once() -> None:
    pred = torch.tensor([[[[True, True, False, False, True]]]])
    target = torch.tensor([[[[True, False, True, False, True]]]])

    counts = confusion_counts(pred, target, torch.ones(1, 1, 5, dtype=torch.bool))

    assert counts.tolist() == [[[2, 1, 1, 1]]]
    assert counts.dtype == torch.int64


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_a_plain_loop(seed: int) -> None:
    pred, target, valid = random_masks(seed)

    assert confusion_counts(pred, target, valid).tolist() == counted_slowly(pred, target, valid)
    assert count_arrays(pred.numpy(), target.numpy(), valid.numpy()).tolist() == counted_slowly(pred, target, valid)


def test_nodata_is_never_counted() -> None:
    pred, target, valid = random_masks(5)
    hidden = ~valid.unsqueeze(1)

    changed = confusion_counts(pred ^ hidden, target ^ hidden, valid)

    assert torch.equal(changed, confusion_counts(pred, target, valid))
    assert changed.sum(dim=-1).tolist() == [[int(v.sum())] * 2 for v in valid]


def test_views_that_are_not_contiguous_are_counted_alike() -> None:
    pred, target, valid = random_masks(6, (2, 3, 8, 8))
    expected = confusion_counts(pred.mT.contiguous(), target.mT.contiguous(), valid.mT.contiguous())

    assert torch.equal(confusion_counts(pred.mT, target.mT, valid.mT), expected)


def test_tensors_off_the_cpu_take_the_other_path_to_the_same_numbers() -> None:
    pred, target, valid = random_masks(7)
    shapes = [tensor.to("meta") for tensor in (pred, target, valid)]

    assert confusion_counts(*shapes).shape == (3, 2, 4)  # no cpu-only call on the way
    if torch.cuda.is_available():
        assert torch.equal(
            confusion_counts(pred.cuda(), target.cuda(), valid.cuda()).cpu(), confusion_counts(pred, target, valid)
        )


def test_an_empty_batch_has_no_counts() -> None:
    nothing = torch.zeros(0, 2, 4, 4, dtype=torch.bool)

    assert confusion_counts(nothing, nothing, nothing[:, 0]).shape == (0, 2, 4)


def test_cutting_and_counting_in_one_pass_is_the_same() -> None:
    _, target, valid = random_masks(8)
    probs = torch.rand(target.shape, generator=torch.Generator().manual_seed(1))

    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        values = probs.to(dtype)
        counts, strange = probability_counts(values, target, valid, 0.25)
        assert torch.equal(counts, confusion_counts(values > 0.25, target, valid)), dtype
        assert not strange


def test_a_probability_equal_to_the_threshold_is_not_called() -> None:
    probs = torch.tensor([[[[0.5, 0.50001]]]])
    counts, _ = probability_counts(probs, torch.ones(1, 1, 1, 2, dtype=torch.bool), torch.ones(1, 1, 2).bool(), 0.5)

    assert counts.tolist() == [[[1, 0, 1, 0]]]


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_what_is_no_probability_is_seen_only_where_pixels_count(value: float) -> None:
    probs = torch.full((1, 1, 2, 2), 0.3)
    probs[0, 0, 0, 1] = value
    target, valid = torch.zeros(1, 1, 2, 2).bool(), torch.ones(1, 2, 2).bool()

    assert probability_counts(probs, target, valid, 0.5)[1]
    valid[0, 0, 1] = False
    assert not probability_counts(probs, target, valid, 0.5)[1]


def test_shapes_that_do_not_fit_are_named() -> None:
    mask = torch.zeros(1, 1, 4, 4).bool()

    with pytest.raises(ShapeError, match=r"pred \(1, 1, 4, 4\), target \(1, 1, 4, 5\)"):
        confusion_counts(mask, torch.zeros(1, 1, 4, 5).bool(), mask[:, 0])
    with pytest.raises(ShapeError, match=r"valid is \(B, H, W\)"):
        confusion_counts(mask, mask, mask)
    with pytest.raises(ShapeError, match=r"target \(1, 2, 4, 4\)"):
        confusion_counts(mask, torch.zeros(1, 2, 4, 4).bool(), mask[:, 0])


def test_probabilities_are_not_taken_for_a_prediction() -> None:
    mask = torch.zeros(1, 1, 4, 4).bool()

    with pytest.raises(ModelError, match=r"pred is torch.float32, not bool. Compare values with a threshold"):
        confusion_counts(torch.rand(1, 1, 4, 4), mask, mask[:, 0])
    with pytest.raises(ModelError, match="valid is float64"):
        count_arrays(mask.numpy(), mask.numpy(), np.ones((1, 4, 4)))


def test_a_mask_of_zeros_and_ones_is_not_thresholded_again() -> None:
    mask = torch.tensor([0, 1, 1, 0])

    for dtype in (torch.uint8, torch.int64, torch.float32):
        assert as_bool(mask.to(dtype)).tolist() == [False, True, True, False]


def test_a_bool_mask_is_not_copied() -> None:
    mask = torch.tensor([True, False])

    assert as_bool(mask) is mask


@pytest.mark.parametrize("value", [255, 2, -1, 0.5, float("nan")])
def test_a_mask_that_holds_anything_else_is_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"only 0 and 1 have a meaning. .*through valid, as False"):
        as_bool(torch.tensor([0.0, 1.0, value]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize(
    ("value", "is_probability"),
    [(0.0, True), (-0.0, True), (1.0, True), (0.5, True), (-1e-7, False), (1.002, False), (float("nan"), False),
     (float("inf"), False), (-float("inf"), False)],
)  # fmt: skip
def test_the_ends_of_the_range_are_probabilities_and_nothing_beyond(
    value: float, is_probability: bool, dtype: torch.dtype
) -> None:
    probs = torch.full((1, 1, 3, 3), 0.25, dtype=dtype)
    probs[0, 0, 1, 1] = value
    mask, valid = torch.zeros(1, 1, 3, 3, dtype=torch.bool), torch.ones(1, 3, 3, dtype=torch.bool)
    assert bool(probability_counts(probs, mask, valid, 0.5)[1]) is not is_probability
    assert not probability_counts(probs.transpose(2, 3), mask, valid & False, 0.5)[1]
