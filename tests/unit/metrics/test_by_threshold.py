from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.errors import ConfigError, DataError, ModelError, ShapeError
from maskwright.metrics import ThresholdMeter
from maskwright.types import Place, Window


def place(row: int, col: int = 0, scene: str = "a") -> Place:
    return Place(scene, Window(row, col, 4, 4))


def images(count: int, heights: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, list[Place]]:
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand((count, heights, 4, 4), generator=generator)
    target = torch.rand((count, heights, 4, 4), generator=generator) < 0.4
    valid = torch.rand((count, 4, 4), generator=generator) < 0.8
    return probs, target, valid, [place(4 * n, scene=f"scene_{n % 3}") for n in range(count)]


def two_heights() -> ThresholdMeter:
    """One image of 1 x 4 pixels, the last not valid. At 5 m: TP, FP, FN; at 10 m: TP, TP, TP."""
    meter = ThresholdMeter((5.0, 10.0))
    probs = torch.tensor([[[[0.9, 0.8, 0.1, 0.9]], [[0.9, 0.9, 0.9, 0.9]]]])
    target = torch.tensor([[[[1, 0, 1, 0]], [[1, 1, 1, 0]]]]).bool()
    meter.update(probs, target, torch.tensor([[[True, True, True, False]]]), [Place("a", Window(0, 0, 1, 4))])
    return meter


def test_scores_of_a_known_prediction_equal_the_hand_values() -> None:
    scores = two_heights().compute()

    assert scores["iou@5m"] == pytest.approx(1 / 3)
    assert scores["iou@10m"] == 1.0
    assert scores["iou"] == pytest.approx(2 / 3)
    assert scores["precision@5m"] == 0.5
    assert scores["recall@5m"] == 0.5
    assert scores["f1@5m"] == 0.5
    assert scores["gap_share_true@5m"] == pytest.approx(2 / 3)
    assert scores["gap_share_predicted@10m"] == 1.0


def test_gap_shares_have_no_mean_and_scores_have_one() -> None:
    names = set(two_heights().compute())

    assert {"iou", "precision", "recall", "f1", "mcc"} <= names
    assert not {"gap_share_true", "gap_share_predicted"} & names


def test_a_score_that_is_not_defined_is_left_out_of_the_mean() -> None:
    scores = two_heights().compute()

    assert math.isnan(scores["mcc@10m"])
    assert scores["mcc"] == scores["mcc@5m"]


def test_heights_are_written_short_in_the_keys() -> None:
    scores = ThresholdMeter((2.5, 10.0)).compute()

    assert {"iou@2.5m", "iou@10m"} <= set(scores)


def test_an_empty_meter_has_every_key_and_no_number() -> None:
    scores, one_image = ThresholdMeter((5.0,)).compute(), ThresholdMeter((5.0,))
    one_image.update(*images(1, 1))

    assert {"iou", "iou@5m", "mcc", "mcc@5m", "gap_share_true@5m"} <= set(scores)
    assert set(scores) == set(one_image.compute())
    assert all(math.isnan(value) for value in scores.values())


def test_empty_predictions_and_empty_targets_give_defined_scores() -> None:
    meter = ThresholdMeter((5.0, 10.0))
    target = torch.zeros(2, 2, 4, 4).bool()
    target[:, 1, 0] = True  # gaps at 10 m only
    meter.update(torch.zeros(2, 2, 4, 4), target, torch.ones(2, 4, 4).bool())

    scores = meter.compute()

    assert scores["iou"] == 0.0  # the mean over the heights that have something to find
    assert scores["iou@10m"] == 0.0
    assert math.isnan(scores["iou@5m"])
    assert scores["gap_share_predicted@10m"] == 0.0
    assert scores["gap_share_true@10m"] == 0.25


def test_nodata_is_never_counted() -> None:
    probs, target, valid, places = images(6, 2)
    plain, changed = ThresholdMeter((5.0, 10.0)), ThresholdMeter((5.0, 10.0))
    plain.update(probs, target, valid, places)
    hidden = ~valid.unsqueeze(1)
    changed.update(probs.masked_fill(hidden, float("nan")), target ^ hidden, valid, places)

    assert np.array_equal(plain.counts, changed.counts)
    assert plain.counts[:, 0].sum() == int(valid.sum())


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_results_do_not_depend_on_batch_size_or_order(batch_size: int) -> None:
    probs, target, valid, places = images(7, 3)
    whole, parts = ThresholdMeter((2.0, 5.0, 10.0)), ThresholdMeter((2.0, 5.0, 10.0))
    whole.update(probs, target, valid, places)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(batch_size)).tolist()
    for start in range(0, 7, batch_size):
        rows = order[start : start + batch_size]
        parts.update(probs[rows], target[rows], valid[rows], [places[row] for row in rows])

    assert parts.places == whole.places
    assert np.array_equal(parts.counts, whole.counts)
    assert parts.compute() == whole.compute()
    assert parts.table(draws=50) == whole.table(draws=50)


def test_the_dataset_score_is_not_the_mean_of_image_scores() -> None:
    meter = ThresholdMeter((5.0,))
    target = torch.tensor([1, 1, 1, 1, 1, 1, 1, 1, 1, 0]).bool().reshape(2, 1, 1, 5)
    probs = torch.tensor([1, 1, 1, 1, 1, 0, 0, 0, 0, 1.0]).reshape(2, 1, 1, 5)
    meter.update(probs, target, torch.ones(2, 1, 5).bool())

    assert meter.compute()["iou@5m"] == 5 / 10
    assert meter.spread("iou")[0]["mean"] == 0.5 * (1 + 0)
    meter.update(probs[:1], target[:1], torch.ones(1, 1, 5).bool())
    assert meter.compute()["iou@5m"] == 10 / 15
    assert meter.spread("iou")[0]["mean"] == pytest.approx(2 / 3)


def test_meters_of_two_processes_merge_into_one() -> None:
    probs, target, valid, places = images(5, 2)
    whole, left, right = (ThresholdMeter((5.0, 10.0)) for _ in range(3))
    whole.update(probs, target, valid, places)
    left.update(probs[3:], target[3:], valid[3:], places[3:])
    right.update(probs[:3], target[:3], valid[:3], places[:3])

    left.merge(right)

    assert left.places == whole.places
    assert np.array_equal(left.counts, whole.counts)


def test_merging_takes_over_heights_that_are_not_listed() -> None:
    probs, target, valid, places = images(2, 2)
    left, right = ThresholdMeter((5.0,)), ThresholdMeter((5.0,))
    left.update(probs[:1], target[:1], valid[:1], places[:1], heights_m=[5.0, 20.0])
    right.update(probs[1:], target[1:], valid[1:], places[1:], heights_m=[7.0, 5.0])

    left.merge(right)

    assert left.heights_m == (5.0, 7.0, 20.0)
    assert (left.counts.sum(axis=-1) > 0).tolist() == [[True, False, True], [True, True, False]]


def test_meters_of_other_heights_or_thresholds_do_not_merge() -> None:
    with pytest.raises(ConfigError, match="cannot be merged"):
        ThresholdMeter((5.0,)).merge(ThresholdMeter((6.0,)))
    with pytest.raises(ConfigError, match="cannot be merged"):
        ThresholdMeter((5.0,)).merge(ThresholdMeter((5.0,), probability_threshold=0.4))


def test_the_state_continues_exactly() -> None:
    probs, target, valid, places = images(4, 2)
    meter, copy = ThresholdMeter((5.0, 10.0)), ThresholdMeter((5.0, 10.0))
    meter.update(probs, target, valid, places)
    meter.update(probs[:1, :1], target[:1, :1], valid[:1], [place(99)], heights_m=[7.5])

    copy.load_state_dict(meter.state_dict())
    for each in (meter, copy):
        each.update(probs[:1], target[:1], valid[:1], [place(50)])

    assert copy.heights_m == meter.heights_m == (5.0, 10.0, 7.5)
    assert copy.places == meter.places
    assert np.array_equal(copy.counts, meter.counts)
    assert copy.compute() == pytest.approx(meter.compute(), nan_ok=True)


def test_a_state_of_other_heights_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not fit this one"):
        ThresholdMeter((5.0,)).load_state_dict(ThresholdMeter((6.0,)).state_dict())


def test_reset_forgets_counts_and_extra_heights() -> None:
    probs, target, valid, places = images(2, 1)
    meter = ThresholdMeter((5.0,))
    meter.update(probs, target, valid, places, heights_m=[8.0])
    meter.reset()

    assert meter.heights_m == (5.0,)
    assert meter.counts.shape == (0, 1, 4)
    assert meter.places == ()


def test_samples_of_one_batch_may_ask_different_heights() -> None:
    probs, target, valid, places = images(2, 2)
    meter = ThresholdMeter((5.0, 10.0))
    meter.update(probs, target, valid, places, heights_m=torch.tensor([[5.0, 10.0], [10.0, 5.0]]))

    swapped = ThresholdMeter((5.0, 10.0))
    swapped.update(probs[:1], target[:1], valid[:1], places[:1])
    swapped.update(probs[1:].flip(1), target[1:].flip(1), valid[1:], places[1:])

    assert np.array_equal(meter.counts, swapped.counts)


def test_a_height_in_float32_is_the_listed_one() -> None:
    probs, target, valid, places = images(1, 1)
    meter = ThresholdMeter((0.3,))
    meter.update(probs, target, valid, places, heights_m=torch.tensor([0.3], dtype=torch.float32))

    assert meter.heights_m == (0.3,)


def test_unlisted_heights_extend_the_table_and_stay_out_of_the_means() -> None:
    meter = two_heights()
    probs = torch.zeros(1, 1, 1, 4)
    target, valid = torch.ones(1, 1, 1, 4).bool(), torch.ones(1, 1, 4).bool()
    before = meter.compute()["iou"]
    meter.update(probs, target, valid, [Place("b", Window(0, 0, 1, 4))], heights_m=[7.0])

    scores, rows = meter.compute(), meter.table(intervals=False)

    assert scores["iou@7m"] == 0.0
    assert scores["iou"] == before
    assert [(row["height_m"], row["extrapolated"], row["images"]) for row in rows] == [
        (5.0, False, 1),
        (10.0, False, 1),
        (7.0, True, 1),
    ]


def test_the_table_holds_counts_scores_and_intervals_per_height() -> None:
    probs, target, valid, places = images(30, 2)
    meter = ThresholdMeter((5.0, 10.0))
    meter.update(probs, target, valid, places)

    rows = meter.table(draws=200)

    assert [row["height_m"] for row in rows] == [5.0, 10.0]
    for row in rows:
        assert row["valid_px"] == row["tp"] + row["fp"] + row["fn"] + row["tn"] == int(valid.sum())
        assert row["iou"] == row["tp"] / (row["tp"] + row["fp"] + row["fn"])
        assert row["iou_low"] < row["iou"] < row["iou_high"]


def test_larger_blocks_widen_the_interval_of_ground_that_is_alike() -> None:
    meter = ThresholdMeter((5.0,))
    target = (torch.arange(40) % 2 == 0).reshape(40, 1, 1, 1).expand(40, 1, 4, 4)  # blocks alternate
    meter.update(torch.full((40, 1, 4, 4), 0.9), target, torch.ones(40, 4, 4).bool(), [place(4 * n) for n in range(40)])

    single = meter.table(draws=300)[0]
    halves = meter.table(draws=300, block_ids=[n % 2 for n in range(40)])[0]

    assert halves["iou_high"] - halves["iou_low"] > single["iou_high"] - single["iou_low"]
    assert (halves["iou_low"], halves["iou_high"]) == (0.0, 1.0)


def test_the_csv_has_a_head_and_a_line_per_height() -> None:
    lines = list(csv.DictReader(io.StringIO(two_heights().to_csv(intervals=False))))

    assert [line["height_m"] for line in lines] == ["5.0", "10.0"]
    assert lines[1]["iou"] == "1.0"
    assert lines[1]["mcc"] == ""  # not defined


def test_an_empty_pair_in_the_spread_is_skipped_or_scored() -> None:
    meter = ThresholdMeter((5.0,))
    target = torch.zeros(2, 1, 1, 4).bool()
    target[0, 0, 0, :2] = True
    probs = torch.zeros(2, 1, 1, 4)
    probs[0, 0, 0, 0] = 0.9
    meter.update(probs, target, torch.ones(2, 1, 4).bool())

    assert (meter.spread()[0]["images"], meter.spread()[0]["mean"]) == (1, 0.5)
    assert meter.spread(empty="one")[0]["mean"] == 0.75
    assert meter.spread(empty="zero")[0]["mean"] == 0.25


def test_the_summary_names_the_best_height_and_the_trend() -> None:
    meter = ThresholdMeter((5.0, 10.0, 15.0), scores=("iou", "error_rate"))
    target = torch.ones(1, 3, 1, 4).bool()
    probs = torch.tensor([[[0.9, 0, 0, 0]], [[0.9, 0.9, 0, 0]], [[0.9, 0.9, 0.9, 0]]]).unsqueeze(0)
    meter.update(probs, target, torch.ones(1, 1, 4).bool())

    summary = meter.summary()

    assert summary["iou"] == pytest.approx(
        {"mean": 0.5, "best_height_m": 15.0, "worst_height_m": 5.0, "trend_per_m": 0.05}
    )
    assert summary["error_rate"]["best_height_m"] == 15.0
    assert summary["error_rate"]["trend_per_m"] == pytest.approx(-0.05)


def test_the_summary_of_nothing_is_undefined() -> None:
    assert all(math.isnan(value) for value in ThresholdMeter((5.0,)).summary()["iou"].values())


def test_logits_are_refused_before_they_are_scored() -> None:
    meter = ThresholdMeter((5.0,))

    with pytest.raises(ModelError, match=r"not probabilities: .* outside 0..1 or are NaN. Logits need one sigmoid"):
        meter.update(torch.full((1, 1, 2, 2), -3.0), torch.zeros(1, 1, 2, 2).bool(), torch.ones(1, 2, 2).bool())
    assert meter.counts.shape[0] == 0


def test_a_target_with_255_is_refused() -> None:
    with pytest.raises(DataError, match="holds 255; only 0 and 1"):
        ThresholdMeter((5.0,)).update(
            torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 255), torch.ones(1, 2, 2).bool()
        )


def test_a_target_of_zeros_and_ones_is_taken() -> None:
    probs, target, valid, places = images(3, 1)
    as_bool, as_float = ThresholdMeter((5.0,)), ThresholdMeter((5.0,))
    as_bool.update(probs, target, valid, places)
    as_float.update(probs, target.float(), valid, places)

    assert np.array_equal(as_bool.counts, as_float.counts)


def test_channels_that_are_not_the_listed_heights_are_refused() -> None:
    probs, target, valid, places = images(2, 2)

    with pytest.raises(ShapeError, match=r"Heights of shape \(3,\) do not fit 2 samples of 2 channels"):
        ThresholdMeter((2.0, 5.0, 10.0)).update(probs, target, valid, places)
    with pytest.raises(ShapeError, match=r"1 places do not fit 2 images"):
        ThresholdMeter((2.0, 5.0)).update(probs, target, valid, places[:1])


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="names a height twice"):
        ThresholdMeter((5.0, 5.0))
    with pytest.raises(ConfigError, match="name at least one height"):
        ThresholdMeter(())
    with pytest.raises(ConfigError, match="probability_threshold: 1 is not between 0 and 1"):
        ThresholdMeter((5.0,), 1.0)
    with pytest.raises(ConfigError, match='no score "dise"'):
        ThresholdMeter((5.0,), scores=("dise",))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_counts_on_a_gpu_are_the_same() -> None:
    probs, target, valid, places = images(5, 2)
    here, there = ThresholdMeter((5.0, 10.0)), ThresholdMeter((5.0, 10.0))
    here.update(probs, target, valid, places)
    there.update(probs.cuda(), target.cuda(), valid.cuda(), places)

    assert np.array_equal(here.counts, there.counts)
    there.update(probs.cuda() - 1, target.cuda(), valid.cuda(), places)
    with pytest.raises(ModelError, match="not probabilities"):
        there.compute()


def test_scenes_are_scored_beside_the_whole() -> None:
    meter = ThresholdMeter((5.0,), scores=("iou",))
    probs = torch.tensor([[0.9, 0.9], [0.9, 0.1], [0.9, 0.1]]).reshape(3, 1, 1, 2)
    target = torch.tensor([[1, 0], [1, 0], [1, 1]]).reshape(3, 1, 1, 2)
    meter.update(probs, target, where=[Place(scene, Window(0, 0, 1, 2)) for scene in ("b", "a", "b")])

    rows = meter.by_scene()

    assert [(row["group"], row["name"], row["images"], row["iou"]) for row in rows] == [
        ("a", "5m", 1, 1.0),
        ("b", "5m", 2, 0.5),
    ]
    assert [row["iou_difference"] for row in rows] == pytest.approx([1 - 3 / 5, 1 / 2 - 3 / 5])
