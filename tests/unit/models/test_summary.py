from __future__ import annotations

import pytest

from maskwright.config.model import FilmUNetConfig, SmpConfig, UNetConfig
from maskwright.models import MODELS, UNet, count_parameters, model_config, model_facts


def test_multiply_adds_by_hand() -> None:
    facts = model_facts(UNetConfig(base_channels=4, depth=1, upsampling="transpose"), in_channels=2, size_px=8)
    first = 64 * 9 * (2 * 4 + 4 * 4)  # two 3x3 convolutions at full size
    deep = 16 * 9 * (4 * 8 + 8 * 8)
    up = 16 * 4 * 8 * 4  # 2x2 transposed
    joined = 64 * 9 * (4 * 4 + 4 * 4 + 4 * 4)
    assert facts.multiply_adds == first + deep + up + joined + 64 * 4


def test_weights_reach_and_parts_are_those_of_the_network() -> None:
    config = UNetConfig(base_channels=4, depth=2)
    network, facts = UNet(1, 1, base_channels=4, depth=2), model_facts(config)
    assert facts.parameters == count_parameters(network) == sum(count for _, count in facts.parts)
    assert facts.receptive_field_px == network.receptive_field_px
    assert [name for name, _ in facts.parts] == ["encoder", "decoder", "head"]
    assert (facts.kind, facts.conditioned, facts.size_px) == ("unet", False, 256)
    assert model_facts(FilmUNetConfig(base_channels=4, depth=1)).conditioned


@pytest.mark.parametrize("kind", list(MODELS))
def test_every_kind_is_counted_without_fetching_weights(kind: str) -> None:
    facts = model_facts(model_config(kind), size_px=64)
    assert facts.parameters > 100_000
    assert facts.multiply_adds > 10_000_000


def test_pretrained_weights_are_not_needed_for_counting() -> None:
    assert model_facts(SmpConfig(encoder="resnet18", encoder_weights="imagenet"), size_px=64).kind == "smp"
