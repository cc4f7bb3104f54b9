"""Several models as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.config.model import FilmUNetConfig
from maskwright.config.prediction import PredictionConfig
from maskwright.data.normalise import MetresNormaliser
from maskwright.errors import PredictionError
from maskwright.prediction.ensemble import JoinedRows, common_heights, joined_card
from maskwright.prediction.model_card import ModelCard
from maskwright.tasks.height_gaps import HeightGaps


def card(threshold: float = 0.5, **changes: Any) -> ModelCard:
    description = {
        "task": HeightGaps((2.0, 5.0), probability_threshold=threshold).to_dict(),
        "model": FilmUNetConfig().model_dump(mode="json"),
        **{"in_channels": 1, "batch_size": 8, "input": "dsm", "normaliser": MetresNormaliser().to_dict()},
        **{"trained_range_m": [2.0, 10.0], "pixel_size_m": [1.0, 1.0], "tile_px": 256, "weights": {"sha256": "a"}},
        **{"prediction": PredictionConfig().to_dict(), "nodata": {"dsm": None, "chm": None}},
        **{"probability_threshold": threshold},
        **changes,
    }
    return ModelCard.from_description(description, Path("model.json"))


def test_the_card_of_all_has_the_mean_threshold_and_the_narrowest_range() -> None:
    joined = joined_card([card(0.4), replace(card(0.6), trained_range_m=(3.0, 20.0), tile_px=512, sha256="b")])
    assert joined.task.probability_threshold == pytest.approx(0.5)
    assert joined.trained_range_m == (3.0, 10.0)
    assert (joined.tile_px, joined.sha256) == (512, "a,b")


def test_models_that_see_other_things_cannot_be_averaged() -> None:
    with pytest.raises(PredictionError) as caught:
        joined_card([card(), card(input="chm", pixel_size_m=[4.0, 4.0])])
    assert "Model 1 and model 2 cannot be averaged: input DSM against CHM; pixels of 1 m against 4 m." in (
        str(caught.value)
    )


def test_all_answer_the_heights_that_are_asked() -> None:
    other = card(task=HeightGaps((2.0, 9.0)).to_dict())
    assert common_heights([card(), other], (3.0,)) == (3.0,)
    with pytest.raises(PredictionError, match="Model 1 answers 2, 5 m and model 2 2, 9 m"):
        common_heights([card(), other], None)


class Rows:
    def __init__(self, value: float, valid: list[bool]) -> None:
        self.channels, self._value, self._valid = 1, value, valid

    def rows(self, start: int, stop: int) -> tuple[Any, Any]:
        shape = (stop - start, len(self._valid))
        return np.full((1, *shape), self._value, np.float32), np.broadcast_to(self._valid, shape)

    def window(self, values: Any, valid: Any) -> Any:
        return values + 1


def test_inputs_stand_one_behind_the_other_and_count_where_all_do() -> None:
    joined = JoinedRows([Rows(1.0, [True, True]), Rows(5.0, [True, False])])
    values, valid = joined.rows(0, 1)
    assert joined.channels == 2
    assert values[:, 0, 0].tolist() == [1.0, 5.0]
    assert valid.tolist() == [[True, False]]
    assert joined.window(values, valid)[:, 0, 0].tolist() == [2.0, 6.0]
