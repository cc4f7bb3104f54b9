"""What a forecast makes of numbers."""

from __future__ import annotations

from dataclasses import replace

from maskwright.workflows.check_forecast import Forecast, forecast_findings

PLAN = Forecast(
    device="cpu",
    parameters=1000,
    receptive_field_px=94,
    has_batch_norm=True,
    steps_per_epoch=10,
    epochs=5,
    sample_s=0.1,
    eval_s=0.05,
    minutes=12.0,
    memory_mb=800.0,
    activations_mb=20.0,
    free_memory_mb=8000.0,
    disk_mb=100.0,
    cache_mb=50.0,
    free_disk_mb=10_000.0,
)


def test_enough_of_everything_is_no_finding() -> None:
    assert forecast_findings(PLAN, 8) == []
    assert PLAN.to_dict()["minutes"] == 12.0


def test_short_memory_names_a_batch_that_would_fit() -> None:
    (finding,) = forecast_findings(replace(PLAN, memory_mb=1000.0, free_memory_mb=500.0), 16)
    assert (finding.level, finding.code) == ("warning", "memory_short")
    assert "Set data.loader.batch_size: 5 with training.accumulate: 4" in finding.do  # 16 x 0.7 x 500 / 1000


def test_short_disk_and_long_trainings_are_told() -> None:
    found = forecast_findings(replace(PLAN, disk_mb=9900.0, minutes=2880.0), 8)
    assert [finding.code for finding in found] == ["disk_short", "takes_long"]
    assert found[1].what == "5 epochs will take about 48 hours on cpu."
