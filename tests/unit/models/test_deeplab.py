from __future__ import annotations

import pytest
import torch

from maskwright.config.model import DeepLabV3PlusConfig
from maskwright.errors import ModelError
from maskwright.models import build_model
from maskwright.models.deeplab import DeepLabV3Plus, DeepLabV3PlusFilm

TINY = {"base_channels": 4, "depth": 3, "aspp_channels": 8, "aspp_rates": (1, 2), "low_level_channels": 4}


def test_one_image_in_training_is_enough_with_every_norm() -> None:
    for norm in ("batch", "group", "instance"):
        network = DeepLabV3Plus(1, 2, **TINY, norm=norm).train()  # type: ignore[arg-type]
        assert network(torch.randn(1, 1, 16, 16)).shape == (1, 2, 16, 16)


def test_every_setting_reaches_the_network() -> None:
    network = build_model(DeepLabV3PlusConfig(**TINY), 1, 2, 30.0, batch_size=1)
    assert isinstance(network, DeepLabV3Plus)
    assert [view.conv.dilation[0] for view in network.pyramid.views] == [1, 1, 2]
    assert network.reduce.conv.out_channels == 4
    assert network.head.in_channels == 8
    assert network.multiple == 8


def test_shallow_features_are_a_quarter_of_the_image_or_half_where_there_are_no_deeper_ones() -> None:
    assert [DeepLabV3Plus(1, 1, **(TINY | {"depth": depth})).shallow for depth in (1, 2, 3, 4)] == [0, 1, 2, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize("condition_by", ["film", "bottleneck", "both"])
def test_many_heights_at_once_equal_one_after_the_other(condition_by: str) -> None:
    torch.manual_seed(0)
    network = DeepLabV3PlusFilm(1, **TINY, condition_by=condition_by).double().eval()  # type: ignore[arg-type]
    if network.film is not None:
        torch.nn.init.normal_(network.film.out.weight, std=0.3)
    image, heights = torch.randn(2, 1, 20, 24).double(), torch.tensor([[2.0, 5.0, 30.0], [20.0, 1.0, 7.0]])
    together = network(image, heights)
    assert together.shape == (2, 3, 20, 24)
    for k in range(3):
        torch.testing.assert_close(together[:, k], network(image, heights[:, k])[:, 0], rtol=0, atol=1e-12)
    assert not torch.allclose(together[0, 0], together[0, 2])


def test_wrong_options_and_a_missing_height_are_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.aspp_rates: 0 is below the minimum 1"):
        DeepLabV3Plus(1, 1, aspp_rates=(6, 0))
    with pytest.raises(ModelError, match=r"'input' is unknown\. Available: film, bottleneck, both"):
        DeepLabV3PlusFilm(1, **TINY, condition_by="input")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="needs heights in metres as condition"):
        DeepLabV3PlusFilm(1, **TINY)(torch.randn(1, 1, 16, 16))  # type: ignore[arg-type]
