"""Scores of objects: hand-made tiles, and the COCO reference as an oracle."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import numpy as np
import pytest

from maskwright.metrics.average_precision import mask_ious
from maskwright.metrics.instance_meter import InstanceMeter, TrueObjects, crop_ious
from maskwright.objects import Crop, FoundObjects

NAMES = {1: "cacao", 2: "shade"}
SIZE = 64


def crops_of(boxes: Any) -> tuple[Crop, ...]:
    return tuple(Crop(int(y0), int(x0), np.ones((int(y1 - y0), int(x1 - x0)), bool)) for x0, y0, x1, y1 in boxes)


def found_of(boxes: Any, labels: Any, scores: Any = None, masks: tuple[Crop, ...] | None = None) -> FoundObjects:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    return FoundObjects(
        boxes,
        np.array(labels, np.int64).reshape(-1),
        np.full(count, 0.9, np.float32) if scores is None else np.array(scores, np.float32),
        (boxes[:, :2] + boxes[:, 2:]) / 2,
        np.full(count, np.nan, np.float32),
        crops_of(boxes) if masks is None else masks,
    )


def true_of(boxes: Any, labels: Any, counts: Any = None, **options: Any) -> TrueObjects:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return TrueObjects(
        boxes=boxes,
        labels=np.array(labels, np.int64).reshape(-1),
        centres=(boxes[:, :2] + boxes[:, 2:]) / 2,
        diameter=options.pop("diameter", (boxes[:, 2] - boxes[:, 0])),
        masks=options.pop("masks", crops_of(boxes)),
        counts=np.ones(len(boxes), bool) if counts is None else np.array(counts, bool),
        **options,
    )


def scores_of(found: FoundObjects, true: TrueObjects, **options: Any) -> dict[str, float]:
    meter = InstanceMeter(NAMES, **options)
    meter.update(found, true)
    return meter.compute()


def test_ious_of_crops_equal_those_of_whole_masks() -> None:
    rng = np.random.default_rng(0)

    def random_crops(count: int) -> tuple[Crop, ...]:
        return tuple(
            Crop(int(row), int(col), rng.random((int(h), int(w))) > 0.3)
            for row, col, h, w in zip(*rng.integers((0, 0, 5, 5), (40, 40, 20, 20), (count, 4)).T, strict=True)
        )

    def whole(crops: tuple[Crop, ...]) -> np.ndarray:
        out = np.zeros((len(crops), SIZE, SIZE), bool)
        for mask, crop in zip(out, crops, strict=True):
            mask[crop.row : crop.row + crop.pixels.shape[0], crop.col : crop.col + crop.pixels.shape[1]] = crop.pixels
        return out

    called, true = random_crops(12), random_crops(9)
    crowd = np.arange(9) % 3 == 0
    assert np.allclose(crop_ious(called, true), mask_ious(whole(called), whole(true)))
    assert np.allclose(crop_ious(called, true, crowd), mask_ious(whole(called), whole(true), crowd))
    assert crop_ious((), true).shape == (0, 9)


def test_everything_found_is_perfect() -> None:
    boxes = [(2, 2, 12, 12), (30, 30, 50, 50)]
    scores = scores_of(found_of(boxes, (1, 2)), true_of(boxes, (1, 2), pixel_size_m=0.5))
    perfect = ("mAP", "mAP_50", "box_mAP", "AP@cacao", "found_f1", "near_f1", "species_accuracy", "species_f1@shade")
    assert {name: scores[name] for name in perfect} == dict.fromkeys(perfect, 1.0)
    assert scores["count_accuracy"] == 1
    assert scores["count_error"] == scores["count_mae"] == 0
    assert scores["crown_iou_mean"] == 1
    assert scores["crown_diameter_mean"] == pytest.approx(0.5 * (2 / math.sqrt(math.pi)) * 15)


def test_predicting_nothing_is_scored_and_nothing_at_all_is_undefined() -> None:
    nothing = scores_of(FoundObjects.none(), true_of([(2, 2, 12, 12)], (1,)))
    assert nothing["mAP_50"] == nothing["found_recall"] == nothing["count_accuracy"] == 0
    assert nothing["count_error"] == -1
    assert math.isnan(nothing["found_precision"])
    assert math.isnan(nothing["AP@shade"])
    empty = scores_of(FoundObjects.none(), true_of([], ()))
    assert math.isnan(empty["mAP_50"])
    assert empty["count_accuracy"] == 1
    assert all(math.isnan(value) for value in InstanceMeter(NAMES).compute().values() if value != 0)


def test_counts_are_bounded_signed_and_of_each_class() -> None:
    boxes = [(x, 2, x + 4, 6) for x in range(0, 60, 6)]  # ten
    scores = scores_of(found_of(boxes, [1] * 10), true_of(boxes[:2], (1, 2)))
    assert scores["count_accuracy"] == pytest.approx(0.2)
    assert scores["count_error"] == 4
    assert scores["count_error@cacao"] == 9
    assert scores["count_accuracy@shade"] == 0
    assert (scores["count_called"], scores["count_true"]) == (10, 2)


def test_a_tree_named_wrongly_is_found_missed_and_called_wrongly() -> None:
    boxes = [(2, 2, 12, 12), (30, 30, 50, 50)]
    scores = scores_of(found_of(boxes, (2, 2)), true_of(boxes, (1, 2)))
    assert scores["found_f1"] == 1
    assert scores["species_accuracy"] == 0.5
    assert scores["species_recall@cacao"] == 0
    assert scores["species_precision@shade"] == 0.5


def test_objects_of_other_tiles_and_crowds_count_neither_way() -> None:
    boxes = [(2, 2, 12, 12), (54, 30, 64, 50), (30, 2, 60, 20)]
    true = true_of(boxes, (1, 2, 1), counts=(True, False, False))
    both = scores_of(found_of([*boxes[:2], (32, 4, 40, 12), (42, 4, 50, 12)], (1, 2, 1, 1)), true)
    without = scores_of(found_of(boxes[:1], (1,)), true)
    for scores in (both, without):
        assert scores["mAP"] == scores["box_mAP"] == scores["found_f1"] == scores["near_f1"] == 1
        assert (scores["count_called"], scores["count_true"]) == (1, 1)


def test_distances_are_metres_where_pixels_have_a_size() -> None:
    found, boxes = found_of([(12, 2, 22, 12)], (1,)), [(2, 2, 12, 12)]  # 10 px apart
    assert scores_of(found, true_of(boxes, (1,), pixel_size_m=0.25), match_distance_m=3)["near_f1"] == 1
    assert scores_of(found, true_of(boxes, (1,), pixel_size_m=0.5), match_distance_m=3)["near_f1"] == 0
    meter = InstanceMeter(NAMES)
    meter.update(found, true_of(boxes, (1,)))
    assert meter.unit == "px"
    sized = InstanceMeter(NAMES)
    sized.update(found, true_of(boxes, (1,), pixel_size_m=0.5))
    assert sized.unit == "m"


def test_canopy_and_density_add_up_over_tiles() -> None:
    meter = InstanceMeter(NAMES)
    called, true, valid = np.zeros((3, 4, 4), bool)
    called[:2], true[1:3], valid[:, :2] = True, True, True
    meter.update_canopy(called, true, valid)
    meter.update_canopy(true, true, ~valid)
    meter.update_density(3.5, 4)
    meter.update_density(2.0, 1)
    scores = meter.compute()
    assert scores["coverage"] == pytest.approx((4 + 4) / 16)
    assert scores["coverage_error"] == 0
    assert scores["canopy_iou"] == pytest.approx((2 + 4) / (6 + 4))
    assert scores["density_mae"] == pytest.approx(0.75)
    assert scores["density_bias"] == pytest.approx(0.25)


def test_merged_meters_equal_one() -> None:
    tiles = [
        (found_of([(2, 2, 12, 12)], (1,)), true_of([(3, 2, 13, 12)], (1,))),
        (found_of([(2, 2, 12, 12), (20, 20, 30, 30)], (1, 2), (0.4, 0.8)), true_of([(20, 20, 30, 31)], (2,))),
    ]
    whole, parts = InstanceMeter(NAMES), [InstanceMeter(NAMES), InstanceMeter(NAMES)]
    for part, (found, true) in zip(parts, tiles, strict=True):
        whole.update(found, true)
        part.update(found, true)
        part.update_density(1, 2)
        whole.update_density(1, 2)
    parts[0].merge(parts[1])
    merged, expected = parts[0].compute(), whole.compute()
    assert merged.keys() == expected.keys()
    assert np.array_equal(list(merged.values()), list(expected.values()), equal_nan=True)


def test_average_precision_equals_the_reference_on_random_masks() -> None:
    coco = pytest.importorskip("faster_coco_eval")
    rng = np.random.default_rng(3)
    meter = InstanceMeter(NAMES)
    truth: list[dict[str, Any]] = []
    called: list[dict[str, Any]] = []

    def runs(mask: np.ndarray) -> Any:
        return coco.mask.encode(np.asfortranarray(mask.astype(np.uint8)))

    for image in range(6):
        corners = rng.integers(0, 50, (12, 2))
        boxes = np.concatenate((corners, corners + rng.integers(4, 14, (12, 2))), axis=1)
        moved = np.clip(boxes + rng.integers(-2, 3, boxes.shape), 0, SIZE)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 2)
        labels, said, scores = rng.integers(1, 3, 12), rng.integers(1, 3, 12), rng.random(12)
        crowd = np.arange(12) == 0
        meter.update(found_of(moved, said, scores), true_of(boxes, labels, ~crowd))
        for n in range(12):
            mask = np.zeros((SIZE, SIZE), bool)
            x0, y0, x1, y1 = boxes[n]
            mask[y0:y1, x0:x1] = True
            entry = {"image_id": image, "category_id": int(labels[n]), "iscrowd": int(crowd[n])}
            truth.append({**entry, "id": len(truth) + 1, "segmentation": runs(mask), "area": int(mask.sum()),
                          "bbox": [int(x0), int(y0), int(x1 - x0), int(y1 - y0)]})  # fmt: skip
            mask = np.zeros((SIZE, SIZE), bool)
            x0, y0, x1, y1 = moved[n]
            mask[y0:y1, x0:x1] = True
            called.append({"image_id": image, "category_id": int(said[n]), "segmentation": runs(mask),
                           "score": float(np.float32(scores[n]))})  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        images = [{"id": n, "height": SIZE, "width": SIZE} for n in range(6)]
        categories = [{"id": n, "name": name} for n, name in NAMES.items()]
        gold = coco.COCO({"images": images, "annotations": truth, "categories": categories})
        judge = coco.COCOeval_faster(gold, gold.loadRes(called), iouType="segm")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    scores_here = meter.compute()
    for name, index in (("mAP", 0), ("mAP_50", 1), ("mAP_75", 2), ("mAP_small", 3)):
        assert scores_here[name] == pytest.approx(judge.stats[index], abs=1e-9), name
