from __future__ import annotations

import math

import pytest
import torch

from maskwright.errors import ConfigError, ModelError
from maskwright.metrics import TemperatureMeter


def test_logits_made_too_large_are_brought_back() -> None:
    generator = torch.Generator().manual_seed(1)
    honest = torch.randn((4, 1, 64, 64), generator=generator) * 2
    target = torch.rand(honest.shape, generator=generator) < honest.sigmoid()
    meter = TemperatureMeter(("a",))
    meter.update(honest * 3, target, torch.ones(4, 64, 64).bool())

    found = meter.fit()["a"]

    assert found.temperature == pytest.approx(3.0, rel=0.05)
    assert found.loss_after < found.loss_before
    assert not found.bounded


def test_two_kinds_of_pixels_have_their_temperature_by_hand() -> None:
    """Logit z with a share s positive: the best factor f has sigmoid(f z) = s."""
    logits = torch.full((1, 1, 1, 10), 4.0)
    target = (torch.arange(10) < 8).reshape(1, 1, 1, 10)
    meter = TemperatureMeter(("a",))
    meter.update(logits, target, torch.ones(1, 1, 10).bool())

    found = meter.fit()["a"]

    assert found.temperature == pytest.approx(4 / math.log(0.8 / 0.2), rel=2e-3)
    assert found.loss_after == pytest.approx(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)), abs=1e-6)


def test_when_all_is_right_the_end_of_the_range_is_said() -> None:
    meter = TemperatureMeter(("a",))
    logits = torch.tensor([3.0, -3.0]).reshape(1, 1, 1, 2)
    meter.update(logits, logits > 0, torch.ones(1, 1, 2).bool())

    found = meter.fit(least=0.1)["a"]

    assert found.bounded
    assert found.temperature == pytest.approx(0.1)


def test_without_pixels_nothing_changes() -> None:
    found = TemperatureMeter(("a",)).fit()["a"]

    assert found.temperature == 1.0
    assert math.isnan(found.loss_before)


def test_infinite_logits_are_counted_at_the_end_and_nan_is_refused() -> None:
    meter = TemperatureMeter(("a",))
    logits = torch.tensor([math.inf, -math.inf, 1.0]).reshape(1, 1, 1, 3)
    meter.update(logits, torch.tensor([1, 0, 0]).reshape(1, 1, 1, 3), torch.ones(1, 1, 3).bool())
    assert math.isfinite(meter.fit()["a"].loss_before)

    with pytest.raises(ModelError, match="NaN"):
        meter.update(logits * 0, torch.zeros(1, 1, 1, 3), torch.ones(1, 1, 3).bool())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="different names"):
        TemperatureMeter(("a", "a"))
    with pytest.raises(ConfigError, match="cannot be merged"):
        TemperatureMeter(("a",)).merge(TemperatureMeter(("b",)))
    with pytest.raises(ConfigError, match="do not hold 1"):
        TemperatureMeter(("a",)).fit(least=2.0)
