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
    monitor_key,
    resolve_monitor,
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


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("val_iou", "val/iou"),
        ("val.iou@5m", "val/iou@5m"),
        ("val/iou", "val/iou"),
        ("val_total_loss", "val/loss"),
        ("val/total_loss", "val/loss"),
        ("train.loss", "train/loss"),
        ("val_miou", "val/iou"),
        ("valve", "valve"),
    ],
)
def test_spellings_of_one_score_are_one_key(name: str, key: str) -> None:
    assert monitor_key(name) == key


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


@pytest.mark.parametrize("name", ["val/iou", "val_iou", "val.iou", "val/miou", "miou", "iou"])
def test_every_spelling_finds_the_score_that_is_computed(name: str) -> None:
    assert resolve_monitor(name, {"val/iou", "train/loss"}) == "val/iou"


def test_a_score_that_is_never_computed_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError) as error:
        resolve_monitor("val/dise", ["val/loss", "val/dice", "val/iou"])

    assert str(error.value) == 'monitor "val/dise" is never computed. Available: val/dice, val/iou, val/loss.'
