"""The height-gaps task: targets, loss over groups, decoding, scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maskwright.errors import DataError, ModelError, ShapeError
from maskwright.losses import CombinedLoss, HeightWeights
from maskwright.tasks import HeightGaps, task_from_dict
from maskwright.types import Batch, Mixed, Place, Window

HEIGHTS = (2.0, 5.0, 10.0)


def batch_of(canopy: Tensor, heights_m: list[list[float]], valid: Tensor | None = None) -> Batch:
    samples, rows, columns = canopy.shape
    return Batch(
        image=torch.zeros(samples, 1, rows, columns),
        target=canopy,
        valid=torch.ones_like(canopy, dtype=torch.bool) if valid is None else valid,
        condition=torch.tensor(heights_m),
        where=tuple(Place("scene", Window(0, 8 * n, rows, columns)) for n in range(samples)),
    )


def task_with_loss(**terms: float) -> HeightGaps:
    return HeightGaps(HEIGHTS, CombinedLoss(terms or {"bce": 0.5, "dice": 0.3, "focal": 0.2}))


def test_the_target_is_canopy_below_the_height_asked_of_each_sample() -> None:
    canopy = torch.tensor([[[1.0, 4.0, 9.0, 30.0]], [[1.0, 4.0, 9.0, 30.0]]])
    batch = batch_of(canopy, [[5.0, 10.0], [4.0, 100.0]])
    target = HeightGaps(HEIGHTS).target(batch)
    assert target.dtype == torch.bool
    assert target[0].int().tolist() == [[[1, 1, 0, 0]], [[1, 1, 1, 0]]]
    assert target[1].int().tolist() == [[[1, 0, 0, 0]], [[1, 1, 1, 1]]]  # a canopy of exactly 4 m is not below 4 m


def test_decode_takes_one_sigmoid_and_the_running_maximum_over_rising_heights() -> None:
    logits = torch.tensor([0.0, -1.0, 2.0]).view(1, 3, 1, 1)
    prediction = HeightGaps(HEIGHTS).decode(logits, HEIGHTS)
    assert prediction.probs.flatten().tolist() == pytest.approx([0.5, 0.5, 0.880797], abs=1e-6)
    assert prediction.heights_m == HEIGHTS


def test_decode_counts_falls_between_neighbouring_heights_on_valid_pixels_only() -> None:
    logits = torch.zeros(1, 3, 1, 4)
    logits[0, 0] = torch.tensor([1.0, 1.0, -1.0, 1.0])  # above height 2 in pixels 0, 1 and 3
    logits[0, 2] = torch.tensor([-1.0, 1.0, 1.0, 1.0])  # below height 2 in pixel 0
    task = HeightGaps(HEIGHTS)
    everywhere = task.decode(logits, HEIGHTS).violations
    valid = torch.tensor([[[True, True, True, False]]])
    counted = task.decode(logits, HEIGHTS, valid=valid).violations
    assert everywhere is not None
    assert counted is not None
    assert everywhere.tolist() == [3, 1]
    assert counted.tolist() == [2, 1]


def test_decode_refuses_heights_that_do_not_rise_and_a_wrong_number_of_channels() -> None:
    task = HeightGaps(HEIGHTS)
    with pytest.raises(DataError, match="Heights must rise and differ"):
        task.decode(torch.zeros(1, 2, 4, 4), [10.0, 5.0])
    with pytest.raises(ShapeError, match=r"do not answer 3 heights; \(B, 3, H, W\)"):
        task.decode(torch.zeros(1, 2, 4, 4), HEIGHTS)


def test_scores_of_known_logits_are_the_hand_values_so_there_is_one_sigmoid_only() -> None:
    # Two of four pixels are gaps; logit 1 -> 0.73, logit -1 -> 0.27, which a second sigmoid would lift to 0.57.
    canopy = torch.tensor([[[1.0, 1.0, 20.0, 20.0]]])
    task = HeightGaps((5.0,))
    meter = task.meters()
    task.update(meter, torch.tensor([[[[1.0, -1.0, 1.0, -1.0]]]]), batch_of(canopy, [[5.0]]))
    assert meter.compute()["iou"] == pytest.approx(1 / 3)  # one hit, one miss, one false alarm
    assert meter.counts.sum(axis=0).tolist() == [[1, 1, 1, 1]]


def test_scores_count_what_decode_gives_so_raw_falls_are_mended_first() -> None:
    canopy = torch.full((1, 1, 2), 1.0)
    logits = torch.tensor([[[[3.0, 3.0]], [[-3.0, -3.0]], [[3.0, 3.0]]]])
    task = HeightGaps(HEIGHTS)
    meter = task.meters()
    task.update(meter, logits, batch_of(canopy, [list(HEIGHTS)]))
    assert meter.compute()["iou@5m"] == 1.0


def test_scoring_other_heights_than_the_listed_ones_is_refused() -> None:
    task = HeightGaps(HEIGHTS)
    with pytest.raises(DataError, match="asks the heights 2, 5, 11 m where exactly 2, 5, 10 m"):
        task.update(task.meters(), torch.zeros(1, 3, 1, 2), batch_of(torch.zeros(1, 1, 2), [[2.0, 5.0, 11.0]]))


def test_losses_of_the_batches_of_a_group_add_up_to_the_loss_of_one_big_batch() -> None:
    generator = torch.Generator().manual_seed(3)
    canopy = 20 * torch.rand(5, 6, 7, generator=generator)
    valid = torch.rand(5, 6, 7, generator=generator) > torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0])[:, None, None]
    logits = torch.randn(5, 2, 6, 7, generator=generator)
    heights = [[5.0, 10.0]] * 5
    task = task_with_loss()
    whole = task.loss(logits, batch_of(canopy, heights, valid))
    pieces = [batch_of(canopy[a:b], heights[a:b], valid[a:b]) for a, b in ((0, 2), (2, 3), (3, 5))]
    weights = task.loss_weights(pieces)
    parts = [
        task.loss(logits[a:b], piece, weights) for (a, b), piece in zip(((0, 2), (2, 3), (3, 5)), pieces, strict=True)
    ]
    assert float(sum(part.total for part in parts)) == pytest.approx(float(whole.total), abs=1e-6)
    for name in ("bce", "dice", "focal"):
        assert float(sum(part.terms[name] for part in parts)) == pytest.approx(float(whole.terms[name]), abs=1e-6)


def test_heights_under_not_valid_pixels_change_no_loss() -> None:
    valid = torch.tensor([[[True, False], [True, True]]])
    canopy = torch.tensor([[[1.0, 0.0], [20.0, 1.0]]])
    other = canopy.clone()
    other[0, 0, 1] = 1e6
    task, logits = task_with_loss(), torch.ones(1, 1, 2, 2)
    first = task.loss(logits, batch_of(canopy, [[5.0]], valid)).total
    second = task.loss(logits, batch_of(other, [[5.0]], valid)).total
    assert torch.equal(first, second)


def test_a_network_without_condition_accepts_exactly_its_own_heights() -> None:
    task = HeightGaps(HEIGHTS, CombinedLoss({"bce": 1.0}), fixed=True)
    canopy = torch.zeros(2, 2, 2)
    task.loss_weights([batch_of(canopy, [list(HEIGHTS)] * 2)])
    with pytest.raises(DataError, match=r"asks the heights 5 m where exactly 2, 5, 10 m.*model.kind: film_unet"):
        task.loss_weights([batch_of(canopy, [[5.0], [5.0]])])
    with pytest.raises(DataError, match="asks the heights 2, 5, 12 m where"):  # the second sample asks others
        task.loss_weights([batch_of(canopy, [[2.0, 5.0, 10.0], [2.0, 5.0, 12.0]])])


def test_a_conditioned_network_accepts_any_heights_in_training() -> None:
    weights = task_with_loss().loss_weights([batch_of(torch.zeros(2, 3, 3), [[7.3], [12.9]])])
    assert {name: float(weight) for name, weight in weights.items()} == {"pixels": 18.0, "samples": 2.0}


def test_outputs_of_another_shape_than_asked_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"answered with shape \(1, 3, 2, 2\) where the batch needs \(1, 1, 2, 2\)"):
        task_with_loss().loss(torch.zeros(1, 3, 2, 2), batch_of(torch.zeros(1, 2, 2), [[5.0]]))


def test_a_batch_without_heights_is_refused() -> None:
    batch = batch_of(torch.zeros(1, 2, 2), [[5.0]])
    batch.condition = None
    with pytest.raises(DataError, match="needs condition"):
        HeightGaps(HEIGHTS).target(batch)


def test_the_description_brings_the_task_back() -> None:
    task = HeightGaps((2.0, 7.5), condition_scale=20.0, probability_threshold=0.4, fixed=True)
    again = task_from_dict(task.to_dict())
    assert again.to_dict() == task.to_dict()
    assert again.heights_m == (2.0, 7.5)
    with pytest.raises(ModelError, match="has no loss"):
        again.loss_weights([batch_of(torch.zeros(1, 2, 2), [[2.0, 7.5]])])


def test_a_description_of_an_unknown_task_is_refused() -> None:
    with pytest.raises(ModelError, match=r"task 'panoptic', unknown here\. Known: agroforestry, binary, height, "):
        task_from_dict({"kind": "panoptic"})


def test_directions_of_scores_are_known() -> None:
    task = task_with_loss()
    assert {"iou", "iou@2m", "f1@10m"} <= set(task.score_names())
    assert not any("gap_share" in name for name in task.score_names())  # neither better nor worse
    assert [task.better(name) for name in ("iou", "iou@5m", "mcc", "loss", "loss/bce", "error_rate")] == [
        "max",
        "max",
        "max",
        "min",
        "min",
        "min",
    ]


def test_the_task_can_be_asked_at_other_heights_unless_its_network_has_fixed_ones() -> None:
    other = HeightGaps(HEIGHTS, condition_scale=20.0).at_heights([7.0, 15.0])
    assert (other.heights_m, other.condition_scale) == ((7.0, 15.0), 20.0)
    with pytest.raises(DataError, match="answers the heights 2, 5, 10 m only, not 7 m"):
        HeightGaps(HEIGHTS, fixed=True).at_heights([7.0])
    assert HeightGaps(HEIGHTS, fixed=True).at_heights(HEIGHTS).heights_m == HEIGHTS


def test_samples_count_by_the_height_they_are_asked_for() -> None:
    canopy = torch.tensor([[[1.0, 9.0]], [[1.0, 9.0]]])
    batch = batch_of(canopy, [[5.0], [10.0]])
    logits = torch.tensor([[[[0.3, -2.0]]], [[[1.5, 0.4]]]])
    alone = [
        float(task_with_loss(bce=1.0).loss(logits[n : n + 1], batch_of(canopy[n : n + 1], [[height]])).total)
        for n, height in enumerate((5.0, 10.0))
    ]
    task = HeightGaps(HEIGHTS, CombinedLoss({"bce": 1.0}), height_weights=HeightWeights({5.0: 1.5, 10.0: 0.5}))
    assert float(task.loss(logits, batch).total) == pytest.approx((1.5 * alone[0] + 0.5 * alone[1]) / 2)


def test_the_same_task_at_other_heights_keeps_its_loss_and_weights() -> None:
    weights = HeightWeights({5.0: 1.0})
    task = HeightGaps(HEIGHTS, CombinedLoss({"bce": 1.0}), height_weights=weights)
    other = task.at_heights([7.0])
    assert (other.heights_m, task.heights_m) == ((7.0,), HEIGHTS)
    assert other.combined_loss is task.combined_loss
    assert other.height_weights is weights
    assert other.columns == ("7 m",)


def test_two_truths_of_a_mixed_sample_are_shared_out() -> None:
    first, second = torch.tensor([[[1.0, 9.0]]]), torch.tensor([[[9.0, 9.0]]])
    task, logits = task_with_loss(bce=1.0), torch.tensor([[[[0.7, -0.4]]]])
    parts = [float(task.loss(logits, batch_of(canopy, [[5.0]])).total) for canopy in (first, second)]
    mixed = batch_of(first, [[5.0]])
    mixed.mix = Mixed(second, torch.ones(1, 1, 2, dtype=torch.bool), torch.tensor([0.75]))
    assert float(task.loss(logits, mixed).total) == pytest.approx(0.75 * parts[0] + 0.25 * parts[1])
