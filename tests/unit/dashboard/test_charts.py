from __future__ import annotations

import numpy as np
import pandas as pd

from maskwright.dashboard.charts import compare_chart, epoch_chart, gauge, resource_chart, step_chart
from maskwright.tracking.curves import Curve


def curve(values: list[float], width: int = 1) -> Curve:
    mean = np.array(values)
    missing = (~np.isfinite(mean)).astype(np.int64)
    return Curve(np.arange(len(mean)) * width, mean, mean - 0.1, mean + 0.1, missing, width)


def test_losses_are_called_training_and_validation() -> None:
    frame = pd.DataFrame({"epoch": [1, 2], "train/loss": [0.5, 0.4], "val/loss": [0.6, 0.5]})
    figure = epoch_chart(frame, ("train/loss", "val/loss"), best=2)
    assert [(line.name, list(line.y), line.line.dash) for line in figure.data] == [
        ("training", [0.5, 0.4], "dot"),
        ("validation", [0.6, 0.5], "solid"),
    ]
    assert [shape.x0 for shape in figure.layout.shapes] == [2]


def test_heights_are_named_by_their_height_and_coloured_by_the_ramp() -> None:
    frame = pd.DataFrame({"epoch": [1], "val/iou@5m": [0.5], "val/iou@10m": [0.6]})
    figure = epoch_chart(frame, ("val/iou@5m", "val/iou@10m"))
    assert [line.name for line in figure.data] == ["5 m", "10 m"]
    assert figure.data[0].line.color == "#2e097a"


def test_a_term_has_one_colour_in_both_parts() -> None:
    frame = pd.DataFrame({"epoch": [1], "train/loss/dice": [0.5], "train/loss/bce": [0.4], "val/loss/dice": [0.6]})
    figure = epoch_chart(frame, ("train/loss/dice", "train/loss/bce", "val/loss/dice"))
    assert [line.name for line in figure.data] == ["dice (train)", "bce (train)", "dice (val)"]
    assert figure.data[0].line.color == figure.data[2].line.color != figure.data[1].line.color


def test_a_curve_by_update_shows_its_band_only_where_points_stand_for_several() -> None:
    assert len(step_chart(curve([0.5, 0.4]), "Loss").data) == 1
    figure = step_chart(curve([0.5, 0.4], width=8), "Loss")
    assert [list(line.x) for line in figure.data] == [[0, 8]] * 3
    assert list(figure.data[0].y) == [0.6, 0.5]


def test_values_that_are_not_finite_are_marked() -> None:
    figure = step_chart(curve([0.5, np.nan, 0.4]), "Loss")
    assert figure.data[-1].name == "not finite"
    assert list(figure.data[-1].x) == [1]


def test_a_long_curve_is_drawn_with_few_points_and_keeps_its_spike() -> None:
    values = np.full(4000, 0.5)
    values[1234] = 50.0
    figure = step_chart(curve(values.tolist(), width=256), "Loss", log=True)
    assert all(len(line.x) <= 600 for line in figure.data)
    assert max(figure.data[0].y) == 50.1
    assert figure.layout.yaxis.type == "log"


def test_a_curve_that_hardly_changes_or_touches_zero_has_no_logarithmic_axis() -> None:
    assert step_chart(curve([0.5, 0.4]), "Norm", log=True).layout.yaxis.type is None
    assert step_chart(curve([0.1, 40.0]), "Norm", log=True).layout.yaxis.type is None
    assert step_chart(curve([np.nan]), "Norm", log=True).layout.yaxis.type is None


def test_runs_lie_over_each_other() -> None:
    one = pd.DataFrame({"epoch": [1, 2], "val/iou": [0.5, 0.6]})
    figure = compare_chart({"a": one, "b": pd.DataFrame({"epoch": [1]})}, "val/iou")
    assert [(line.name, list(line.y)) for line in figure.data] == [("a", [0.5, 0.6])]
    assert len(compare_chart({}, "val/iou").data) == 0


def test_samples_without_a_number_are_left_out() -> None:
    rows = [{"time": "2026-11-21T09:30:00+00:00", "cpu_percent": 40.0}, {"time": "x"}]
    figure = resource_chart(rows, {"cpu_percent": "machine", "gpu_percent": "GPU"}, "%")
    assert [list(line.y) for line in figure.data] == [[40.0], []]


def test_many_samples_become_means_of_few() -> None:
    rows = [{"time": str(number), "cpu_percent": float(number % 2)} for number in range(600)]
    (line,) = resource_chart(rows, {"cpu_percent": "machine"}, "%").data
    assert list(line.y) == [0.5] * 300
    assert list(line.x)[:2] == ["0", "2"]


def test_a_gauge_shows_its_value_up_to_its_top() -> None:
    (dial,) = gauge("Memory", 4.0, 8.0, "GB").data
    assert (dial.value, list(dial.gauge.axis.range), dial.title.text) == (4.0, [0, 8.0], "Memory")
    assert list(dial.gauge.steps[0].range) == [6.4, 8.0]
