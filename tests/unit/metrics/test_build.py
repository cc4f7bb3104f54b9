from __future__ import annotations

import pytest

from maskwright.config.metrics import MetricsConfig
from maskwright.errors import ConfigError
from maskwright.metrics import (
    METRICS,
    SCORES,
    CalibrationMeter,
    CurveMeter,
    ObjectMeter,
    RegressionMeter,
    SkeletonMeter,
    SurfaceMeter,
    build_grid_meter,
    build_meter,
    mode_of,
)


def test_the_meter_cuts_where_the_settings_say() -> None:
    meter = build_meter(MetricsConfig(probability_threshold=0.3), (5.0, 10.0))

    assert meter.probability_threshold == 0.3
    assert meter.heights_m == (5.0, 10.0)


def test_the_grid_has_the_cells_the_settings_say() -> None:
    grid = build_grid_meter(MetricsConfig(grid_m=50.0), (5.0,), {"a": 1.0})

    assert (grid.cell_m, grid.heights_m, grid.pixel_size_m) == (50.0, (5.0,), {"a": 1.0})


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val/iou", "max"),
        ("val/iou@5m", "max"),
        ("val/iou@2.5m", "max"),
        ("val_iou", "max"),
        ("val.f0.5@10m", "max"),
        ("iou", "max"),
        ("val/error_rate", "min"),
        ("val/loss", "min"),
        ("val_loss", "min"),
        ("val/total_loss", "min"),
        ("train/loss", "min"),
        ("val/loss/dice", "min"),
        ("val/loss_bce", "min"),
        ("val/counting_error", "min"),
        ("val/boundary_score", "max"),
        ("val/rmse", "min"),
        ("val/r2@height", "max"),
        ("val/miou", "max"),
        ("val/iou@road", "max"),
        ("val/iou_images_skip", "max"),
        ("val/error_rate_images_one", "min"),
    ],
)
def test_each_name_knows_its_direction(name: str, mode: str) -> None:
    assert mode_of(name) == mode


def test_an_unknown_monitor_lists_what_there_is() -> None:
    with pytest.raises(ConfigError) as error:
        mode_of("val/dise")

    assert str(error.value).startswith('monitor "val/dise" is not a known score. Available: val/accuracy, ')
    assert "val/iou" in str(error.value)
    assert str(error.value).endswith("for example val/iou@5m.")


@pytest.mark.parametrize("name", ["val/gap_share_true", "val/gap_share_predicted@5m"])
def test_a_share_cannot_steer_a_training(name: str) -> None:
    with pytest.raises(ConfigError, match="has no better direction"):
        mode_of(name)


def test_a_loss_at_a_height_does_not_exist() -> None:
    with pytest.raises(ConfigError, match='monitor "val/loss@5m"'):
        mode_of("val/loss@5m")


def test_every_score_with_a_direction_can_be_monitored() -> None:
    directed = {name: score.higher_is_better for name, score in SCORES.items() if score.higher_is_better is not None}

    assert directed.items() <= METRICS.items()
    assert not METRICS["loss"]


@pytest.mark.parametrize(
    "results",
    [
        CalibrationMeter(("5m",)).compute(),
        CurveMeter(("5m",)).compute(),
        {name: 0.0 for name in ObjectMeter(("5m",)).compute() if "bias" not in name},
        {name: 0.0 for name in SurfaceMeter(("5m",)).compute() if "lonely" not in name},
        SkeletonMeter(("5m",)).compute(),
        {name: 0.0 for name in RegressionMeter(("height",)).compute() if "bias" not in name},
    ],
)
def test_every_result_with_a_direction_can_be_monitored(results: dict[str, float]) -> None:
    for name in results:
        assert mode_of(f"val/{name}") in ("min", "max")
