"""From the files of a prediction to what the window shows of it; for other threads than the window's. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtGui import QImage

from maskwright.desktop.model_facts import ModelFacts
from maskwright.desktop.pictures_view import ICON_PX, NOT_VALID, Layer, Preview, load_picture
from maskwright.errors import PredictionError
from maskwright.pictures import RGB, height_colors, shade, stretched
from maskwright.pictures.colors import class_colors

__all__ = ["make_icon", "make_preview"]

_MOST_PX = 1400  # the longer side of what is shown
_FINISHED = ("overlay", "quicklook")  # pictures that a prediction writes, with what was found
_RASTERS = (".tif", ".tiff", ".vrt", ".img", ".asc", ".jp2")

Rgb = NDArray[np.uint8]
Levels = NDArray[np.uint8]


def make_icon(row: Mapping[str, Any]) -> QImage:
    """A small picture of one result: the finished one if there is one, else the input.

    Args:
        row: A result as the prediction tells it (``input``, ``files``).

    Raises:
        PredictionError: If the picture cannot be read.
    """
    finished = _finished(row)
    if finished is not None:
        return load_picture(finished, most_px=ICON_PX)
    return _picture(Path(row["input"]), ICON_PX, is_image=True)


def make_preview(row: Mapping[str, Any], model: ModelFacts) -> Preview:
    """The input and, where probabilities were written, a layer for each class or height; else the finished picture.

    Args:
        row: A result as the prediction tells it: ``input``, ``files``, ``heights_m``, ``per_class``.
        model: What predicted it.

    Raises:
        PredictionError: If a file cannot be read.
    """
    levels = _levels(row)
    if levels is None or model.task == "height":
        finished = _finished(row)
        if finished is not None:
            return Preview(load_picture(finished, most_px=_MOST_PX), threshold=model.threshold)
        return Preview(_picture(Path(row["input"]), _MOST_PX, is_image=model.sees_images), threshold=model.threshold)
    names, colors = _names_and_colors(row, model)
    if model.task == "multiclass":
        likeliest = np.where(levels == NOT_VALID, 0, levels).argmax(axis=0)
        for number, plane in enumerate(levels):
            plane[(likeliest != number) & (plane != NOT_VALID)] = 0
    layers = [Layer(*each) for each in zip(names, colors, map(_grey, levels), strict=True)]
    threshold = 0.01 if model.task == "multiclass" else model.threshold  # of excluding classes the likeliest is called
    picture = _picture(Path(row["input"]), _MOST_PX, is_image=model.sees_images)
    return Preview(picture, tuple(layers[model.has_background :]), threshold)


def _finished(row: Mapping[str, Any]) -> Path | None:
    return next((Path(row["files"][name]) for name in _FINISHED if name in row["files"]), None)


def _names_and_colors(row: Mapping[str, Any], model: ModelFacts) -> tuple[list[str], Sequence[RGB]]:
    heights = row["heights_m"]
    if heights:
        return [f"below {height:g} m" for height in heights], height_colors(len(heights))
    names = [str(one["class"]) for one in row["per_class"]]
    return names, class_colors(len(names), has_background=model.has_background)


# --- probabilities ----------------------------------------------------------------------------------------------------


def _levels(row: Mapping[str, Any]) -> Levels | None:
    """(K, h, w) of 254 times the probabilities that were written, 255 where nothing counts; None: none were."""
    files = row["files"]
    if "probability" in files:
        return _to_levels(_floats(_thinned(Path(files["probability"]), _MOST_PX)))
    names = [str(one["class"]) for one in row["per_class"]]
    own = [files.get(f"probability {name}") for name in names]
    if not own or None in own:
        return None
    return np.concatenate([_to_levels(_plane(Path(path))) for path in own])


def _plane(path: Path) -> NDArray[np.float32]:
    """(1, h, w) of a file that holds the probabilities of one class: 8 bits, or floats."""
    if path.suffix != ".png":
        return _floats(_thinned(path, _MOST_PX))
    image = load_picture(path, most_px=_MOST_PX).convertToFormat(QImage.Format.Format_Grayscale8)
    return _bytes_of(image)[None].astype(np.float32) / np.float32(255)


def _to_levels(probs: NDArray[np.float32]) -> Levels:
    levels = np.rint(np.nan_to_num(np.clip(probs, 0, 1), nan=0.0) * (NOT_VALID - 1)).astype(np.uint8)
    levels[~np.isfinite(probs)] = NOT_VALID
    return levels


# --- pictures ---------------------------------------------------------------------------------------------------------


def _picture(path: Path, most_px: int, *, is_image: bool) -> QImage:
    """The input as people see it: a photograph, bands stretched, or the relief of heights."""
    if path.suffix.lower() not in _RASTERS:
        return load_picture(path, most_px=most_px)
    bands = _thinned(path, most_px)
    if is_image:
        odd = ~np.isfinite(bands.data) | np.ma.getmaskarray(bands)
        return _color(stretched(np.where(odd, 0, bands.data).astype(bands.dtype), ~odd.any(axis=0)))
    return _color(shade(_floats(bands)[0]))


def _floats(bands: np.ma.MaskedArray[Any, Any]) -> NDArray[np.float32]:
    """NaN where nothing was measured."""
    values: NDArray[np.float32] = np.ma.filled(bands.astype(np.float32), np.nan)
    return values


def _thinned(path: Path, most_px: int) -> np.ma.MaskedArray[Any, Any]:
    """(C, h, w) of a raster, thinned out while it is read; masked where nothing was measured."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(path) as raster:
            step = max(1.0, max(raster.height, raster.width) / most_px)
            shape = (raster.count, math.ceil(raster.height / step), math.ceil(raster.width / step))
            bands: np.ma.MaskedArray[Any, Any] = raster.read(out_shape=shape, masked=True)
    except RasterioError as cause:
        raise PredictionError(f"{path} cannot be shown: {cause}") from cause
    return bands


def _color(rgb: Rgb) -> QImage:
    height, width = rgb.shape[:2]
    return QImage(np.ascontiguousarray(rgb).tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888).copy()


def _grey(levels: Levels) -> QImage:
    height, width = levels.shape
    data = np.ascontiguousarray(levels).tobytes()
    return QImage(data, width, height, width, QImage.Format.Format_Indexed8).copy()


def _bytes_of(image: QImage) -> NDArray[np.uint8]:
    """(h, w) of an 8-bit image, without the padding of its rows."""
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : image.width()].copy()
