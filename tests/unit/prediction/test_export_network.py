from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskwright.config.model import UNetConfig
from maskwright.data.band_normalise import BandNormaliser, PerTileBands
from maskwright.data.normalise import MetresNormaliser, PerTileNormaliser
from maskwright.data.sources.image_file import ImageFormat
from maskwright.errors import PredictionError
from maskwright.models import build_model
from maskwright.prediction import ModelCard
from maskwright.prediction.export_network import ExportedNetwork, InputRule, height_by_height, input_rule
from maskwright.tasks.binary import Binary
from maskwright.tasks.height_gaps import HeightGaps


class _Same(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image


def _card(input: str, normaliser: Any, **changes: Any) -> ModelCard:
    is_image = input == "image"
    task = Binary(["crack"]) if is_image else HeightGaps((2.0, 5.0))
    description = {
        "task": task.to_dict(),
        "model": UNetConfig(base_channels=4, depth=2).model_dump(mode="json"),
        "in_channels": 3 if is_image else 2 if input == "both" else 1,
        "batch_size": 8,
        "input": input,
        "image": ImageFormat().to_dict(),
        "normaliser": normaliser.to_dict(),
        "trained_range_m": [2, 5],
        "nodata": {},
        "pixel_size_m": None,
        "tile_px": 32,
        "prediction": {},
        "weights": {"sha256": "abc"},
    }
    return replace(ModelCard.from_description(description, Path("model.json")), **changes)


BANDS = BandNormaliser("percentile", (10.0, 20.0, 0.0), (100.0, 50.0, 255.0), True)


def test_raw_pixels_become_what_the_training_made_of_them() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(-50, 300, (3, 7, 9)).astype(np.float32)
    valid = rng.random((7, 9)) > 0.3
    network = ExportedNetwork(_Same(), input_rule(_card("image", BANDS), "raw"))
    given = np.where(valid, raw, np.nan).astype(np.float32)
    np.testing.assert_allclose(network(torch.from_numpy(given[None]))[0], BANDS.normalise(raw, valid), atol=1e-6)


def test_one_missing_band_makes_a_pixel_missing_in_all() -> None:
    network = ExportedNetwork(_Same(), input_rule(_card("image", BANDS), "raw"))
    given = torch.full((1, 3, 1, 2), 60.0)
    given[0, 1, 0, 1] = torch.nan
    torch.testing.assert_close(network(given)[0, :, 0], torch.tensor([[0.5, 0.0], [0.8, 0.0], [60 / 255, 0.0]]))


def test_pixels_between_0_and_1_are_taken_for_bytes() -> None:
    network = ExportedNetwork(_Same(), input_rule(_card("image", BANDS), "unit"))
    answer = network(torch.full((1, 3, 1, 1), 60 / 255))
    torch.testing.assert_close(answer.flatten(), torch.tensor([0.5, 0.8, 60 / 255]))


def test_heights_above_ground_are_divided_by_the_constant() -> None:
    network = ExportedNetwork(_Same(), input_rule(_card("chm", MetresNormaliser(scale_m=25.0)), "raw"))
    answer = network(torch.tensor([[[[5.0, torch.nan, 50.0]]]]))
    torch.testing.assert_close(answer.flatten(), torch.tensor([0.2, 0.0, 2.0]))


@pytest.mark.parametrize("values", ["raw", "unit"])
def test_what_is_given_comes_back_as_the_input_it_was_made_from(values: Any) -> None:
    rule = input_rule(_card("image", BANDS), values)
    image = np.random.default_rng(1).random((2, 3, 5, 5), dtype=np.float32)
    image[0, :, 0, 0] = 0.0  # not valid
    answer = ExportedNetwork(_Same(), rule)(torch.from_numpy(rule.given(image)))
    np.testing.assert_allclose(answer, image, atol=1e-6)
    np.testing.assert_allclose(answer[0, :, 0, 0], 0.0, atol=1e-6)


def test_a_rule_survives_its_description() -> None:
    rule = input_rule(_card("image", BANDS), "raw")
    assert InputRule.from_dict(rule.to_dict()) == rule
    assert input_rule(_card("dsm", MetresNormaliser()), "normalised") == InputRule()


@pytest.mark.parametrize(
    ("input", "normaliser", "changes", "why"),
    [
        ("dsm", MetresNormaliser(), {}, "depends on the place on the ground, beyond the tile"),
        ("both", MetresNormaliser(), {}, "depends on the place on the ground"),
        ("chm", PerTileNormaliser(), {}, "own least and largest value, so it is not linear by band"),
        ("image", PerTileBands(), {}, "not linear by band"),
        ("chm", MetresNormaliser(), {"context": ("slope",)}, "its bands slope are made from neighbouring pixels"),
    ],
)
def test_a_normalisation_that_needs_more_than_the_pixel_is_refused(
    input: str, normaliser: Any, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(PredictionError, match=why) as caught:
        input_rule(_card(input, normaliser, **changes), "raw")
    assert "Export without --with-normalisation" in str(caught.value)


def test_channels_temperature_and_activation_are_applied_in_this_order() -> None:
    logits = torch.tensor([0.0, 2.0, 4.0])[None, :, None, None]
    kept = ExportedNetwork(_Same(), InputRule(), channels=[2, 0], activation="sigmoid", temperature=2.0)
    torch.testing.assert_close(kept(logits).flatten(), torch.sigmoid(torch.tensor([2.0, 0.0])))
    share = ExportedNetwork(_Same(), InputRule(), activation="softmax", temperature=2.0)(logits).flatten()
    torch.testing.assert_close(share, torch.softmax(torch.tensor([0.0, 1.0, 2.0]), 0))
    assert torch.equal(ExportedNetwork(_Same(), InputRule(), temperature=2.0)(logits), logits)


def test_heights_one_by_one_are_the_heights_together() -> None:
    from maskwright.config.model import HeightCdfConfig

    torch.manual_seed(0)
    network = build_model(HeightCdfConfig(base_channels=4, depth=2), 1, 3, 30.0, batch_size=2).eval()
    image, heights = torch.randn(2, 1, 12, 9), torch.tensor([[2.0, 5.0, 10.0], [1.0, 4.0, 20.0]])
    torch.testing.assert_close(height_by_height(network, 3)(image, heights), network(image, heights))
    plain = build_model(UNetConfig(base_channels=4, depth=2), 1, 3, 30.0, batch_size=2)
    assert height_by_height(plain, 3) is plain
