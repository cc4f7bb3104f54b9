"""Where the layers of a network answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskwright.errors import PredictionError
from maskwright.workflows.activation_maps import _over, activation_maps, layers_of


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.levels = nn.ModuleList([nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False)])
        self.head = nn.Conv2d(2, 1, 1)
        self.flat = nn.Flatten()
        with torch.no_grad():
            self.encoder.levels[0].weight[:, 0, 0, 0] = torch.tensor([1.0, -3.0])

    def forward(self, image: Tensor) -> Tensor:
        for level in self.encoder.levels:
            image = level(image)
        return self.flat(self.head(image))


@pytest.fixture
def predictor() -> Any:
    model = Toy()

    def predict_image(values: np.ndarray, valid: np.ndarray) -> None:
        model(torch.from_numpy(values[None].astype(np.float32)))

    return SimpleNamespace(model=model, predict_image=predict_image)


def test_a_map_is_the_mean_size_of_the_channels_of_its_layer(predictor: Any) -> None:
    values = np.array([[[0.0, 1.0], [2.0, -4.0]]])
    maps = activation_maps(predictor, values, np.ones((2, 2), np.bool_), ["encoder.levels.0"])
    assert maps["encoder.levels.0"].tolist() == [[0.0, 2.0], [4.0, 8.0]]  # (1 + 3) / 2 times the size of the pixel
    assert not predictor.model.encoder.levels[0]._forward_hooks  # nothing is left behind


def test_layers_that_do_not_exist_or_give_no_map_are_named(predictor: Any) -> None:
    values, valid = np.zeros((1, 2, 2)), np.ones((2, 2), np.bool_)
    with pytest.raises(PredictionError, match=r"no layer body\. Some that it has: encoder.levels.0, encoder.levels.1"):
        activation_maps(predictor, values, valid, ["body"])
    with pytest.raises(PredictionError, match="flat gives no map"):
        activation_maps(predictor, values, valid, ["flat"])


def test_the_parts_worth_a_first_look_are_the_levels_and_the_children_with_weights() -> None:
    assert layers_of(Toy()) == ["encoder.levels.0", "encoder.levels.1", "head"]


def test_the_paint_is_light_where_a_layer_is_silent_and_dark_where_it_answers() -> None:
    picture = np.full((8, 8, 3), 128, np.uint8)
    painted = _over(picture, np.array([[0.0, 0.0], [9.0, 9.0]], np.float32)).astype(int)
    assert painted[0, 4].sum() > painted[-1, 4].sum() + 300
