from __future__ import annotations

import copy
import math

import pytest
import torch
import torchvision
from torch import nn

from maskwright.errors import ConfigError, ModelError
from maskwright.models.droppath import RISES, DropPath, DropPathScheduler, rising_rates, set_drop_path


def test_samples_lose_their_branch_whole_and_the_others_make_up_for_it() -> None:
    torch.manual_seed(0)
    out = DropPath(0.25)(torch.ones(4000, 3, 2, 2))
    per_sample = out.flatten(1)
    assert torch.equal(per_sample.amin(dim=1), per_sample.amax(dim=1))
    assert sorted(out.unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    assert out.mean().item() == pytest.approx(1, abs=0.03)


def test_in_use_and_at_a_rate_of_0_nothing_happens() -> None:
    branch = torch.randn(4, 2, 3, 3)
    assert DropPath(0.9).eval()(branch) is branch
    assert DropPath(0.0)(branch) is branch


def test_deeper_blocks_are_left_out_more_often() -> None:
    assert rising_rates(0.2, 4) == pytest.approx([0.05, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(ModelError, match=r"model\.drop_path: .* must lie from 0 to below 1"):
        DropPath(rate)


def test_a_scaled_rate_drops_as_often_and_makes_up_for_it() -> None:
    drop = DropPath(0.5)
    drop.scale(0.5)
    torch.manual_seed(0)
    out = drop(torch.ones(4000, 3, 2, 2))
    assert sorted(out.unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    assert (out[:, 0, 0, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    drop.scale(0.0)
    assert torch.equal(drop(torch.ones(8, 1)), torch.ones(8, 1))
    assert drop.state_dict() == {}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("linear", [0, 0.25, 0.5, 0.75, 1]),
        ("cosine", [0, (1 - math.cos(math.pi / 4)) / 2, 0.5, (1 + math.cos(math.pi / 4)) / 2, 1]),
        ("exponential", [0, 0.0169, 0.0759, 0.2808, 1]),  # (e^5t - 1) / (e^5 - 1)
        ("step", [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_each_rise_goes_its_way_from_nothing_to_all(strategy: str, expected: list[float]) -> None:
    shares = [RISES[strategy](done) for done in (0, 0.25, 0.5, 0.75, 1)]
    assert shares == pytest.approx(expected, abs=1e-3)
    assert RISES["step"](0.49) == 0.25


def test_rates_are_full_after_four_fifths_of_the_epochs_and_deeper_blocks_keep_more() -> None:
    model = nn.Sequential(DropPath(0.0), DropPath(0.0), DropPath(0.0))
    scheduler = DropPathScheduler(model, 10, final=0.3)
    shares = [scheduler.step(epoch) for epoch in range(10)]
    assert shares[:3] == pytest.approx([0, 0.125, 0.25])
    assert shares[8:] == [1.0, 1.0]
    assert [float(block.chance) for block in model] == pytest.approx([0.1, 0.2, 0.3])  # type: ignore[arg-type]
    assert DropPathScheduler(model, 10, start=0.5).step(0) == 0.5


@pytest.mark.parametrize("options", [{"strategy": "square"}, {"start": 2.0}, {"until": 0.0}])
def test_a_schedule_that_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"training\.drop_path"):
        DropPathScheduler(nn.Sequential(DropPath(0.1)), 10, **options)  # type: ignore[arg-type]


def test_branches_of_torchvision_are_dropped_and_names_of_weights_stay() -> None:
    model = torchvision.models.resnet18()
    names = list(model.state_dict())
    assert set_drop_path(model, 0.999) == 8
    assert list(model.state_dict()) == names
    block = copy.deepcopy(model.layer1[0])
    assert block.drop_path.rate == pytest.approx(0.999 / 8)
    block.drop_path.rate = 0.9999999
    image = torch.rand(2, 64, 4, 4)
    torch.testing.assert_close(block.train()(image), image)  # the branch is lost, the shortcut is left
    assert not torch.allclose(block.eval()(image), image)
    convnext = torchvision.models.convnext_tiny()
    assert set_drop_path(convnext, 0.18) == 18
    assert convnext.features[7][2].stochastic_depth.p == pytest.approx(0.18)


def test_branches_of_timm_are_dropped_whether_they_were_on_or_off() -> None:
    import timm

    for options in ({}, {"drop_path_rate": 0.5}):
        model = timm.create_model("resnet10t", **options)
        names = list(model.state_dict())
        assert set_drop_path(model, 0.2) == 4
        assert list(model.state_dict()) == names
        model.train()(torch.rand(2, 3, 32, 32)).sum().backward()


def test_a_network_without_branches_is_refused() -> None:
    with pytest.raises(ModelError, match="Sequential has no residual block"):
        set_drop_path(nn.Sequential(nn.Conv2d(1, 1, 1)), 0.1)
