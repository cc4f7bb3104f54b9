from __future__ import annotations

import pytest
import torch
from torch import nn

from maskwright.config.model import AttentionUNetConfig, ResUNetConfig, UNetAllFeaturesConfig
from maskwright.errors import ModelError
from maskwright.models import FilmUNet, UNet, build_model
from maskwright.models.attention import Cbam
from maskwright.models.blocks import ResidualUnit, add_to_each, downsampler, upsampler, with_positions
from maskwright.models.droppath import DropPath
from maskwright.models.height_cdf import HeightCdf


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("base_channels", [4, 7])
def test_gates_fit_at_every_depth_and_width(depth: int, base_channels: int) -> None:
    network = build_model(AttentionUNetConfig(base_channels=base_channels, depth=depth), 1, 2, 30.0, batch_size=1)
    assert network(torch.randn(1, 1, 37, 50)).shape == (1, 2, 37, 50)


def test_a_gate_weighs_each_pixel_of_the_skip() -> None:
    torch.manual_seed(0)
    gate = UNet(1, 1, base_channels=4, depth=1, attention="gate").eval().decoder.levels[0].gate
    assert isinstance(gate, nn.Module)
    deep, skip = torch.randn(6, 4, 5, 5), torch.randn(2, 4, 5, 5)  # three conditions for each of two samples
    gated = gate(deep, skip)
    assert gated.shape == (6, 4, 5, 5)
    shares = gated.view(2, 3, 4, 5, 5) / skip[:, None]
    torch.testing.assert_close(shares, shares[:, :, :1].expand_as(shares), rtol=1e-3, atol=1e-3)
    assert shares.min() > 0
    assert shares.max() < 1
    torch.testing.assert_close(gate(deep[1:2], skip[:1])[0], gated[1])


def test_a_residual_unit_that_has_learned_nothing_hands_its_input_on() -> None:
    unit = ResidualUnit(3, 3, "group", "relu", "none", 0.0)
    nn.init.zeros_(unit.second.conv.weight)
    features = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(unit(features), features)


def test_every_level_of_a_residual_network_has_a_shortcut_and_its_own_rate() -> None:
    network = build_model(ResUNetConfig(base_channels=4, depth=2, drop_path=0.5), 1, 1, 30.0, batch_size=1)
    rates = [module.rate for module in network.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    plain = build_model(ResUNetConfig(base_channels=4, depth=2), 1, 1, 30.0, batch_size=1)
    assert sum(isinstance(module, ResidualUnit) for module in plain.modules()) == 3
    assert sum(name.endswith("shortcut") for name, _ in plain.decoder.named_modules()) == 2


def test_the_network_of_all_features_has_them_all() -> None:
    network = build_model(UNetAllFeaturesConfig(base_channels=4, depth=2), 1, 1, 30.0, batch_size=1)
    assert isinstance(network, FilmUNet)
    assert network.film is not None
    assert sum(isinstance(module, Cbam) for module in network.modules()) == 5
    assert max(module.rate for module in network.modules() if isinstance(module, DropPath)) == pytest.approx(0.1)


def test_features_of_several_conditions_are_added_to_their_own_sample() -> None:
    deep, skip = torch.randn(6, 2, 3, 3), torch.randn(2, 2, 3, 3)
    torch.testing.assert_close(add_to_each(deep, skip), deep + skip.repeat_interleave(3, dim=0))


@pytest.mark.parametrize("kind", ["average", "max", "strided"])
def test_downsampling_halves_the_size(kind: str) -> None:
    assert downsampler(3, kind)(torch.randn(2, 3, 10, 14)).shape == (2, 3, 5, 7)


def test_unknown_ways_down_are_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.downsampling: 'median' is unknown. Available: average, max, strided"):
        downsampler(3, "median")


def test_shuffled_pixels_double_the_size() -> None:
    assert upsampler(6, 3, "pixel_shuffle")(torch.randn(2, 6, 5, 7)).shape == (2, 3, 10, 14)


def test_positions_by_hand() -> None:
    image = torch.full((2, 1, 2, 3), 7.0)
    seen = with_positions(image)
    assert torch.equal(seen[:, :1], image)
    x, y, from_middle_x, from_middle_y = seen[1, 1:]
    assert x.tolist() == [[0.0, 0.5, 1.0]] * 2
    assert y.tolist() == [[0.0] * 3, [1.0] * 3]
    assert from_middle_x.tolist() == [[0.5, 0.0, 0.5]] * 2
    assert from_middle_y.tolist() == [[0.5] * 3] * 2


def test_a_network_that_looks_at_the_whole_image_says_so() -> None:
    tiny = {"base_channels": 4, "depth": 1}
    assert UNet(1, 1, **tiny, attention="gate").receptive_field_px is not None
    for options in ({"attention": "se"}, {"attention": "cbam"}, {"positional": True}, {"norm": "group"}):
        assert UNet(1, 1, **tiny, **options).receptive_field_px is None  # type: ignore[arg-type]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("attention", ["none", "gate"])
@pytest.mark.parametrize("downsampling", ["average", "strided"])
def test_a_window_with_its_halo_equals_the_whole_image(residual: bool, attention: str, downsampling: str) -> None:
    torch.manual_seed(0)
    network = UNet(
        1, 1, base_channels=4, depth=2, residual=residual, attention=attention, downsampling=downsampling
    ).double()
    network.eval()
    halo = network.receptive_field_px
    assert halo is not None
    margin = -(-halo // 4) * 4
    image = torch.randn(1, 1, 2 * margin + 32, 2 * margin + 48, dtype=torch.float64)
    with torch.no_grad():
        whole, window = network(image), network(image[..., 16 : 16 + 2 * margin + 8, 8 : 8 + 2 * margin + 12])
    inner = whole[..., 16 + margin : 24 + margin, 8 + margin : 20 + margin]
    torch.testing.assert_close(window[..., margin : margin + 8, margin : margin + 12], inner, rtol=0, atol=1e-12)


def test_a_network_on_blocks_learns_of_each_pixel_by_itself_and_answers_for_each() -> None:
    """A block of 2 x 2 pixels is 4 channels inside; four outputs of a block are four pixels again."""
    network = UNet(3, 2, base_channels=4, depth=2, shrink=2)
    assert network.multiple == 8
    assert network.encoder.levels[0][0].conv.in_channels == 12
    assert network.encode(torch.randn(1, 3, 30, 17))[0].shape == (1, 4, 16, 12)
    assert network(torch.randn(1, 3, 30, 17)).shape == (1, 2, 30, 17)
    image = torch.randn(1, 3, 32, 32, requires_grad=True)
    network.eval()(image)[0, 1, 13, 14].backward()
    assert image.grad is not None
    assert (image.grad[0, :, 12:15, 13:16] != 0).all()


def test_a_distribution_on_blocks_begins_alike_in_every_pixel() -> None:
    torch.manual_seed(0)
    network = HeightCdf(1, base_channels=4, depth=1, components=2, shrink=2)
    torch.nn.init.zeros_(network.head[0].weight)
    first = network.distribution(torch.randn(1, 1, 8, 8))
    assert first.centre_m[0, :, 5, 6].tolist() == pytest.approx([7.5, 22.5])
    torch.testing.assert_close(first.packed(), first.packed()[:, :, :1, :1].expand(1, 6, 8, 8))
