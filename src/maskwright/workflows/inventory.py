"""Hold the trees a model finds on a raster against a list of trees that were measured there."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import DataError, RunError
from maskwright.files import read_json, write_json, write_text
from maskwright.metrics.canopy import band
from maskwright.metrics.inventory import InventoryScores, compare_inventory
from maskwright.workflows.evaluate import Progress

if TYPE_CHECKING:
    from maskwright.data.sources.inventory_file import Inventory
    from maskwright.prediction import RasterResult

__all__ = ["InventoryComparison", "evaluate_inventory", "hold_against"]

Floats = NDArray[np.float64]

_MOST_NAMED = 5
_PICTURE_PX = 1200
_FOUND, _MISSED, _EXTRA = (0, 158, 115), (220, 40, 40), (240, 228, 66)


@dataclass(frozen=True)
class InventoryComparison:
    """What came of it.

    Attributes:
        scores: The figures.
        folder: Where everything lies.
        files: By what they are: ``page``, ``numbers``, ``trees``, and those of the prediction.
        notes: What a person should know, a sentence each.
    """

    scores: InventoryScores
    folder: Path
    files: dict[str, Path]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Trees:
    """Trees on a map.

    Attributes:
        names: What each is called: its number, or its line in the list.
        xy: (N, 2) in the CRS of the raster.
        metres: (N, 2) in metres.
        species: N names; empty words where not known.
    """

    names: tuple[str, ...]
    xy: Floats
    metres: Floats
    species: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def evaluate_inventory(
    run: str | Path,
    raster: str | Path,
    inventory: str | Path,
    *,
    within_m: float = 2.0,
    crs: str | None = None,
    species: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> InventoryComparison:
    """Find the trees of a raster with the model of a run and compare them with a list.

    Args:
        run: A run folder or model folder, of a model that finds objects.
        raster: A raster with a place on the ground.
        inventory: GeoJSON, JSON or CSV, see ``read_inventory``.
        within_m: Largest distance in metres of a found tree from its listed one.
        crs: Of the inventory's coordinates; unset: what the file says, else that of the raster.
        species: What names in the list mean: listed name to class of the model, where they differ.
        out: Folder for everything; unset: ``RUN/evaluations/RASTER_INVENTORY``.
        overwrite: Replace earlier files in it.
        progress: Called with (done, total, what).

    Raises:
        DataError: If raster or list cannot be read, or do not show the same ground.
        RunError: If there are results already.
        PredictionError: If the model finds no objects, or cannot be applied to the raster.
    """
    from maskwright.config.task import OBJECTS
    from maskwright.data.sources.inventory_file import read_inventory
    from maskwright.prediction import ModelCard
    from maskwright.prediction.model_card import find_model_folder
    from maskwright.workflows.predict import predict

    raster, inventory = Path(raster), Path(inventory)
    listed = read_inventory(inventory, crs=crs)
    kind = ModelCard.load(find_model_folder(run)).task.kind
    if kind not in OBJECTS:
        raise DataError(f"{run} was trained for the task {kind} and finds no trees one by one. Leave --inventory out.")
    if not raster.is_file():
        raise DataError(f"{raster} is no file. With --inventory give one raster to --on.")
    folder = Path(run) / "evaluations" / f"{raster.stem}_{inventory.stem}" if out is None else Path(out)
    if (folder / "inventory.json").exists() and not overwrite:
        raise RunError(f"{folder} holds an earlier comparison. Choose another --out, or add --overwrite.")
    (result,) = predict(run, raster, folder, overwrite=True, progress=progress)
    comparison = hold_against(result, listed, within_m=within_m, species=species)
    return replace(comparison, files=comparison.files | result.files)


def hold_against(
    result: RasterResult,
    inventory: Inventory,
    *,
    within_m: float = 2.0,
    species: Mapping[str, str] | None = None,
) -> InventoryComparison:
    """Compare what was found on a raster with a list; files are written beside those of the prediction.

    Args:
        result: Of a model that finds objects.
        inventory: The list.
        within_m: Largest distance in metres of a pair.
        species: Listed name to class, where they differ.

    Raises:
        DataError: If the raster has no place on the ground, or they do not show the same ground.
    """
    from maskwright.prediction.geotiff import grid_of, open_raster

    summary = read_json(result.files["summary"])
    folder = result.files["summary"].parent
    notes: list[str] = []
    with open_raster(result.raster) as dataset:
        if not grid_of(dataset).is_georeferenced:
            raise DataError(f"{result.raster} has no place on the ground, so a list of trees cannot be laid on it.")
        to_metres = _metres(dataset)
        listed = _listed(inventory, dataset, result, species or {}, summary["classes"], notes)
        listed = replace(listed, metres=to_metres(listed.xy))
    found = _found(result.files["inventory"])
    found = replace(found, metres=to_metres(found.xy))
    scores = compare_inventory(
        found.metres, listed.metres, within_m=within_m, species=found.species, listed_species=listed.species
    )
    files = {"trees": folder / "inventory_trees.csv", "numbers": folder / "inventory.json"}
    write_text(files["trees"], _table(found, listed, scores))
    told = scores.to_dict() | {"verdict": band("detection_rate", scores.detection_rate), "notes": notes}
    write_json(files["numbers"], told | {"raster": str(result.raster), "inventory": str(inventory.path)})
    files["page"] = folder / "inventory.html"
    write_text(files["page"], _page(result, inventory, scores, found, listed, notes))
    return InventoryComparison(scores, folder, files, tuple(notes))


# --- both on one map --------------------------------------------------------------------------------------------------


def _metres(dataset: Any) -> Any:
    """A function from coordinates of a raster to metres from its middle; angles through a projection of its own."""
    from rasterio.crs import CRS
    from rasterio.warp import transform

    left, bottom, right, top = dataset.bounds
    middle = np.array([(left + right) / 2, (bottom + top) / 2])
    if dataset.crs is not None and dataset.crs.is_geographic:
        local = CRS.from_proj4(f"+proj=aeqd +lon_0={middle[0]:.9f} +lat_0={middle[1]:.9f} +datum=WGS84 +units=m")
        return lambda xy: np.column_stack(transform(dataset.crs, local, xy[:, 0], xy[:, 1])).reshape(-1, 2)
    unit = 1.0 if dataset.crs is None else float(dataset.crs.linear_units_factor[1])
    return lambda xy: (xy - middle) * unit


def _listed(
    inventory: Inventory,
    dataset: Any,
    result: RasterResult,
    species: Mapping[str, str],
    classes: Sequence[str],
    notes: list[str],
) -> _Trees:
    """The listed trees on the ground that was looked at; notes say what was left out or taken for granted."""
    xy = _in_crs_of(dataset, inventory, notes)
    seen = _is_seen(xy, dataset, result.files["mask"])
    if not seen.any():
        left, bottom, right, top = dataset.bounds
        low, high = xy.min(axis=0), xy.max(axis=0)
        raise DataError(
            f"None of the {len(inventory)} trees of {inventory.path} lies on {result.raster}: they lie at x "
            f"{low[0]:.9g} to {high[0]:.9g}, y {low[1]:.9g} to {high[1]:.9g}, the raster at x {left:.9g} to "
            f"{right:.9g}, y {bottom:.9g} to {top:.9g}. Say which CRS the list has (--inventory-crs), or give the "
            "raster of the same ground."
        )
    if out := int((~seen).sum()):
        notes.append(f"{out} of {len(inventory)} listed trees lie beyond the ground that was mapped and do not count")
    kept = np.flatnonzero(seen)
    names = _as_classes([inventory.species[index] for index in kept], species, classes, notes)
    return _Trees(tuple(str(index + 1) for index in kept), xy[kept], np.zeros((len(kept), 2)), names)


def _in_crs_of(dataset: Any, inventory: Inventory, notes: list[str]) -> Floats:
    from rasterio.crs import CRS
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    if inventory.crs is None:
        notes.append(f"{inventory.path.name} names no CRS: its coordinates are taken to be those of the raster")
        return inventory.xy
    if dataset.crs is None:
        raise DataError(
            f"{dataset.name} names no CRS and {inventory.path} has {inventory.crs}. Say where the raster lies, for "
            "example rio edit-info --crs EPSG:32724 raster.tif."
        )
    own = CRS.from_user_input(inventory.crs)
    if own == dataset.crs:
        return inventory.xy
    try:
        placed = np.column_stack(transform(own, dataset.crs, inventory.xy[:, 0], inventory.xy[:, 1]))
    except RasterioError as error:
        raise DataError(f"{inventory.path}: {inventory.crs} cannot be brought to the raster's CRS: {error}.") from error
    return np.asarray(placed, np.float64)


def _is_seen(xy: Floats, dataset: Any, mask: Path) -> NDArray[np.bool_]:
    """Whether coordinates lie on pixels that were mapped."""
    import rasterio

    from maskwright.pixels import IGNORE_INDEX

    with rasterio.open(mask) as cover:
        inverse = ~cover.transform
        col, row = inverse @ (xy[:, 0], xy[:, 1])
        inside = (row >= 0) & (row < cover.height) & (col >= 0) & (col < cover.width)
        seen = np.zeros(len(xy), np.bool_)
        codes = [value[0] for value in cover.sample(xy[inside].tolist())]
        seen[inside] = np.array(codes, np.int64) != IGNORE_INDEX
    return seen


def _as_classes(
    species: Sequence[str], meant: Mapping[str, str], classes: Sequence[str], notes: list[str]
) -> tuple[str, ...]:
    """Listed names as classes of the model, whatever their case; names it does not know become empty words."""
    own = {name.casefold(): name for name in classes}
    wanted = {name.casefold(): value for name, value in meant.items()}
    for name, value in meant.items():
        if value.casefold() not in own:
            raise DataError(f"--species {name}={value}: the model knows {', '.join(classes)}. Name one of them.")
    found = [own.get(wanted.get(name.casefold(), name).casefold(), "") for name in species]
    unknown = Counter(name for name, known in zip(species, found, strict=True) if name and not known)
    if unknown:
        told = ", ".join(f"{name} ({count})" for name, count in unknown.most_common(_MOST_NAMED))
        notes.append(
            f"species the model does not know count as trees, and not for the species: {told}; say what they mean with "
            '--species "NAME=CLASS"'
        )
    return tuple(found)


def _found(table: Path) -> _Trees:
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    xy = np.array([(float(row["x"]), float(row["y"])) for row in rows], np.float64).reshape(-1, 2)
    names, species = (tuple(row[name] for row in rows) for name in ("tree_id", "class"))
    return _Trees(names, xy, np.zeros_like(xy), species)


# --- what is told -----------------------------------------------------------------------------------------------------


def _table(found: _Trees, listed: _Trees, scores: InventoryScores) -> str:
    """A line for each tree: found and listed, listed only (missed), found only (extra)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["status", "tree_id", "listed", "x", "y", "distance_m", "class", "listed_class"])
    pairs = scores.pairs.tolist()
    for (one, other), distance in zip(pairs, scores.distances_m.tolist(), strict=True):
        x, y = listed.xy[other].tolist()
        names = (found.species[one], listed.species[other])
        writer.writerow(["found", found.names[one], listed.names[other], x, y, round(distance, 3), *names])
    for index in sorted(set(range(len(listed))) - {other for _, other in pairs}):
        writer.writerow(["missed", "", listed.names[index], *listed.xy[index].tolist(), "", "", listed.species[index]])
    for index in sorted(set(range(len(found))) - {one for one, _ in pairs}):
        writer.writerow(["extra", found.names[index], "", *found.xy[index].tolist(), "", found.species[index], ""])
    return text.getvalue()


def _page(
    result: RasterResult,
    inventory: Inventory,
    scores: InventoryScores,
    found: _Trees,
    listed: _Trees,
    notes: Sequence[str],
) -> str:
    from maskwright.pictures import figure, page, paragraph, sentences, table

    within = f"{scores.within_m:g} m"
    rows: list[list[object]] = [
        ["trees listed", scores.count.true],
        ["trees found", scores.count.called],
        [f"detection rate, within {within}", f"{_percent(scores.detection_rate)}"],
        ["verdict", band("detection_rate", scores.detection_rate)],
        ["precision", _percent(scores.precision)],
        ["F1", scores.f1],
        ["accuracy of the count", _percent(scores.count.accuracy)],
        ["distance of pairs, mean", _metres_text(scores.error_mean_m)],
        ["distance of pairs, median", _metres_text(scores.error_median_m)],
        ["shift of the map, x and y", ", ".join(_metres_text(part) for part in scores.offset_m)],
        ["of a known species, right", f"{_percent(scores.species_accuracy)} of {scores.species_compared}"],
    ]
    near: list[list[object]] = [
        [f"within {reach:g} m", _percent(share)] for reach, share in scores.found_within.items()
    ]
    sections = [("Result", [table(("figure", "value"), rows), table(("listed trees found", "share"), near)])]
    if scores.per_species:
        each: list[list[object]] = [[name, *counts.values()] for name, counts in scores.per_species.items()]
        sections.append(("Species", [table(("species", "listed", "found", "called so"), each)]))
    if "overlay" in result.files:
        picture = _drawn(result, found, listed, scores)
        told = "Green: found and listed. Red: listed and missed. Yellow: found and not listed."
        sections.append(("Map", [figure(picture, told)]))
    sections.append(("Notes", [sentences(list(notes))] if notes else [paragraph("Nothing was left out.")]))
    return page(f"{result.raster.stem} against {inventory.path.name}", sections)


def _drawn(result: RasterResult, found: _Trees, listed: _Trees, scores: InventoryScores) -> Any:
    """Trees as dots on the picture of the prediction."""
    import PIL.Image
    import PIL.ImageDraw

    from maskwright.prediction.class_overlay import LIMIT_PX
    from maskwright.prediction.geotiff import open_raster

    with PIL.Image.open(result.files["overlay"]) as image:
        sheet = image.convert("RGB")
    with open_raster(result.files["mask"]) as seen:  # of the pixels the picture is made of
        inverse, factor = ~seen.transform, -(-max(seen.shape) // LIMIT_PX)
    larger = max(1, _PICTURE_PX // max(sheet.size))
    sheet = sheet.resize((sheet.width * larger, sheet.height * larger), PIL.Image.Resampling.BICUBIC)
    draw = PIL.ImageDraw.Draw(sheet)
    pairs = scores.pairs
    matched, extra = set(pairs[:, 1].tolist()), set(range(len(found))) - set(pairs[:, 0].tolist())
    dots = [(listed.xy[index], _FOUND if index in matched else _MISSED) for index in range(len(listed))]
    dots += [(found.xy[index], _EXTRA) for index in sorted(extra)]
    for xy, color in dots:
        col, row = inverse @ (float(xy[0]), float(xy[1]))
        x, y = col / factor * larger, row / factor * larger
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=color, outline=(255, 255, 255), width=2)
    sheet.thumbnail((_PICTURE_PX, _PICTURE_PX))
    return sheet


def _metres_text(value: float) -> str:
    return "-" if value != value else f"{value:.2f} m"


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.1f}%"
