"""Several models as one: what must be alike in them, the card of all together, and their inputs side by side."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from maskwright.errors import PredictionError
from maskwright.prediction.model_card import PIXEL_TOLERANCE, ModelCard
from maskwright.prediction.raster_stream import SceneRows
from maskwright.tasks.height_gaps import HeightGaps

__all__ = ["JoinedRows", "common_heights", "joined_card"]


class JoinedRows:
    """The inputs of several networks from one scene, their channels one behind the other.

    Args:
        scenes: One for each network, all of one size.
    """

    def __init__(self, scenes: Sequence[SceneRows]) -> None:
        self._scenes = tuple(scenes)
        stops = np.cumsum([scene.channels for scene in scenes])
        self._parts = [slice(stop - scene.channels, stop) for scene, stop in zip(scenes, stops, strict=True)]

    @property
    def channels(self) -> int:
        """Bands of all networks together."""
        return sum(scene.channels for scene in self._scenes)

    def rows(self, start: int, stop: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """As of each scene; a pixel is valid where it is for all."""
        found = [scene.rows(start, stop) for scene in self._scenes]
        valid: npt.NDArray[np.bool_] = np.logical_and.reduce([part for _, part in found])
        return np.concatenate([values for values, _ in found]), valid

    def window(self, values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """As of each scene."""
        parts = zip(self._scenes, self._parts, strict=True)
        return np.concatenate([scene.window(values[part], valid) for scene, part in parts])


def joined_card(cards: Sequence[ModelCard]) -> ModelCard:
    """The card of all together: the first's, with the mean operating point and the narrowest range of heights.

    Raises:
        PredictionError: If they answer different questions or see different things; says what differs.
    """
    first = cards[0]
    for number, card in enumerate(cards[1:], start=2):
        found = _differences(first, card)
        if found:
            raise PredictionError(
                f"Model 1 and model {number} cannot be averaged: {'; '.join(found)}. Take models of one task on the "
                "same kind of data."
            )
    if len(cards) == 1:
        return first
    task: Any = copy.copy(first.task)
    tasks: list[Any] = [card.task for card in cards]
    if hasattr(task, "probability_threshold"):
        task.probability_threshold = float(np.mean([each.probability_threshold for each in tasks]))
    return replace(
        first,
        task=task,
        thresholds=tuple(float(cut) for cut in np.mean([card.thresholds for card in cards], axis=0)),
        trained_range_m=(
            max(card.trained_range_m[0] for card in cards),
            min(card.trained_range_m[1] for card in cards),
        ),
        tile_px=max(card.tile_px for card in cards),
        sha256=",".join(card.sha256 for card in cards),
    )


def common_heights(cards: Sequence[ModelCard], heights_m: Sequence[float] | None) -> tuple[float, ...]:
    """The heights that all answer.

    Raises:
        PredictionError: If one cannot answer them, or none were named and the models have different ones.
    """
    found = [card.heights(heights_m) for card in cards]
    for number, heights in enumerate(found[1:], start=2):
        if heights != found[0]:
            one, other = (", ".join(f"{height:g}" for height in each) for each in (found[0], heights))
            raise PredictionError(
                f"Model 1 answers {one} m and model {number} {other} m. Name heights that both answer (--heights)."
            )
    return found[0]


def _differences(one: ModelCard, other: ModelCard) -> list[str]:
    """What keeps two models from being averaged, a phrase each."""
    pairs: list[tuple[str, object, object]] = [
        ("task", one.task.kind, other.task.kind),
        ("classes", list(one.task.class_names), list(other.task.class_names)),
        ("input", _input(one), _input(other)),
    ]
    if one.dtype is not None and other.dtype is not None:
        pairs.append(("type of the values", one.dtype, other.dtype))
    if one.task.class_names:
        pairs.append(("background", one.has_background, other.has_background))
    if isinstance(one.task, HeightGaps) and isinstance(other.task, HeightGaps) and one.task.fixed and other.task.fixed:
        pairs.append(("heights", list(one.task.heights_m), list(other.task.heights_m)))
    found = [f"{what} {left} against {right}" for what, left, right in pairs if left != right]
    if one.pixel_size_m is not None and other.pixel_size_m is not None:
        (low, high), (other_low, other_high) = one.pixel_size_m, other.pixel_size_m
        slack = 1 + PIXEL_TOLERANCE
        if low > other_high * slack or other_low > high * slack:
            found.append(f"pixels of {_range(low, high)} against {_range(other_low, other_high)}")
    return found


def _input(card: ModelCard) -> str:
    if card.image is None:
        return " and ".join(band.upper() for band in card.bands)
    bands = "all bands" if card.image.bands is None else f"bands {list(card.image.bands)}"
    told = {
        name: value for name, value in card.image.to_dict().items() if name != "bands" and value not in (None, "auto")
    }
    return f"images of {card.in_channels} bands ({bands}{''.join(f', {name} {value}' for name, value in told.items())})"


def _range(low: float, high: float) -> str:
    return f"{low:g} m" if low == high else f"{low:g} to {high:g} m"
