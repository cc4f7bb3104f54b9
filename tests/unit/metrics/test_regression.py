from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import ConfigError, DataError, ModelError, ShapeError
from maskwright.metrics import RegressionMeter


def batch(images: int = 6, channels: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn((images, channels, 5, 7), generator=generator) * 8 + 200
    pred = target + torch.randn(target.shape, generator=generator)
    return pred, target, torch.rand((images, 5, 7), generator=generator) < 0.8


def row_of(values: list[float]) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 1, 1, -1)


def test_errors_by_hand() -> None:
    meter = RegressionMeter(("height",))
    meter.update(row_of([1.0, 4.0, 3.0]), row_of([1.0, 2.0, 6.0]), torch.ones(1, 1, 3).bool())

    scores = meter.compute()

    assert scores["mse"] == pytest.approx(13 / 3)
    assert scores["rmse"] == pytest.approx(math.sqrt(13 / 3))
    assert scores["mae"] == pytest.approx(5 / 3)
    assert scores["bias"] == pytest.approx(-1 / 3)
    assert scores["r2"] == pytest.approx(1 - 13 / 14)
    assert scores["r2@height"] == scores["r2"]


def test_groups_have_errors_of_their_own() -> None:
    meter = RegressionMeter(("height",))
    pred, target = torch.tensor([2.0, 3.0, 9.0, 4.0]), torch.tensor([1.0, 3.0, 4.0, 4.0])
    meter.update(
        pred.reshape(2, 1, 1, 2), target.reshape(2, 1, 1, 2), torch.ones(2, 1, 2).bool(), groups=["south", "north"]
    )

    rows = meter.by_group()

    assert [(row["group"], row["name"], row["pixels"], row["mae"]) for row in rows] == [
        ("north", "height", 2, 2.5),
        ("south", "height", 2, 0.5),
    ]
    assert rows[1]["r2"] == pytest.approx(1 - 1 / 2)
    assert math.isnan(rows[0]["r2"])  # both true values are 4


def test_nodata_is_never_counted() -> None:
    pred, target, valid = batch()
    plain, changed = RegressionMeter(("a", "b")), RegressionMeter(("a", "b"))
    plain.update(pred, target, valid)
    hidden = ~valid.unsqueeze(1)
    changed.update(pred.masked_fill(hidden, math.nan), target.masked_fill(hidden, -9999.0), valid)

    assert plain.compute() == changed.compute()


def test_without_pixels_nothing_is_defined() -> None:
    meter = RegressionMeter(("a", "b"))
    assert all(math.isnan(value) for value in meter.compute().values())

    pred, target, valid = batch()
    meter.update(pred, target, torch.zeros_like(valid))
    assert all(math.isnan(value) for value in meter.compute().values())


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 6), max_size=4), sides=st.lists(st.booleans(), min_size=5, max_size=5))
def test_any_partition_gives_the_same_bits(cuts: list[int], sides: list[bool]) -> None:
    pred, target, valid = batch()
    sites = ["a", "b", "a", "c", "b", "a"]
    whole, left, right = (RegressionMeter(("a", "b")) for _ in range(3))
    whole.update(pred, target, valid, sites)
    edges = [0, *sorted(cuts), 6]
    for start, stop, goes_left in zip(edges, edges[1:], sides, strict=False):
        rows = slice(start, stop)
        (left if goes_left else right).update(pred[rows], target[rows], valid[rows], sites[rows])
    left.merge(right)

    assert left.compute() == whole.compute()
    assert left.by_group() == whole.by_group()


def test_wrong_arguments_are_refused_and_not_counted() -> None:
    pred, target, valid = batch()
    meter = RegressionMeter(("a", "b"))

    with pytest.raises(ModelError, match="predicted value on a valid pixel is not finite"):
        meter.update(pred * math.nan, target, valid)
    with pytest.raises(DataError, match="true value on a valid pixel is not finite"):
        meter.update(pred, target * math.inf, valid)
    with pytest.raises(ShapeError, match=r"\(B, 2, H, W\) twice"):
        meter.update(pred, target[:1], valid)
    with pytest.raises(ShapeError, match="1 groups do not fit 6 images"):
        meter.update(pred, target, valid, ["a"])
    with pytest.raises(ConfigError, match="cannot be merged"):
        meter.merge(RegressionMeter(("a",)))
    with pytest.raises(ConfigError, match="different names"):
        RegressionMeter(("a", "a"))
    assert math.isnan(meter.compute()["mse"])
