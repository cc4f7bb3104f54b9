from __future__ import annotations

import pytest
import torch
from torch import nn

from maskwright.errors import ModelError, ShapeError
from maskwright.models import FilmUNet, UNet, count_parameters
from maskwright.models.trunk import level_widths, receptive_halo_px


def test_channels_double_at_each_level() -> None:
    assert level_widths(16, 4) == (16, 32, 64, 128, 256)


def test_the_light_network_has_its_size() -> None:
    assert count_parameters(UNet(1, 1, base_channels=16, depth=4, upsampling="transpose")) == 1_942_049
    assert count_parameters(UNet(1, 1, base_channels=16, depth=4)) == 1_811_489


def test_a_condition_is_accepted_and_ignored() -> None:
    torch.manual_seed(0)
    network = UNet(1, 2, base_channels=4, depth=2).eval()
    image = torch.randn(2, 1, 16, 16)
    assert torch.equal(network(image), network(image, torch.tensor([2.0, 5.0])))


def test_logits_leave_the_network_unbounded() -> None:
    torch.manual_seed(0)
    logits = UNet(1, 1, base_channels=4, depth=1)(torch.randn(2, 1, 16, 16) * 5)
    assert logits.min() < 0
    assert logits.max() > 1


@pytest.mark.parametrize("network", [UNet(2, 1, base_channels=4, depth=1), FilmUNet(2, base_channels=4, depth=1)])
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 8, 8)])
def test_images_of_other_channels_are_refused(network: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"the network takes \(batch, 2, height, width\)"):
        network(torch.zeros(shape), torch.ones(1))


def test_sizes_below_1_are_refused() -> None:
    with pytest.raises(ModelError, match=r"model.depth: 0 is below the minimum 1"):
        UNet(1, 1, depth=0)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = UNet(1, 1, base_channels=4, depth=1, dropout=0.5, norm="group")
    image = torch.randn(1, 1, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


def positive_network(kind: str, depth: int, upsampling: str, shrink: int) -> nn.Module:
    """A network in which every path adds: what a pixel can reach, it does."""
    options = {"base_channels": 4, "depth": depth, "upsampling": upsampling, "shrink": shrink}
    network = UNet(1, 1, **options) if kind == "unet" else FilmUNet(1, **options)  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(module.weight, 1.0)
    return network.double().eval()


@pytest.mark.parametrize("kind", ["unet", "film_unet"])
@pytest.mark.parametrize("upsampling", ["bilinear", "transpose"])
@pytest.mark.parametrize(("depth", "shrink"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 4)])
def test_a_pixel_reaches_exactly_as_far_as_the_network_says(
    kind: str, depth: int, shrink: int, upsampling: str
) -> None:
    network = positive_network(kind, depth, upsampling, shrink)
    halo = network.receptive_field_px
    assert halo == (receptive_halo_px(depth, upsampling) + 1) * shrink - 1
    height = torch.ones(1)
    period = shrink * 2**depth
    size = 4 * (2 * halo // (2 * period) + 2) * period
    reach = 0
    with torch.no_grad():
        image = torch.zeros(1, 1, 2 * period, size, dtype=torch.float64)
        quiet = network(image, height)
        for phase in range(period):
            col = size // 2 + phase
            touched = image.clone()
            touched[..., col] = 1e6
            changed = (network(touched, height) != quiet).any(dim=2).flatten().nonzero().flatten()
            reach = max(reach, int((changed - col).abs().max()))
    assert reach == halo


def test_norms_over_the_whole_image_have_no_finite_reach() -> None:
    assert UNet(1, 1, base_channels=4, norm="group").receptive_field_px is None
    assert FilmUNet(1, base_channels=4, norm="instance").receptive_field_px is None


def test_a_window_with_its_halo_equals_the_whole_image() -> None:
    torch.manual_seed(0)
    network = UNet(1, 1, base_channels=4, depth=2).double().eval()
    halo = network.receptive_field_px
    assert halo is not None
    margin = -(-halo // 4) * 4
    image = torch.randn(1, 1, 2 * margin + 32, 2 * margin + 48, dtype=torch.float64)
    with torch.no_grad():
        whole, window = network(image), network(image[..., 16 : 16 + 2 * margin + 8, 8 : 8 + 2 * margin + 12])
    inner = whole[..., 16 + margin : 24 + margin, 8 + margin : 20 + margin]
    torch.testing.assert_close(window[..., margin : margin + 8, margin : margin + 12], inner, rtol=0, atol=1e-12)
