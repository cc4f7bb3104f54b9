"""Networks with a head for each output: which channels are whose, and what each head begins with."""

from __future__ import annotations

import pytest
import torch

from maskwright.config import MultitaskSmpConfig, MultitaskUNetConfig
from maskwright.errors import ModelError, ShapeError
from maskwright.models import build_model
from maskwright.models.heads import Heads, head_slices, split_heads

HEADS = {"semantic": 3, "centre": 2, "offset": 2, "diameter": 1}
CONFIGS = [
    MultitaskUNetConfig(base_channels=4, depth=2, head_channels=4),
    MultitaskUNetConfig(base_channels=4, depth=2, head_channels=4, shrink=2),
    MultitaskSmpConfig(encoder="resnet18", head_channels=4),
    MultitaskSmpConfig(encoder="resnet18", decoder="fpn", head_channels=4),
]


def test_heads_lie_one_behind_another() -> None:
    assert head_slices(HEADS) == {
        "semantic": slice(0, 3),
        "centre": slice(3, 5),
        "offset": slice(5, 7),
        "diameter": slice(7, 8),
    }
    outputs = torch.arange(8.0).view(1, 8, 1, 1)
    assert {name: part.flatten().tolist() for name, part in split_heads(outputs, HEADS).items()} == {
        "semantic": [0, 1, 2],
        "centre": [3, 4],
        "offset": [5, 6],
        "diameter": [7],
    }
    with pytest.raises(ShapeError, match="are not those of heads with 8"):
        split_heads(outputs[:, :7], HEADS)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind} {getattr(config, 'decoder', '')}")
def test_the_output_has_the_size_of_the_image_and_the_channels_of_all_heads(config: object) -> None:
    torch.manual_seed(0)
    network = build_model(config, in_channels=4, num_classes=8, heads=HEADS).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        outputs = network(torch.randn(2, 4, 40, 33))
    assert outputs.shape == (2, 8, 40, 33)
    assert set(network.head.parts if hasattr(network.head, "parts") else network.head[-1].parts) == set(HEADS)


def test_heads_begin_with_rare_centres_and_diameters_of_one_unit() -> None:
    heads = Heads(5, HEADS, 6)
    heads.begin()
    outputs = split_heads(heads(torch.zeros(1, 5, 8, 8)), HEADS)
    first = {name: output[0, :, 4, 4].tolist() for name, output in outputs.items()}
    assert first == {"semantic": [0, 0, 0], "centre": [-4, -4], "offset": [0, 0], "diameter": [1]}


def test_no_weight_of_one_head_moves_another() -> None:
    heads = Heads(5, HEADS, 6)
    outputs = split_heads(heads(torch.randn(1, 5, 8, 8)), HEADS)
    for name, output in outputs.items():
        heads.zero_grad()
        output.square().sum().backward(retain_graph=True)
        moved = {
            other
            for other, part in heads.parts.items()
            if any(weight.grad is not None and weight.grad.any() for weight in part.parameters())
        }
        assert moved == {name}


def test_a_network_without_heads_is_refused() -> None:
    with pytest.raises(ModelError, match="one head at least"):
        Heads(4, {})


@pytest.mark.parametrize("shrink", [2, 4])
def test_a_network_on_blocks_of_pixels_sees_each_pixel_and_no_further_than_it_says(shrink: int) -> None:
    torch.manual_seed(0)
    config = MultitaskUNetConfig(base_channels=4, depth=1, head_channels=4, shrink=shrink, norm="batch")
    network = build_model(config, in_channels=1, num_classes=8, heads=HEADS).eval()
    size = 24 * shrink
    image = torch.randn(1, 1, size, size, requires_grad=True)
    at = size // 2 + 1
    network(image)[0, :, at, at].square().sum().backward()
    assert image.grad is not None
    rows, cols = image.grad[0, 0].nonzero(as_tuple=True)
    reach = int(max((rows - at).abs().max(), (cols - at).abs().max()))
    assert 2 * shrink < reach <= network.receptive_field_px
    assert (image.grad[0, 0, at - 2 : at + 3, at - 2 : at + 3] != 0).all()
