from __future__ import annotations

import pytest
import torch
from torch import nn

from maskwright.errors import ModelError
from maskwright.models.attention import ATTENTION, Cbam, SqueezeExcite, build_attention


def silence(block: nn.Module) -> nn.Module:
    """All weights zero: every share is then one half."""
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    return block


def test_each_block_multiplies_by_its_shares() -> None:
    features = torch.randn(2, 8, 5, 4)
    torch.testing.assert_close(silence(SqueezeExcite(8))(features), features / 2)
    torch.testing.assert_close(silence(Cbam(8))(features), features / 4)


def test_squeeze_and_excitation_by_hand() -> None:
    torch.manual_seed(0)
    block, features = SqueezeExcite(8), torch.randn(2, 8, 3, 3)
    first, _, last = block.weigh
    means = features.mean(dim=(2, 3))
    inner = torch.relu(means @ first.weight[:, :, 0, 0].T + first.bias)
    shares = torch.sigmoid(inner @ last.weight[:, :, 0, 0].T + last.bias)
    torch.testing.assert_close(block(features), features * shares[:, :, None, None])


def test_cbam_looks_at_pixels_after_channels() -> None:
    torch.manual_seed(0)
    block, features = Cbam(32), torch.randn(2, 32, 9, 9)
    shares = block(features) / features
    by_channel = shares[:, :1] / shares[:, 1:2]  # the share of a pixel falls out of the ratio
    torch.testing.assert_close(by_channel, by_channel[..., :1, :1].expand_as(by_channel), rtol=1e-3, atol=1e-3)
    assert block.weigh_channels[0].out_channels == 4
    assert Cbam(160).weigh_channels[0].out_channels == 10


def test_words_without_a_block_change_nothing_and_unknown_ones_are_refused() -> None:
    features = torch.randn(1, 4, 2, 2)
    assert build_attention("none", 4)(features) is features
    assert build_attention("gate", 4)(features) is features
    assert {name: type(build_attention(name, 4)) for name in ATTENTION} == {"cbam": Cbam, "se": SqueezeExcite}
    with pytest.raises(ModelError, match=r"'eca' is unknown. Available: none, cbam, gate, se"):
        build_attention("eca", 4)
