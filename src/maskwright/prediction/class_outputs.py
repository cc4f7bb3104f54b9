"""What is written for classes, and how: names, colours, tags, PNGs or GeoTIFFs, polygons, overlay."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.errors import PredictionError
from maskwright.files import explain_os_error
from maskwright.pictures import RGB
from maskwright.pictures.colors import PAPER, class_colors
from maskwright.pixels import IGNORE_INDEX
from maskwright.prediction.class_overlay import (
    draw_overlay,
    save_binary,
    save_palette,
    save_probability,
)
from maskwright.prediction.geotiff import copy_to_cog, mask_reader, open_raster
from maskwright.prediction.outputs import Progress
from maskwright.prediction.qgis_style import class_style, ramp_style
from maskwright.prediction.vectorise import ClassPlane, vectorise_classes

__all__ = ["ClassPlan", "class_endings", "write_outputs"]

_TAKEN = ("mask", "overlay", "side_by_side", "objects", "summary", "probability", "uncertainty")
_BETWEEN_PX = 8  # between two pictures


@dataclass(frozen=True)
class ClassPlan:
    """What is written for one image.

    Attributes:
        names: The K classes.
        exclusive: They exclude each other: one plane of class ids; else a plane for each.
        has_background: Class 0 is the background; it is no object.
        thresholds: K probabilities above which a class is called.
        photograph: PNGs; else GeoTIFFs.
        probabilities: Written too.
        probability_ending: ``png`` or ``tif``.
        polygons: ``gpkg``, ``geojson`` or None.
        overlay: Written too.
        side_by_side: The image and the overlay in one picture as well.
        style: Style files for QGIS are written beside rasters and polygons.
        sha256: Of the weights.
    """

    names: tuple[str, ...]
    exclusive: bool
    has_background: bool
    thresholds: tuple[float, ...]
    photograph: bool
    probabilities: bool
    probability_ending: str
    polygons: str | None
    overlay: bool
    style: bool
    sha256: str
    side_by_side: bool = False

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def planes(self) -> int:
        """Bands of the mask."""
        return 1 if self.exclusive else self.num_classes

    @property
    def plane_names(self) -> tuple[str, ...]:
        return ("class",) if self.exclusive else self.names

    @property
    def where(self) -> list[tuple[str, int, int, int]]:
        """For each class its name, band of the mask from 1, code in it, band of the probabilities from 1."""
        if self.exclusive:
            return [(name, 1, k, k + 1) for k, name in enumerate(self.names)]
        return [(name, k + 1, 1, k + 1) for k, name in enumerate(self.names)]

    @cached_property
    def colors(self) -> list[RGB]:
        return class_colors(self.num_classes, has_background=self.has_background)

    @property
    def color_table(self) -> dict[int, tuple[int, ...]] | None:
        """Colours of the values of a mask of one band."""
        if self.planes > 1:
            return None
        if self.exclusive:
            colors: dict[int, tuple[int, ...]] = {k: (*color, 255) for k, color in enumerate(self.colors)}
            return colors | {IGNORE_INDEX: (0, 0, 0, 0)}
        return {0: (0, 0, 0, 255), 1: (*self.colors[0], 255), IGNORE_INDEX: (0, 0, 0, 0)}

    @property
    def tags(self) -> dict[str, str]:
        """Facts kept in GeoTIFFs."""
        facts = {"MASKWRIGHT_MODEL_SHA256": self.sha256, "MASKWRIGHT_CLASSES": ",".join(self.names)}
        if not self.exclusive:
            facts["MASKWRIGHT_PROBABILITY_THRESHOLDS"] = ",".join(f"{value:g}" for value in self.thresholds)
        return facts

    def reader(self, mask: Any, band: int, code: int) -> Callable[[int, int], npt.NDArray[np.bool_]]:
        """Rows of a mask as bool, True where it holds a class."""
        return mask_reader(mask, band, code)


def class_endings(names: Sequence[str]) -> tuple[str, ...]:
    """Everything that may be written for classes, without the stem of the input."""
    styles = ("mask.qml", "objects.qml", "probability.qml")
    shared = (
        "mask.png",
        "mask.tif",
        "overlay.png",
        "side_by_side.png",
        "probability.tif",
        "uncertainty.tif",
        "objects.gpkg",
        "objects.geojson",
        *styles,
    )
    labels = _file_labels(names)
    own = [f"{label}{end}" for label in labels for end in (".png", "_probability.png", "_probability.tif")]
    return (*shared, "summary.json", *own)


def write_outputs(
    plan: ClassPlan,
    folder: Path,
    stem: str,
    mask: Path,
    probs: Path | None,
    *,
    overlay: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None,
    per_class: Sequence[Mapping[str, Any]],
    pixel_m2: float | None,
    progress: Progress,
) -> dict[str, Path]:
    """Write the files a person asked for into ``folder``.

    Args:
        plan: What is asked for.
        folder: Where.
        stem: Name of the input.
        mask: Raster of codes.
        probs: Raster of probabilities, if there is one.
        overlay: Picture (h, w, 3) and codes (P, h, w), both thinned out alike.
        per_class: Statistics, for the legend.
        pixel_m2: Ground that a pixel covers.
        progress: Told what is being done.

    Returns:
        The files by what they are.

    Raises:
        PredictionError: If one cannot be written.
    """
    files: dict[str, Path] = {}
    if plan.polygons is not None:
        progress(0, 1, "polygons")
        files["polygons"] = folder / f"{stem}_objects.{plan.polygons}"
        planes = [ClassPlane(*place) for place in plan.where[plan.has_background :]]
        vectorise_classes(mask, files["polygons"], planes, pixel_m2=pixel_m2, probabilities=probs)
    if plan.photograph:
        files |= _photographs(plan, folder, stem, mask, probs)
    else:
        progress(0, 1, "rasters")
        files["mask"] = folder / f"{stem}_mask.tif"
        copy_to_cog(mask, files["mask"], resampling="nearest")
        if plan.probabilities and probs is not None:
            files["probability"] = folder / f"{stem}_probability.tif"
            copy_to_cog(probs, files["probability"], resampling="average")
    files |= _styles(plan, folder, stem, files)
    if overlay is not None:
        files["overlay"] = folder / f"{stem}_overlay.png"
        _overlay(plan, files["overlay"], *overlay, per_class)
        if plan.side_by_side:
            files["side_by_side"] = folder / f"{stem}_side_by_side.png"
            _side_by_side(files["side_by_side"], overlay[0], files["overlay"])
    return files


def _styles(plan: ClassPlan, folder: Path, stem: str, files: Mapping[str, Path]) -> dict[str, Path]:
    """Styles for QGIS of the polygons, and of rasters with a place on the ground."""
    if not plan.style:
        return {}
    styles: dict[str, Path] = {}
    if "polygons" in files:
        styles["polygon_style"] = folder / f"{stem}_objects.qml"
    if not plan.photograph:
        styles["style"] = folder / f"{stem}_mask.qml"
    shown = [
        (name, code, None if plan.has_background and code == 0 else color)
        for (name, _, code, _), color in zip(plan.where, plan.colors, strict=True)
    ]
    class_style(styles.get("style"), styles.get("polygon_style"), shown)
    if "probability" in files:
        styles["probability_style"] = folder / f"{stem}_probability.qml"
        ramp_style(styles["probability_style"])
    return styles


def _photographs(plan: ClassPlan, folder: Path, stem: str, mask: Path, probs: Path | None) -> dict[str, Path]:
    files: dict[str, Path] = {}
    labels = _file_labels(plan.names)
    with open_raster(mask) as dataset:
        planes = dataset.read()
    if plan.exclusive:
        files["mask"] = folder / f"{stem}_mask.png"
        save_palette(files["mask"], planes[0], plan.colors)
    elif plan.num_classes == 1:
        files["mask"] = folder / f"{stem}_mask.png"
        save_binary(files["mask"], planes[0])
    else:
        for name, label, plane in zip(plan.names, labels, planes, strict=True):
            files[f"mask {name}"] = folder / f"{stem}_{label}.png"
            save_binary(files[f"mask {name}"], plane)
    if plan.probabilities and probs is not None:
        with open_raster(probs) as dataset:
            for band, (name, label) in enumerate(zip(plan.names, labels, strict=True), start=1):
                path = folder / f"{stem}_{label}_probability.{plan.probability_ending}"
                save_probability(path, dataset.read(band))
                files[f"probability {name}"] = path
    return files


def _overlay(
    plan: ClassPlan,
    path: Path,
    rgb: npt.NDArray[np.uint8],
    codes: npt.NDArray[np.uint8],
    per_class: Sequence[Mapping[str, Any]],
) -> None:
    masks = []
    for (name, band, code, _), row, color in zip(plan.where, per_class, plan.colors, strict=True):
        if plan.has_background and code == 0:
            continue
        share = "" if row["share"] is None else f": {row['share']:.1%}"
        masks.append((f"{name}{share}", codes[band - 1] == code, color))
    draw_overlay(path, rgb, masks)


def _side_by_side(path: Path, rgb: npt.NDArray[np.uint8], overlay: Path) -> None:
    """The image on the left, what was found in it on the right."""
    with Image.open(overlay) as right:
        sheet = Image.new("RGB", (rgb.shape[1] + _BETWEEN_PX + right.width, max(rgb.shape[0], right.height)), PAPER)
        sheet.paste(Image.fromarray(rgb), (0, 0))
        sheet.paste(right, (rgb.shape[1] + _BETWEEN_PX, 0))
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise PredictionError(explain_os_error(error, path)) from error


def _file_labels(names: Sequence[str]) -> list[str]:
    """Names of classes as parts of file names, all different."""
    labels: list[str] = []
    for index, name in enumerate(names):
        label = re.sub(r"[^\w-]+", "_", name).strip("_") or "class"
        if label in labels or label in _TAKEN:
            label = f"{label}_{index}"
        labels.append(label)
    return labels
