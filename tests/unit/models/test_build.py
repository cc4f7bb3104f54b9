from __future__ import annotations

import torch
from torch import nn

from maskwright.config.model import FilmUNetConfig, UNetConfig
from maskwright.models import FilmUNet, UNet, build_model, count_parameters, settle_norm


def kinds_of(network: nn.Module) -> set[type]:
    return {type(module) for module in network.modules()}


def test_every_setting_reaches_the_network() -> None:
    config = FilmUNetConfig(
        base_channels=4, depth=2, norm="group", activation="mish", dropout=0.3, upsampling="transpose", film_hidden=8
    )
    network = build_model(config, 2, 1, 25.0, batch_size=4)
    assert isinstance(network, FilmUNet)
    assert {nn.GroupNorm, nn.Mish, nn.ConvTranspose2d} <= kinds_of(network)
    assert nn.BatchNorm2d not in kinds_of(network)
    assert network.encoder.dropout.p == 0.3
    assert (network.in_channels, network.multiple) == (2, 4)
    assert (network.film.scale, network.film.out.in_features) == (25.0, 8)


def test_the_plain_network_has_one_output_per_class() -> None:
    network = build_model(UNetConfig(base_channels=4, depth=1), 1, 3, 30.0, batch_size=8)
    assert isinstance(network, UNet)
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 3, 8, 8)


def test_auto_norm_is_settled_when_built() -> None:
    config = UNetConfig(base_channels=4, depth=1, norm="auto")
    assert nn.GroupNorm in kinds_of(build_model(config, 1, 1, 30.0, batch_size=15))
    assert nn.BatchNorm2d in kinds_of(build_model(config, 1, 1, 30.0, batch_size=16))
    assert settle_norm(config, 16).norm == "batch"
    assert settle_norm(config, 1).norm == "group"


def test_one_seed_gives_one_network() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(7)
        networks.append(build_model(FilmUNetConfig(base_channels=4, depth=1), 1, 1, 30.0, batch_size=8))
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_frozen_parameters_are_counted_on_request_only() -> None:
    network = nn.Linear(3, 2)
    network.bias.requires_grad_(False)
    assert count_parameters(network) == 6
    assert count_parameters(network, trainable_only=False) == 8
