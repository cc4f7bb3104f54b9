"""What a forecast makes of numbers."""

from __future__ import annotations

from dataclasses import replace

import torch

from maskwright.types import Batch, Place, Window
from maskwright.workflows.check_forecast import Forecast, _first_samples, forecast_findings

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


def test_objects_and_maps_go_with_the_samples_that_are_measured() -> None:
    places = tuple(Place(name, Window(0, 0, 4, 4)) for name in "xyz")
    image, target, valid = torch.rand(3, 1, 4, 4), torch.zeros(3, 4, 4, dtype=torch.long), torch.ones(3, 4, 4).bool()
    batch = Batch(image, target, valid, None, places, ["a", "b", "c"], maps={"numbers": torch.arange(3)})
    more = _first_samples(batch, 4)
    assert more.instances == ["a", "b", "c", "a"]
    assert more.maps is not None
    assert more.maps["numbers"].tolist() == [0, 1, 2, 0]
    assert more.image.shape == (4, 1, 4, 4)
