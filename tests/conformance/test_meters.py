"""Every meter answers the same questions: merged parts equal the whole, whatever the batches and their order."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maskwright.metrics as metrics
from maskwright.metrics import (
    CalibrationMeter,
    CurveMeter,
    GridMeter,
    MeanMeter,
    MetricsTracker,
    ObjectMeter,
    OperatingPointMeter,
    RegressionMeter,
    SegmentationMetrics,
    SkeletonMeter,
    SurfaceMeter,
    TemperatureMeter,
    ThresholdMeter,
    ThresholdMetrics,
)
from maskwright.types import Place, Window

IMAGES, CHANNELS, SIDE = 7, 2, 8
NAMES, HEIGHTS = ("5m", "10m"), (5.0, 10.0)
_RANDOM = torch.Generator().manual_seed(0)
LOGITS = torch.randn(IMAGES, CHANNELS, SIDE, SIDE, generator=_RANDOM) * 2
PROBS = torch.sigmoid(LOGITS)
TRUE = torch.rand(LOGITS.shape, generator=_RANDOM) < PROBS
VALID = torch.rand(IMAGES, SIDE, SIDE, generator=_RANDOM) < 0.8
VALID[3] = False
TRUE[4] = False  # an image with nothing to find
CLASSES = torch.randint(0, 3, (IMAGES, SIDE, SIDE), generator=_RANDOM)
CALLED = torch.randint(0, 3, (IMAGES, SIDE, SIDE), generator=_RANDOM)
METRES = torch.rand(LOGITS.shape, generator=_RANDOM) * 30
PLACES = tuple(Place("ab"[i % 2], Window(0, SIDE * i, SIDE, SIDE)) for i in range(IMAGES))

Rows = Sequence[int]
Update = Callable[[Any, Rows], None]


def places(rows: Rows) -> list[Place]:
    return [PLACES[i] for i in rows]


# name: how to make it, how to give it some images, what comes of it
METERS: dict[str, tuple[Callable[[], Any], Update, Callable[[Any], Any]]] = {
    "ThresholdMeter": (
        lambda: ThresholdMeter(HEIGHTS),
        lambda m, rows: m.update(PROBS[rows], TRUE[rows], VALID[rows], places(rows)),
        lambda m: (m.compute(), m.table(draws=50), m.by_scene(), m.spread()),
    ),
    "ThresholdMetrics": (
        lambda: ThresholdMetrics(HEIGHTS),
        lambda m, rows: m.update(PROBS[rows, :1], TRUE[rows, :1], 0.4, [HEIGHTS[i % 2] for i in rows]),
        lambda m: (m.compute(), m.rows()),
    ),
    "SegmentationMetrics": (
        lambda: SegmentationMetrics(3, image_means=("skip", "zero", "one")),
        lambda m, rows: m.update(CALLED[rows], CLASSES[rows], VALID[rows]),
        lambda m: (m.compute(), m.confusion_matrix()),
    ),
    "SegmentationMetrics of labels": (
        lambda: SegmentationMetrics(CHANNELS, multilabel=True, image_means=("one",)),
        lambda m, rows: m.update(PROBS[rows], TRUE[rows], VALID[rows]),
        lambda m: (m.compute(), m.confusion_matrix()),
    ),
    "SegmentationMetrics of one class": (
        SegmentationMetrics,
        lambda m, rows: m.update(PROBS[rows, 0], TRUE[rows, 0], VALID[rows]),
        lambda m: (m.compute(), m.confusion_matrix()),
    ),
    "MetricsTracker": (
        MetricsTracker,
        lambda m, rows: m.update(PROBS[rows, 0], TRUE[rows, 0], VALID[rows]),
        lambda m: m.get_summary(),
    ),
    "OperatingPointMeter": (
        lambda: OperatingPointMeter(HEIGHTS),
        lambda m, rows: m.update(PROBS[rows], TRUE[rows], VALID[rows]),
        lambda m: (m.counts, m.best(), m.choose("area"), m.choose("recall", 0.7)),
    ),
    "CalibrationMeter": (
        lambda: CalibrationMeter(NAMES),
        lambda m, rows: m.update(PROBS[rows], TRUE[rows], VALID[rows]),
        lambda m: (m.compute(), m.reliability()),
    ),
    "CurveMeter": (
        lambda: CurveMeter(NAMES),
        lambda m, rows: m.update(PROBS[rows], TRUE[rows], VALID[rows]),
        lambda m: (m.compute(), m.roc("5m"), m.precision_recall("10m")),
    ),
    "TemperatureMeter": (
        lambda: TemperatureMeter(NAMES),
        lambda m, rows: m.update(LOGITS[rows], TRUE[rows], VALID[rows]),
        lambda m: m.fit(),
    ),
    "ObjectMeter": (
        lambda: ObjectMeter(NAMES, min_iou=0.1),
        lambda m, rows: m.update(PROBS[rows] > 0.5, TRUE[rows], VALID[rows], 4.0),
        lambda m: (m.compute(), m.by_size([8.0, 40.0]), m.sizes("5m")),
    ),
    "SurfaceMeter": (
        lambda: SurfaceMeter(NAMES, tolerance_m=2.0),
        lambda m, rows: m.update(PROBS[rows] > 0.5, TRUE[rows], VALID[rows], 2.0),
        lambda m: m.compute(),
    ),
    "SkeletonMeter": (
        lambda: SkeletonMeter(NAMES),
        lambda m, rows: m.update(PROBS[rows] > 0.5, TRUE[rows], VALID[rows]),
        lambda m: m.compute(),
    ),
    "RegressionMeter": (
        lambda: RegressionMeter(NAMES),
        lambda m, rows: m.update(LOGITS[rows], METRES[rows], VALID[rows], ["ab"[i % 2] for i in rows]),
        lambda m: (m.compute(), m.by_group()),
    ),
    "GridMeter": (
        lambda: GridMeter(6.0, {"a": 1.0, "b": 2.0}, HEIGHTS),
        lambda m, rows: m.update(PROBS[rows] > 0.5, TRUE[rows], VALID[rows], places(rows)),
        lambda m: (m.compute(), m.shares()),
    ),
    "MeanMeter": (
        MeanMeter,
        lambda m, rows: [m.update("loss", float(METRES[i].sum()), float(VALID[i].sum())) for i in rows],  # type: ignore[dict-item, return-value]
        lambda m: m.compute(),
    ),
}


def plain(value: Any) -> Any:
    """Something that equals itself where bits are the same; nan and nan too."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def numbers(value: Any) -> list[float]:
    """All floats in a result, beside the edges and classes of size that are infinite by meaning."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return numbers(value.tolist())
    if isinstance(value, dict):
        value = [each for key, each in value.items() if key not in ("low", "high")]
    if isinstance(value, list | tuple):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, float) else []


def test_every_meter_is_asked() -> None:
    merged = {
        name for name in metrics.__all__ if inspect.isclass(each := getattr(metrics, name)) and hasattr(each, "merge")
    }
    assert merged == {name.partition(" ")[0] for name in METERS}


@pytest.mark.parametrize("name", METERS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_parts_of_any_partition_merged_in_any_order_equal_the_whole_to_the_bit(name: str, data: st.DataObject) -> None:
    build, update, result = METERS[name]
    whole = build()
    update(whole, range(IMAGES))
    order = data.draw(st.permutations(range(IMAGES)))
    cuts = sorted(data.draw(st.sets(st.integers(1, IMAGES - 1))))
    parts = [build() for _ in range(3)]
    for start, stop in zip([0, *cuts], [*cuts, IMAGES], strict=True):
        update(parts[data.draw(st.integers(0, 2))], order[start:stop])
    first, *others = data.draw(st.permutations(parts))
    for other in others:
        first.merge(other)
    assert plain(result(first)) == plain(result(whole))


@pytest.mark.parametrize("name", METERS)
def test_merging_leaves_the_other_as_it_was_and_independent(name: str) -> None:
    build, update, result = METERS[name]
    one, other = build(), build()
    update(one, [0, 1])
    update(other, [2])
    before = plain(result(other))
    one.merge(other)
    update(one, [4, 5])
    assert plain(result(other)) == before
    both = plain(result(one))
    update(other, [6])
    assert plain(result(one)) == both


@pytest.mark.parametrize("name", METERS)
def test_a_reset_meter_is_as_new(name: str) -> None:
    build, update, result = METERS[name]
    meter = build()
    update(meter, [0, 1])
    meter.reset()
    update(meter, [2])
    fresh = build()
    update(fresh, [2])
    assert plain(result(meter)) == plain(result(fresh))


@pytest.mark.parametrize("name", METERS)
def test_nothing_counted_gives_results_without_a_number_and_no_error(name: str) -> None:
    build, _, result = METERS[name]
    for meter in (build(), _of_nothing(name)):
        assert not any(math.isinf(number) for number in numbers(result(meter)))


def _of_nothing(name: str) -> Any:
    """A meter that has met one image without a pixel that counts."""
    build, update, _ = METERS[name]
    meter = build()
    update(meter, [3])
    return meter
