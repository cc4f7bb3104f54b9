from __future__ import annotations

import pytest
import torch
from torch import nn

from maskwright.errors import ModelError
from maskwright.optim.optimizers import adamw, decay_groups


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
