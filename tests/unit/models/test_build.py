from __future__ import annotations

import pytest
import torch
from torch import nn

from maskwright.config.model import FilmUNetConfig, SmpConfig, SmpFilmConfig, UNetConfig
from maskwright.errors import ConfigError, ModelError
from maskwright.models import (
    ALIASES,
    MODELS,
    FilmUNet,
    UNet,
    build_model,
    count_parameters,
    model_config,
    settle_norm,
)


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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("unet", "unet"),
        ("UNet", "unet"),
        ("unet_film", "film_unet"),
        ("film-unet", "film_unet"),
        ("res_unet", "resunet"),
        ("res_unet_film", "resunet_film"),
        ("Attention U-Net", "attention_unet"),
        ("unet_all_features", "unet_all_features"),
        ("DeepLabV3+", "deeplabv3plus"),
        ("deeplabv3_plus", "deeplabv3plus"),
        ("deeplabv3_plus_threshold", "deeplabv3plus_film"),
        ("height_cdf", "height_cdf"),
        ("smp", "smp"),
    ],
)
def test_networks_have_the_names_people_write(name: str, kind: str) -> None:
    assert model_config(name).kind == kind


def test_other_names_lead_to_kinds_and_hide_none() -> None:
    assert set(ALIASES.values()) <= set(MODELS)
    assert not set(ALIASES) & {kind.replace("_", "") for kind in MODELS}


def test_a_decoder_with_an_encoder_is_one_of_the_ecosystem() -> None:
    assert model_config("UNet", encoder="resnet18") == SmpConfig(encoder="resnet18")
    assert model_config("Unet++", encoder_name="resnet18") == SmpConfig(decoder="unetplusplus", encoder="resnet18")
    assert model_config("DeepLabV3+", encoder="resnet18") == SmpConfig(decoder="deeplabv3plus", encoder="resnet18")
    assert model_config("smp_film", encoder="resnet18") == SmpFilmConfig(encoder="resnet18")


def test_a_network_is_built_by_name() -> None:
    network = build_model("unet", in_channels=2, num_classes=3, base_channels=4, depth=1)
    assert network(torch.zeros(1, 2, 8, 8)).shape == (1, 3, 8, 8)
    with pytest.raises(ConfigError, match="base_channels: 1 is below the minimum 4"):
        build_model("unet", base_channels=1)
    with pytest.raises(ModelError, match=r"'unit' is no network. Did you mean unet\? Available: attention_unet, "):
        build_model("unit")
    with pytest.raises(ModelError, match="depth: options go with a name"):
        build_model(UNetConfig(), depth=3)


def test_documented_names_of_options_are_understood_and_an_output_activation_is_refused() -> None:
    network = build_model(
        "unet", encoder_name="resnet18", encoder_weights="none", in_channels=2, classes=3, activation=None
    )
    assert network.eval()(torch.zeros(1, 2, 32, 32)).shape == (1, 3, 32, 32)
    for name, options in (("fpn", {"encoder": "resnet18"}), ("unet", {})):
        with pytest.raises(ModelError, match="activation='sigmoid': networks give logits here"):
            build_model(name, activation="sigmoid", **options)
    assert nn.Mish in kinds_of(build_model("unet", base_channels=4, depth=1, activation="mish"))
