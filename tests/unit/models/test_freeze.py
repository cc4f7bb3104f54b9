from __future__ import annotations

import copy

import pytest
import torch

from maskwright.errors import ModelError
from maskwright.models import FilmUNet, UNet
from maskwright.models.freeze import freeze, parameter_groups, parts_of, unfreeze


def tiny() -> UNet:
    torch.manual_seed(0)
    return UNet(1, 1, base_channels=4, depth=2, dropout=0.5)


def learn(network: UNet) -> None:
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.randn(2, 1, 16, 16) + 3).square().mean().backward()
        optimizer.step()


def test_a_frozen_part_keeps_weights_and_statistics_while_the_rest_learns() -> None:
    network = tiny()
    weights = sum(parameter.numel() for parameter in network.encoder.parameters())
    assert freeze(network, "encoder") == weights
    assert freeze(network, "encoder") == 0
    before = copy.deepcopy(network.state_dict())
    learn(network)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not [name for name in changed if name.startswith("encoder.")]
    assert "head.weight" in changed


def test_a_copy_of_a_frozen_network_is_frozen_too() -> None:
    network = tiny()
    freeze(network, "encoder")
    twin = copy.deepcopy(network)
    before = copy.deepcopy(twin.encoder.state_dict())
    learn(twin)
    assert all(torch.equal(value, before[name]) for name, value in twin.encoder.state_dict().items())


def test_a_network_thaws_in_stages() -> None:
    network = tiny()
    freeze(network)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert unfreeze(network, "head") == 5
    assert unfreeze(network, "encoder.levels.2", "decoder") > 0
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[0] for name in learning} == {"head", "encoder", "decoder"}
    assert all(name.startswith("encoder.levels.2.") for name in learning if name.startswith("encoder."))
    before = copy.deepcopy(network.state_dict())
    learn(network)
    after = network.state_dict()
    assert torch.equal(after["encoder.levels.0.0.norm.running_mean"], before["encoder.levels.0.0.norm.running_mean"])
    assert not torch.equal(
        after["encoder.levels.2.0.norm.running_mean"], before["encoder.levels.2.0.norm.running_mean"]
    )


def test_every_trainable_parameter_is_in_exactly_one_group() -> None:
    network = FilmUNet(1, base_channels=4, depth=2)
    freeze(network, "encoder.levels.0")
    groups = parameter_groups(network, {"encoder": {"lr": 1e-4}, "encoder.levels.2": {"lr": 1e-3}, "head": {}})
    assert [group["name"] for group in groups] == ["encoder", "encoder.levels.2", "head", "rest"]
    assert [group.get("lr") for group in groups] == [1e-4, 1e-3, None, None]
    ids = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    deepest = {id(parameter) for parameter in network.encoder.levels[2].parameters()}
    assert {id(parameter) for parameter in groups[1]["params"]} == deepest
    torch.optim.AdamW(groups, lr=1e-2)


def test_a_part_without_trainable_parameters_has_no_group() -> None:
    network = tiny()
    freeze(network, "encoder")
    assert [group["name"] for group in parameter_groups(network, {"encoder": {"lr": 1e-4}})] == ["rest"]


def test_unknown_parts_are_refused_with_the_known_ones() -> None:
    network = tiny()
    assert parts_of(network) == ("encoder", "decoder", "head")
    for call in (freeze, unfreeze):
        with pytest.raises(ModelError, match=r"no part 'enc'\. Its largest parts: encoder, decoder, head"):
            call(network, "enc")
    with pytest.raises(ModelError, match="no part 'enc'"):
        parameter_groups(network, {"enc": {"lr": 1}})
