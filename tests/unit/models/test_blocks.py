from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from maskwright.errors import ModelError
from maskwright.models.blocks import (
    ACTIVATIONS,
    AdaptiveNorm,
    SkipUnit,
    adapt_norms,
    build_activation,
    build_norm,
    initialise,
    largest_divisor,
    norm_for_batch,
    pad_to_multiple,
    upsampler,
)


@pytest.mark.parametrize(("channels", "groups"), [(3, 3), (8, 8), (12, 6), (13, 1), (20, 5), (64, 8)])
def test_group_norm_takes_any_number_of_channels(channels: int, groups: int) -> None:
    norm = build_norm("group", channels)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups == largest_divisor(channels, 8)
    norm(torch.randn(1, channels, 4, 4))


def test_auto_norm_is_settled_by_the_batch_size() -> None:
    assert [norm_for_batch("auto", size) for size in (1, 15, 16, 64)] == ["group", "group", "batch", "batch"]
    assert norm_for_batch("instance", 64) == "instance"


def test_instance_norm_treats_each_channel_of_each_sample_alone() -> None:
    features = torch.randn(2, 3, 5, 4) * 7 + 2
    ours = build_norm("instance", 3)(features)
    torch.testing.assert_close(ours, nn.functional.instance_norm(features))


def test_unknown_words_are_refused_with_the_choices() -> None:
    with pytest.raises(ModelError, match=r"'layer' is unknown. Available: batch, group, instance"):
        build_norm("layer", 8)
    with pytest.raises(ModelError, match=r"'swish' is unknown. Available: gelu, leaky_relu, mish, relu, silu"):
        build_activation("swish")
    with pytest.raises(ModelError, match="Available: bilinear, pixel_shuffle, transpose"):
        upsampler(4, 2, "nearest")
    with pytest.raises(ModelError, match="Available: default, kaiming, orthogonal, xavier"):
        initialise(nn.Conv2d(1, 1, 1), "normal", "relu")


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations_keep_large_values_and_damp_negative_ones(name: str) -> None:
    values = build_activation(name)(torch.tensor([-20.0, 0.0, 20.0]))
    assert values[0].abs() < 0.21
    assert values[1].item() == 0
    assert values[2].item() == pytest.approx(20)


def test_padding_mirrors_at_the_lower_and_right_edge() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    padded = pad_to_multiple(image, 2)
    assert padded.shape == (1, 1, 4, 4)
    assert torch.equal(padded[..., :3, :], image)
    assert torch.equal(padded[0, 0, 3], image[0, 0, 1])


def test_padding_repeats_the_edge_where_there_is_too_little_to_mirror() -> None:
    padded = pad_to_multiple(torch.tensor([[[[5.0]]]]), 4)
    assert torch.equal(padded, torch.full((1, 1, 8, 8), 5.0))


def test_images_of_a_fitting_size_are_not_copied() -> None:
    image = torch.randn(1, 1, 8, 16)
    assert pad_to_multiple(image, 4) is image


def test_joining_by_sum_equals_a_convolution_of_both_side_by_side() -> None:
    torch.manual_seed(0)
    unit = SkipUnit(6, 4, 5, "group", "relu")
    deep, skip = torch.randn(2, 6, 8, 8), torch.randn(2, 4, 8, 8)
    weight = torch.cat([unit.from_deep.weight, unit.from_skip.weight], dim=1)
    features = nn.functional.conv2d(torch.cat([deep, skip], dim=1), weight, padding=1)
    torch.testing.assert_close(unit(deep, skip), unit.activation(unit.norm(features)))


@pytest.mark.parametrize("kind", ["bilinear", "transpose"])
def test_upsampling_doubles_the_size(kind: str) -> None:
    assert upsampler(6, 3, kind)(torch.randn(2, 6, 5, 7)).shape == (2, 3, 10, 14)


def test_kaiming_weights_keep_the_size_of_activations() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 64, 3, padding=1)
    initialise(conv, "kaiming", "relu")
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert conv.bias is not None
    assert torch.count_nonzero(conv.bias) == 0


def test_orthogonal_weights_are_orthogonal() -> None:
    conv = nn.Conv2d(16, 4, 3, bias=False)
    initialise(conv, "orthogonal", "relu")
    rows = conv.weight.detach().flatten(1)
    torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(4), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 12, 13, 64])
@pytest.mark.parametrize(("batch_size", "kind"), [(1, nn.GroupNorm), (15, nn.GroupNorm), (16, nn.BatchNorm2d)])
def test_an_adaptive_norm_is_settled_when_it_is_built(channels: int, batch_size: int, kind: type[nn.Module]) -> None:
    norm = AdaptiveNorm(channels, batch_size).eval()
    assert isinstance(norm.norm, kind)
    images = torch.randn(32, channels, 4, 4)
    torch.testing.assert_close(norm(images[:1]), norm(images)[:1])  # alone as in company


def test_norms_of_a_network_are_replaced_for_small_batches_with_their_weights() -> None:
    model = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.Sequential(nn.BatchNorm2d(12, affine=False)))
    nn.init.constant_(model[1].weight, 3.0)  # type: ignore[arg-type]
    assert adapt_norms(model, 16) == 0
    assert adapt_norms(model, 4) == 2
    assert isinstance(model[1], nn.GroupNorm)
    assert model[1].num_groups == 6
    assert model[1].weight.unique().tolist() == [3.0]
    assert model(torch.randn(1, 3, 5, 5)).shape == (1, 12, 5, 5)


def test_a_network_without_values_is_made_without_torchs_compiler() -> None:
    """Drawing numbers on the meta device would load it, which takes longer than all else of a check."""
    code = """
import sys, torch
from maskwright.config.model import UNetConfig
from maskwright.models import build_model
with torch.device("meta"):
    network = build_model(UNetConfig(base_channels=4, depth=1, init="kaiming"), in_channels=1, num_classes=1)
print(next(network.parameters()).is_meta, "torch._dynamo" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["True", "False"]
