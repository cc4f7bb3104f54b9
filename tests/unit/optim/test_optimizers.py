from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from maskwright.errors import ConfigError, ModelError
from maskwright.optim.optimizers import adam, adamw, decay_groups, named_groups, rmsprop, sgd


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.Conv2d(4, 1, 1, bias=False))


def test_every_trainable_parameter_is_in_exactly_one_group() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    grouped = [id(parameter) for group in decay_groups(model, 0.1) for parameter in group["params"]]  # type: ignore[attr-defined]
    trainable = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(trainable)
    assert len(set(grouped)) == len(grouped)


def test_biases_and_norms_are_not_decayed() -> None:
    model = network()
    decayed, free = decay_groups(model, 0.1)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in decayed["params"]} == {id(model[0].weight), id(model[3].weight)}  # type: ignore[attr-defined]


def test_a_bias_of_two_dimensions_is_still_a_bias() -> None:
    model = nn.Module()
    model.bias = nn.Parameter(torch.zeros(2, 2))
    (group,) = decay_groups(model, 0.1)
    assert group["weight_decay"] == 0.0


def test_decay_shrinks_weights_by_lr_times_decay() -> None:
    model = nn.Linear(1, 1)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adamw(model, lr=0.1, weight_decay=0.5).step()
    assert model.weight.item() == pytest.approx(1 - 0.1 * 0.5)
    assert model.bias.item() == 1.0


def test_the_first_step_is_as_long_as_the_learning_rate() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    model.weight.grad = torch.full_like(model.weight, 123.0)
    adamw(model, lr=0.01).step()
    assert model.weight.item() == pytest.approx(-0.01)


def test_weights_in_either_memory_layout_are_updated_alike() -> None:
    ends = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        conv = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
        optimizer = adamw(conv)
        for _ in range(3):
            conv.weight.grad = torch.randn(conv.weight.shape).to(memory_format=layout)
            conv.bias.grad = torch.randn(6)  # type: ignore[union-attr]
            optimizer.step()
        ends.append(conv.weight.detach().clone())
    assert torch.equal(*ends)


def test_a_frozen_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no trainable parameters. Unfreeze a part"):
        adamw(network().requires_grad_(False))


def nested() -> nn.Module:
    model = nn.Module()
    model.encoder = nn.Sequential(network(), network())
    model.head = nn.Conv2d(1, 1, 1)
    model.scale = nn.Parameter(torch.ones(2, 2))
    model.encoder[0][0].weight.requires_grad_(False)
    return model


OPTIONS: dict[str, dict[str, float]] = {
    "encoder": {"lr": 1e-4},
    "encoder.1": {"lr": 1e-3, "weight_decay": 0.5},
    "scale": {"weight_decay": 0.0},
}


@pytest.mark.parametrize("beside", [False, True])
def test_parts_by_name_hold_every_trainable_parameter_exactly_once(beside: bool) -> None:
    model = nested()
    trained = nn.ModuleList([model, nn.Linear(2, 1)]) if beside else model
    groups = named_groups(trained, OPTIONS, 0.1)
    ids = [id(parameter) for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(parameter) for parameter in trained.parameters() if parameter.requires_grad}
    assert [(group["name"], group["weight_decay"], group.get("lr")) for group in groups] == [
        ("encoder", 0.1, 1e-4),
        ("encoder", 0.0, 1e-4),
        ("encoder.1", 0.5, 1e-3),
        ("encoder.1", 0.0, 1e-3),
        ("scale", 0.0, None),
        ("rest", 0.1, None),
        ("rest", 0.0, None),
    ]
    assert {id(each) for each in groups[2]["params"]} == {
        id(model.encoder[1][0].weight),
        id(model.encoder[1][3].weight),
    }  # type: ignore[attr-defined]
    optimizer = adamw(trained, lr=0.01, weight_decay=0.1, groups=OPTIONS)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 1e-4, 1e-3, 1e-3, 0.01, 0.01, 0.01]


def test_a_part_that_is_frozen_has_no_group() -> None:
    model = nested()
    model.encoder.requires_grad_(False)
    assert {group["name"] for group in named_groups(model, OPTIONS, 0.1)} == {"scale", "rest"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"enc": {"lr": 1.0}}, ModelError, r"no part 'enc'\. Its largest parts: encoder, head"),
        ({"head": {"momentum": 1.0}}, ConfigError, r"head: unknown option 'momentum'\. Available: lr, weight_decay"),
        ({"head": {}}, ConfigError, "head: nothing is said"),
        ({"head": {"lr": 0.0}}, ConfigError, r"head.lr: 0 must be above 0; to keep a part as it is, freeze it"),
        ({"head": {"weight_decay": -1.0}}, ConfigError, r"head.weight_decay: -1 must be 0 or more"),
    ],
)
def test_senseless_parts_are_refused(options: dict[str, dict[str, float]], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        named_groups(nested(), options, 0.1)


@pytest.mark.parametrize(
    ("build", "step"),
    [
        (adam, 0.1),  # the gradient's size does not matter
        (rmsprop, 0.1 / (0.01**0.5)),  # the running mean begins with a hundredth of the square
        (sgd, 0.1 * 4.0),
    ],
)
def test_the_first_step_by_hand(build: Callable[..., torch.optim.Optimizer], step: float) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = build(model, lr=0.1)
    model.weight.grad = torch.full((1, 1), 4.0)
    optimizer.step()
    assert model.weight.item() == pytest.approx(1 - step, rel=1e-4)


@pytest.mark.parametrize("build", [adam, adamw, rmsprop, sgd])
def test_every_optimizer_knows_parts_by_name(build: Callable[..., torch.optim.Optimizer]) -> None:
    optimizer = build(nested(), lr=0.01, weight_decay=0.1, groups=OPTIONS)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 1e-4, 1e-3, 1e-3, 0.01, 0.01, 0.01]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0, 0.5, 0, 0, 0.1, 0]
