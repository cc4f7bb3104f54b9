"""What goes into ``model.json``: everything prediction must repeat of a training."""

from __future__ import annotations

from typing import Any

from maskwright.config import HeightGapsTask, HeightRastersData
from maskwright.workflows.assemble import Parts, trained_heights
from maskwright.workflows.operating_point import OperatingPoint

__all__ = ["describe_model"]


def describe_model(parts: Parts, point: OperatingPoint | None = None) -> dict[str, Any]:
    """Plain values.

    Args:
        parts: What the run is made of.
        point: Where probabilities are cut; unset: where the settings say.
    """
    experiment, task = parts.experiment, parts.task
    point = point or OperatingPoint.fixed(task, experiment.metrics.probability_threshold)
    threshold = point.thresholds[0] if point.thresholds else experiment.metrics.probability_threshold
    told = task.to_dict()
    if "probability_threshold" in told:
        told["probability_threshold"] = threshold
    return {
        "task": told,
        "model": experiment.model.model_dump(mode="json"),
        "in_channels": parts.source.in_channels,
        "batch_size": experiment.data.loader.batch_size,
        "normaliser": _normaliser(parts),
        "tile_px": experiment.data.tiles.size_px,
        "probability_threshold": threshold,
        **point.describe(),
        "prediction": experiment.prediction.to_dict(),
        **(_of_images(parts) if experiment.data.kind == "images" else _of_heights(parts)),
    }


def _normaliser(parts: Parts) -> dict[str, Any]:
    normaliser: Any = parts.source.normaliser  # of images: fitted when the parts were assembled
    described: dict[str, Any] = normaliser.to_dict()
    return described


def _of_images(parts: Parts) -> dict[str, Any]:
    source = parts.images
    trained = sorted({place.scene for place in parts.split.tiles["train"]})
    sizes = [size for scene in trained if (size := source.pixel_size_m(scene)) is not None]
    return {
        "input": "image",
        "image": source.format.to_dict(),
        "band_names": list(source.band_names),
        "dtype": source.dtype,
        "classes": list(source.classes.names),
        "class_table": source.classes.to_dict(),
        "heights_m": [],
        "pixel_size_m": [min(sizes), max(sizes)] if len(sizes) == len(trained) else None,
    }


def _of_heights(parts: Parts) -> dict[str, Any]:
    data, task, source = parts.experiment.data, parts.experiment.task, parts.rasters
    assert isinstance(data, HeightRastersData)
    train_scenes = {place.scene for place in parts.split.tiles["train"]}
    sizes = [scene.grid.pixel_size_m for scene in source.scenes if scene.name in train_scenes]
    asked = task if isinstance(task, HeightGapsTask) else None
    return {
        "input": data.input,
        "context": list(getattr(data, "context", ())),
        "heights_m": list(parts.heights_m),
        "trained_range_m": None if asked is None else list(trained_heights(parts.experiment, asked)),
        "condition_scale": None if asked is None else asked.condition_scale_m,
        "pixel_size_m": [min(sizes), max(sizes)],
        "nodata": _nodata_rules(data),
    }


def _nodata_rules(data: HeightRastersData) -> dict[str, float | str | None]:
    """What means "not measured", by kind of raster, where the files do not say it themselves."""
    return {"dsm": data.nodata, "chm": data.nodata if data.chm_nodata == "tag" else data.chm_nodata}
