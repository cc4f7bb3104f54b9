"""Average precision by the COCO rules, against the reference evaluation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics.average_precision import AveragePrecisionMeter, box_ious, mask_ious

NAMES = ("cacao", "shade")
SIDE = 128


def scene(seed: int, *, crowds: bool = True) -> dict[str, Any]:
    """Random true objects, and called ones that partly agree, as discs of 128 x 128 pixels."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 12))
    centres, radii = rng.uniform(0, SIDE, (count, 2)), rng.uniform(2, 70, count)
    keep = rng.random(count) < 0.8
    called_centres = np.concatenate([centres[keep] + rng.normal(0, 3, (keep.sum(), 2)), rng.uniform(0, SIDE, (4, 2))])
    called_radii = np.concatenate([radii[keep] * rng.uniform(0.8, 1.2, keep.sum()), rng.uniform(2, 40, 4)])
    true = {"masks": discs(centres, radii), "labels": rng.integers(1, 3, count)}
    called = {"masks": discs(called_centres, called_radii)}
    called["labels"] = np.concatenate([true["labels"][keep], rng.integers(1, 3, 4)])
    called["scores"] = np.round(rng.random(len(called["labels"])), 2)  # with ties
    seen, there = called["masks"].any((1, 2)), true["masks"].any((1, 2))
    called = {name: values[seen] for name, values in called.items()}
    true = {name: values[there] for name, values in true.items()}
    true["crowd"] = (rng.random(len(true["labels"])) < 0.15) & crowds
    return {"true": true, "called": called}


def discs(centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    rows, cols = np.mgrid[:SIDE, :SIDE]
    return np.array(
        [(rows - c[0]) ** 2 + (cols - c[1]) ** 2 <= r**2 for c, r in zip(centres, radii, strict=True)], bool
    ).reshape(-1, SIDE, SIDE)


def boxes(masks: np.ndarray) -> np.ndarray:
    found = []
    for mask in masks:
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        found.append((cols[0], rows[0], cols[-1] + 1, rows[-1] + 1))
    return np.array(found, np.float64).reshape(-1, 4)


def ours(scenes: list[dict[str, Any]], kind: str) -> dict[str, float]:
    meter = AveragePrecisionMeter(NAMES)
    for entry in scenes:
        count(meter, entry, kind)
    return meter.compute()


def count(meter: AveragePrecisionMeter, entry: dict[str, Any], kind: str) -> None:
    called, true = entry["called"], entry["true"]
    areas = [part["masks"].sum((1, 2)) for part in (called, true)]
    if kind == "bbox":
        ious = box_ious(boxes(called["masks"]), boxes(true["masks"]), true["crowd"])
        called_boxes = boxes(called["masks"])
        areas[0] = np.prod(called_boxes[:, 2:] - called_boxes[:, :2], axis=1)
    else:
        ious = mask_ious(called["masks"], true["masks"], true["crowd"])
    meter.update(called["scores"], called["labels"], areas[0], true["labels"], areas[1], ious, true["crowd"])


def reference(scenes: list[dict[str, Any]], kind: str) -> dict[str, float]:
    from faster_coco_eval import COCO, COCOeval_faster
    from faster_coco_eval.core import mask as coder

    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1}, {"id": 2}], "info": {}}
    found = []
    for number, entry in enumerate(scenes, start=1):
        truth["images"].append({"id": number, "height": SIDE, "width": SIDE})
        for mask, label, crowd in zip(*(entry["true"][n] for n in ("masks", "labels", "crowd")), strict=True):
            x0, y0, x1, y1 = boxes(mask[None])[0]
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": number, "category_id": int(label),
                "iscrowd": int(crowd), "area": float(mask.sum()), "bbox": [x0, y0, x1 - x0, y1 - y0],
                "segmentation": encoded(coder, mask),
            })  # fmt: skip
        for mask, label, score in zip(*(entry["called"][n] for n in ("masks", "labels", "scores")), strict=True):
            x0, y0, x1, y1 = boxes(mask[None])[0]
            shape = {"segmentation": encoded(coder, mask)} if kind == "segm" else {"bbox": [x0, y0, x1 - x0, y1 - y0]}
            found.append({"image_id": number, "category_id": int(label), "score": float(score), **shape})
    table = COCO(truth)
    run = COCOeval_faster(table, table.loadRes(found), iouType=kind, print_function=lambda *_: None)
    run.evaluate()
    run.accumulate()
    run.summarize()
    names = ("mAP", "mAP_50", "mAP_75", "mAP_small", "mAP_medium", "mAP_large")
    known = [math.nan if value < 0 else float(value) for value in run.stats]  # -1: nothing decides
    return dict(zip(names, known[:6], strict=True)) | {"recall": known[8]}


def encoded(coder: Any, mask: np.ndarray) -> dict[str, Any]:
    code = coder.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "size": code["size"],
        "counts": code["counts"].decode() if isinstance(code["counts"], bytes) else code["counts"],
    }


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_equal_those_of_the_reference(kind: str, crowds: bool, seed: int) -> None:
    scenes = [scene(100 * seed + number, crowds=crowds) for number in range(12)]
    expected, found = reference(scenes, kind), ours(scenes, kind)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_one_object_found_and_one_missed_gives_half_of_the_recalls() -> None:
    meter = AveragePrecisionMeter(["tree"])
    true = np.array([[0, 0, 10, 10], [50, 50, 60, 60]])
    called = np.array([[0, 0, 10, 10]])
    ones = np.ones(2, np.int64)
    meter.update(np.array([0.9]), ones[:1], np.array([100]), ones, np.array([100, 100]), box_ious(called, true))
    assert meter.compute()["mAP"] == pytest.approx(51 / 101)  # precision 1 at recalls 0 to .5, then 0
    assert meter.compute()["recall"] == 0.5


def test_merged_meters_give_what_one_gives() -> None:
    scenes = [scene(number) for number in range(8)]
    parts = [AveragePrecisionMeter(NAMES) for _ in range(2)]
    for number, entry in enumerate(scenes):
        count(parts[number // 4], entry, "segm")
    parts[0].merge(parts[1])
    assert parts[0].compute() == pytest.approx(ours(scenes, "segm"), nan_ok=True)


def test_images_without_objects_and_without_calls_are_valid() -> None:
    meter = AveragePrecisionMeter(NAMES)
    none = np.zeros(0)
    meter.update(none, none, none, none, none, np.zeros((0, 0)))
    assert math.isnan(meter.compute()["mAP"])
    meter.update(none, none, none, np.array([1]), np.array([5.0]), np.zeros((0, 1)))
    assert meter.compute()["mAP"] == 0.0
    meter.update(np.array([0.5]), np.array([2]), np.array([4.0]), none, none, np.zeros((1, 0)))
    assert meter.compute()["AP/cacao"] == 0.0
    assert math.isnan(meter.compute()["AP/shade"])


def test_boxes_without_area_overlap_nothing() -> None:
    assert box_ious(np.array([[3, 3, 3, 9]]), np.array([[0, 0, 5, 5], [3, 3, 3, 9]])).tolist() == [[0.0, 0.0]]


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"1 called and 0 true objects need IoUs \(1, 0\)"):
        AveragePrecisionMeter(NAMES).update(
            np.ones(1), np.ones(1), np.ones(1), np.zeros(0), np.zeros(0), np.zeros((2, 2))
        )
    with pytest.raises(ConfigError, match="at least one class name"):
        AveragePrecisionMeter([])
