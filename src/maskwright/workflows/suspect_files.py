"""What is written about doubtful labels: a table, polygons, a list of files to correct, a page with pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.data.loaders import EvalLoader
from maskwright.data.sources.images import ImageScenes
from maskwright.errors import RunError
from maskwright.files import explain_os_error, write_text
from maskwright.pictures import figure, page, paragraph, sentences, table
from maskwright.types import Place, Window
from maskwright.workflows.doubtful import Doubt
from maskwright.workflows.evaluate_run import Scored
from maskwright.workflows.label_next import Area
from maskwright.workflows.sample_pictures import sample_sheet

if TYPE_CHECKING:
    from maskwright.workflows.assemble import Parts

__all__ = ["write_suspects"]

_MOST_DRAWN = 40
_COLUMNS = {"rank": int, "scene": object, "part": object, "of": object, "doubt": object, "confidence": float}
_HEAD = ["rank", "part", "scene", "of", "doubt", "row", "col", "height_px", "width_px", "area_px", "confidence"]


def write_suspects(
    folder: Path,
    parts: Parts,
    doubts: Sequence[Doubt],
    judges: Mapping[int, Scored],
    areas: Sequence[Area],
    about: Sequence[str],
    run: Path,
) -> dict[str, Path]:
    """Write everything into ``folder``.

    Args:
        folder: Made if missing.
        parts: The data.
        doubts: The ranking.
        judges: Rank to the model that judged it.
        areas: Unlabelled areas to label next.
        about: What the ranking can be trusted for.
        run: The run.

    Raises:
        RunError: If a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(explain_os_error(error, folder)) from error
    files = {
        "page": folder / "suspects.html",
        "table": folder / "suspects.csv",
        "list": folder / "files_to_correct.txt",
    }
    write_text(files["table"], _csv(parts, doubts))
    write_text(files["list"], "".join(f"{path}\n" for path in _labels(parts, doubts)))
    for number, (crs, scenes) in enumerate(_by_crs(parts).items(), start=1):
        mine = [one for one in doubts if one.scene in scenes]
        if mine:
            name = "polygons" if number == 1 else f"polygons {number}"
            files[name] = folder / ("suspects.gpkg" if number == 1 else f"suspects_{number}.gpkg")
            _polygons(files[name], crs, parts, mine)
    if areas:
        files["next"] = folder / "label_next.csv"
        write_text(files["next"], _areas_csv(areas))
        files |= _area_polygons(folder, areas)
    _page(files["page"], parts, doubts, judges, areas, about, run)
    return files


def _rows(doubts: Sequence[Doubt]) -> list[list[Any]]:
    return [
        [
            one.rank,
            one.part,
            one.scene,
            one.column,
            "labelled, not found" if one.labelled else "found, not labelled",
            one.window.row,
            one.window.col,
            one.window.height,
            one.window.width,
            one.area_px,
            round(one.confidence, 4),
        ]
        for one in doubts
    ]


def _csv(parts: Parts, doubts: Sequence[Doubt]) -> str:
    scenes = {scene.name: scene for scene in parts.source.scenes}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_HEAD, "weight", "judged_by", "x", "y", "files"])
    for one, row in zip(doubts, _rows(doubts), strict=True):
        scene = scenes[one.scene]
        x, y = "", ""
        if scene.grid.is_georeferenced:
            a, b, c, d, e, f = scene.grid.transform
            col, line = one.window.col + one.window.width / 2, one.window.row + one.window.height / 2
            x, y = f"{a * col + b * line + c:.3f}", f"{d * col + e * line + f:.3f}"
        writer.writerow([*row, round(one.weight, 2), one.judged, x, y, " ".join(str(path) for path in scene.files)])
    return text.getvalue()


def _labels(parts: Parts, doubts: Sequence[Doubt]) -> list[Path]:
    """Files that hold the labels, those of the strongest doubts first; of heights all rasters of the site."""
    scenes = {scene.name: scene for scene in parts.source.scenes}
    skip = 1 if isinstance(parts.source, ImageScenes) else 0
    paths = [path for one in doubts for path in scenes[one.scene].files[skip:] or scenes[one.scene].files]
    return list(dict.fromkeys(paths))


def _by_crs(parts: Parts) -> dict[str | None, set[str]]:
    """Scenes with a place on the ground, by CRS."""
    found: dict[str | None, set[str]] = {}
    for scene in parts.source.scenes:
        if scene.grid.is_georeferenced:
            found.setdefault(scene.grid.crs, set()).add(scene.name)
    return found


def _polygons(path: Path, crs: str | None, parts: Parts, doubts: Sequence[Doubt]) -> None:
    import shapely
    from affine import Affine
    from rasterio.features import shapes

    from maskwright.prediction.polygon_files import Polygons, open_polygon_file
    from maskwright.prediction.vectorise import placed

    grids = {scene.name: scene.grid for scene in parts.source.scenes}
    geometry = np.empty(len(doubts), dtype=object)
    for index, one in enumerate(doubts):
        transform = Affine.translation(one.window.col, one.window.row)
        pieces = [
            shapely.geometry.shape(outline)
            for outline, _ in shapes(one.inside.astype(np.uint8), mask=one.inside, transform=transform)
        ]
        whole = np.empty(1, dtype=object)
        whole[0] = shapely.union_all(pieces)
        geometry[index] = placed(whole, grids[one.scene])[0]
    values: list[Any] = [
        np.array([one.rank for one in doubts]),
        np.array([one.scene for one in doubts], dtype=object),
        np.array([one.part for one in doubts], dtype=object),
        np.array([one.column for one in doubts], dtype=object),
        np.array(["labelled, not found" if one.labelled else "found, not labelled" for one in doubts], dtype=object),
        np.array([one.confidence for one in doubts]),
    ]
    with open_polygon_file(path, crs, layer="suspects", columns=_COLUMNS) as file:
        file.add(Polygons(geometry, dict(zip(_COLUMNS, values, strict=True))))


def _areas_csv(areas: Sequence[Area]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "file", "row", "col", "height_px", "width_px", "uncertainty_bits"])
    for area in areas:
        window = area.window
        where = [window.row, window.col, window.height, window.width]
        writer.writerow([area.rank, area.file, *where, round(area.uncertainty, 4)])
    return text.getvalue()


def _area_polygons(folder: Path, areas: Sequence[Area]) -> dict[str, Path]:
    """Squares of rasters with a CRS as polygons, a file for each CRS."""
    import shapely

    from maskwright.prediction.polygon_files import Polygons, open_polygon_file

    files: dict[str, Path] = {}
    known = sorted({area.crs for area in areas if area.crs is not None})
    for number, crs in enumerate(known, start=1):
        mine = [area for area in areas if area.crs == crs]
        geometry = np.empty(len(mine), dtype=object)
        for index, area in enumerate(mine):
            a, b, c, d, e, f = area.transform
            window = area.window
            box = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
            geometry[index] = shapely.transform(box, lambda xy, m=((a, d), (b, e)), s=(c, f): xy @ np.array(m) + s)
        path = folder / ("label_next.gpkg" if number == 1 else f"label_next_{number}.gpkg")
        columns = {"rank": int, "file": object, "uncertainty_bits": float}
        values: list[Any] = [
            np.array([area.rank for area in mine]),
            np.array([str(area.file) for area in mine], dtype=object),
            np.array([area.uncertainty for area in mine]),
        ]
        with open_polygon_file(path, crs, layer="label_next", columns=columns) as file:
            file.add(Polygons(geometry, dict(zip(columns, values, strict=True))))
        files["next polygons" if number == 1 else f"next polygons {number}"] = path
    return files


def _page(
    path: Path,
    parts: Parts,
    doubts: Sequence[Doubt],
    judges: Mapping[int, Scored],
    areas: Sequence[Area],
    about: Sequence[str],
    run: Path,
) -> None:
    blocks: list[tuple[str, list[Any]]] = [("Labels to look at", [sentences(about)])]
    if doubts:
        blocks[0][1].append(table(_HEAD, _rows(doubts)))
        shown = doubts[:_MOST_DRAWN]
        drawn = [paragraph("As it is, as it is labelled, as the model says; the doubt lies in the middle.")]
        for one in shown:
            scored = judges[one.rank]
            caption = f"{one.rank}. {one.scene}, {one.sentence} ({one.area_px} px, sure by {one.confidence:.0%})."
            drawn.append(figure(sample_sheet(scored.model, scored.parts, _around(scored, one), scored.point), caption))
        blocks.append(("Side by side", drawn))
    if areas:
        rows = [[a.rank, str(a.file), a.window.row, a.window.col, f"{a.uncertainty:.3f}"] for a in areas]
        head = ["rank", "file", "row", "column", "uncertainty, bits"]
        text = paragraph("Areas without labels of which the model is least sure, so labels there would teach it most:")
        blocks.append(("What to label next", [text, table(head, rows)]))
    write_text(path, page(f"Doubtful labels of {run.resolve().name}", blocks))


def _around(scored: Scored, one: Doubt) -> EvalLoader:
    """A window of the size of a tile, or larger, with the doubt in its middle."""
    parts = scored.parts
    side = max(parts.experiment.data.tiles.size_px, one.window.height + 16, one.window.width + 16)
    row = one.window.row + one.window.height // 2 - side // 2
    col = one.window.col + one.window.width // 2 - side // 2
    place = Place(one.scene, Window(row, col, side, side))
    return EvalLoader(parts.source, [place], parts.heights_m, 1)
