"""What an exported file says of itself: all that prediction needs, and the keys that the QGIS plugin Deepness reads.

The keys follow the plugin's documentation, pages "Adding metadata to ONNX model" and "Model classes and requirements"
(qgis-plugin-deepness.readthedocs.io, under "For Model Creators"), and what its reader does with them: values are JSON;
the tile is read from ``tile_size`` though the page says ``tiles_size``; a model has one input (B, C, S, S) with S a
number, is given 8-bit pixels divided by 255, and answers probabilities (B, K, S, S).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from maskwright.errors import PredictionError
from maskwright.files import json_text
from maskwright.prediction.export_formats import METADATA_KEY
from maskwright.prediction.model_card import ModelCard
from maskwright.tasks.classes import ClassTask
from maskwright.tasks.height_gaps import HeightGaps

__all__ = ["check_for_qgis", "describe_export", "metadata_of", "qgis_keys", "qgis_notes"]


def describe_export(
    description: Mapping[str, Any], card: ModelCard, heights_m: Sequence[float], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``model.json`` holds, with the heights of the file, and under ``export`` what was made of the model.

    Args:
        description: Of the model folder.
        card: Of the same model.
        heights_m: Heights in metres the file answers by default; empty for other tasks.
        facts: Plain values for ``export``.
    """
    told = dict(description)
    if isinstance(card.task, HeightGaps):
        told["task"] = {**told["task"], "heights_m": list(heights_m)}
        told["heights_m"] = list(heights_m)
        if tuple(heights_m) != card.task.heights_m:  # asked for in words, so no older wish may stand above them
            told["prediction"] = {**told["prediction"], "heights_m": None}
    told["export"] = dict(facts)
    return told


def metadata_of(described: Mapping[str, Any], card: ModelCard) -> dict[str, str]:
    """Keys and texts for the file: everything under one key, and what people look for under its own name."""
    keys = {METADATA_KEY: json_text(described), "temperature": json_text(card.temperature)}
    keys["heights_m"] = json_text(described.get("heights_m", []))
    if isinstance(card.task, HeightGaps):
        keys["probability_threshold"] = json_text(card.task.probability_threshold)
    elif card.thresholds:
        keys["probability_thresholds"] = json_text(dict(zip(card.task.class_names, card.thresholds, strict=True)))
    return keys


def check_for_qgis(card: ModelCard) -> None:
    """Refuse models that Deepness cannot feed.

    Raises:
        PredictionError: If the model does not see 8-bit pixels, or answers no classes.
    """
    if not isinstance(card.task, ClassTask) or card.image is None:
        raise PredictionError(
            "Deepness gives a model pixels of 8 bits, and this one sees heights in metres. Map them with maskwright "
            "predict and open the GeoTIFFs in QGIS, or export without --qgis."
        )
    if card.dtype != "uint8":
        raise PredictionError(
            f"Deepness gives a model pixels of 8 bits, and this one was trained on {card.dtype or 'another type'}. "
            "Map images with maskwright predict and open the GeoTIFFs in QGIS, or export without --qgis."
        )


def qgis_keys(card: ModelCard, tile_px: int) -> dict[str, str]:
    """The keys Deepness reads, for a file of probabilities that normalises by itself."""
    bands = card.in_channels
    keys: dict[str, object] = {
        "model_type": "Segmentor",
        "class_names": {str(k): name for k, name in enumerate(card.task.class_names)},
        "tile_size": tile_px,
        "tiles_size": tile_px,
        "tiles_overlap": min(50, round(100 * card.prediction.overlap)),
        # Of classes that exclude each other the largest is called, without a threshold: 0 switches it off.
        "seg_thresh": 0.0 if card.task.kind == "multiclass" else max(card.thresholds),
        "seg_small_segment": 0,
        "standardization_mean": [0.0] * bands,
        "standardization_std": [1.0] * bands,
    }
    resolution = _resolution_cm(card)
    if resolution is not None:
        keys["resolution"] = resolution
    return {name: json.dumps(value, ensure_ascii=False) for name, value in keys.items()}


def qgis_notes(card: ModelCard) -> tuple[str, ...]:
    """What Deepness cannot be told."""
    notes = []
    if _resolution_cm(card) is None:
        notes.append("the size of a pixel is not known, so set the resolution in the plugin")
    if card.task.kind == "multilabel":
        notes.append("Deepness calls one class for each pixel; where labels overlap it shows the likelier one")
        if len(set(card.thresholds)) > 1:
            notes.append(f"Deepness has one threshold for all labels; the highest of theirs, {max(card.thresholds):g}")
    if card.image is not None and card.image.resize_px is not None:
        rows, cols = card.image.resize_px
        notes.append(f"training resized images to {rows} x {cols} px; set the plugin's resolution accordingly")
    return tuple(notes)


def _resolution_cm(card: ModelCard) -> float | None:
    """Centimetres of a pixel, the middle of those trained on; None if unknown."""
    if card.pixel_size_m is not None:
        return round(50.0 * sum(card.pixel_size_m), 4)
    if card.image is not None and card.image.pixel_size_m is not None:
        return round(100.0 * card.image.pixel_size_m, 4)
    return None
