from __future__ import annotations

import copy

import pytest
import torch

from maskwright.errors import ModelError
from maskwright.models import UNet
from maskwright.models.freeze import (
    freeze,
    freeze_encoder,
    learning_parts,
    parts_of,
    thaw,
    unfreeze,
    unfreeze_encoder,
)


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


def test_an_encoder_is_frozen_and_unfrozen_by_its_own_names() -> None:
    network = tiny()
    weights = sum(parameter.numel() for parameter in network.encoder.parameters())
    assert freeze_encoder(network) == weights
    assert {name.split(".")[0] for name, each in network.named_parameters() if each.requires_grad} == {
        "decoder",
        "head",
    }
    assert unfreeze_encoder(network) == weights
    assert all(parameter.requires_grad for parameter in network.parameters())


PARTS = ("head", "decoder", "encoder.levels.2", "encoder")


@pytest.mark.parametrize(
    ("epoch", "factors"),
    [
        (0, [1.0]),
        (1, [1.0]),
        (2, [1.0, 0.5]),
        (4, [1.0, 0.5]),
        (5, [1.0, 0.5, 0.25]),
        (8, [1.0, 0.5, 0.25, 0.125]),
        (99, [1.0, 0.5, 0.25, 0.125]),
    ],
)
def test_parts_begin_to_learn_one_after_another_with_smaller_rates(epoch: int, factors: list[float]) -> None:
    learning = learning_parts(PARTS, epoch, start_epoch=2, every=3, fall=0.5)
    assert learning == dict(zip(PARTS, factors, strict=False))


def test_thawing_depends_on_the_epoch_alone() -> None:
    onwards, at_once = tiny(), tiny()
    for epoch in range(3):
        thaw(onwards, PARTS, learning_parts(PARTS, epoch))
    thaw(at_once, PARTS, learning_parts(PARTS, 2))
    states = [{name: each.requires_grad for name, each in network.named_parameters()} for network in (onwards, at_once)]
    assert states[0] == states[1]
    assert {name for name, learns in states[0].items() if not learns} == {
        name for name in states[0] if name.startswith(("encoder.levels.0", "encoder.levels.1"))
    }
    before = copy.deepcopy(onwards.state_dict())
    learn(onwards)
    changed = {name for name, value in onwards.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition("levels.2")[0] for name in changed if name.startswith("encoder")} == {"encoder."}
    thaw(onwards, PARTS, PARTS)
    assert all(parameter.requires_grad for parameter in onwards.parameters())


def test_of_nested_parts_the_inner_one_decides() -> None:
    network = tiny()
    thaw(network, ("encoder", "encoder.levels.0"), ("encoder",))
    frozen = {name.rpartition(".")[0] for name, each in network.named_parameters() if not each.requires_grad}
    assert frozen
    assert all(name.startswith("encoder.levels.0") for name in frozen)
    thaw(network, ("encoder", "encoder.levels.0"), ("encoder.levels.0",))
    assert all(
        each.requires_grad == name.startswith("encoder.levels.0")
        for name, each in network.encoder.named_parameters("encoder")
    )


def test_senseless_schedules_of_thawing_are_refused() -> None:
    with pytest.raises(ModelError, match="must be different parts of the network"):
        learning_parts(("head", "head"), 0)
    with pytest.raises(ModelError, match="fall 0: the first must be"):
        learning_parts(PARTS, 0, fall=0)
    with pytest.raises(ModelError, match="'head' shall learn, but is none of the parts encoder"):
        thaw(tiny(), ("encoder",), ("head",))


def test_unknown_parts_are_refused_with_the_known_ones() -> None:
    network = tiny()
    assert parts_of(network) == ("encoder", "decoder", "head")
    for call in (freeze, unfreeze):
        with pytest.raises(ModelError, match=r"no part 'enc'\. Its largest parts: encoder, decoder, head"):
            call(network, "enc")
