"""The proof that parts lie apart, made from the finished split alone and not from how it was built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maskwright.data.regions import PARTS, Split, crs_name
from maskwright.errors import DataError

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Scene

__all__ = ["assert_apart"]

_TOLERANCE_PX = 1e-6


@dataclass(frozen=True, slots=True)
class _Boxes:
    """Rectangles with coordinates that can be compared.

    Attributes:
        edges: (N, 4) left, bottom, right, top.
        pixel: (N, 2) width and height of a pixel in the same unit.
        part: (N,) index into PARTS.
        label: For each rectangle its scene and window.
    """

    edges: np.ndarray
    pixel: np.ndarray
    part: np.ndarray
    label: Sequence[str]


def assert_apart(split: Split, scenes: Sequence[Scene]) -> None:
    """Make sure that no ground is used by two parts and that the buffer holds between them.

    Looks at every tile and at every region (from which training draws shifted windows), in coordinates on the ground,
    across all scenes that share a coordinate reference system.

    Args:
        split: The split to check.
        scenes: The scenes as they are now.

    Raises:
        DataError: If a scene is missing or has another grid, a ground lies in two parts and cannot be compared, or two
            parts come closer than ``split.buffer_px`` pixels of the coarser scene.
    """
    by_name = {scene.name: scene for scene in scenes}
    _check_scenes(split, by_name)
    windows = _windows_by_scene(split)
    groups: dict[object, list[str]] = {}
    parts_by_ground: dict[str, dict[object, set[int]]] = {}
    for name, entries in windows.items():
        scene = by_name[name]
        frame = (crs_name(scene.grid.crs), None if scene.grid.is_georeferenced else scene.ground)
        groups.setdefault(frame, []).append(name)
        parts_by_ground.setdefault(scene.ground, {}).setdefault(frame, set()).update(part for part, _ in entries)
    for ground, by_frame in parts_by_ground.items():
        if len(by_frame) > 1 and len(set().union(*by_frame.values())) > 1:
            raise DataError(
                f"The ground {ground} is used by several parts in coordinates that cannot be compared. Reproject its "
                f"rasters to one CRS, or start afresh with data.split.keep: none."
            )
    for names in groups.values():
        for name in names:
            _check_boxes(_pixel_boxes(windows[name], name), split.buffer_px)
        _check_boxes(_ground_boxes({name: windows[name] for name in names}, by_name), split.buffer_px)


def _check_scenes(split: Split, by_name: dict[str, Scene]) -> None:
    for name in sorted({region.scene for region in split.regions} | {p.scene for t in split.tiles.values() for p in t}):
        if name not in by_name:
            raise DataError(
                f"The split names the site {name}, which is not among the data. Put it back or split afresh."
            )
        was, now = split.grids.get(name), by_name[name].grid
        if was is not None and (was.height, was.width, was.transform) != (now.height, now.width, now.transform):
            raise DataError(
                f"{name} has another grid than when the split was made. Start afresh: data.split.keep: none."
            )


def _windows_by_scene(split: Split) -> dict[str, list[tuple[int, tuple[int, int, int, int]]]]:
    """Scene to (part, (row, row stop, col, col stop)) of its tiles and regions."""
    windows: dict[str, list[tuple[int, tuple[int, int, int, int]]]] = {}
    entries = [(region.scene, PARTS.index(region.part), region.window) for region in split.regions]
    entries += [(place.scene, index, place.window) for index, part in enumerate(PARTS) for place in split.tiles[part]]
    for scene, part, window in entries:
        windows.setdefault(scene, []).append((part, (window.row, window.row_stop, window.col, window.col_stop)))
    return windows


def _pixel_boxes(entries: Sequence[tuple[int, tuple[int, int, int, int]]], scene: str) -> _Boxes:
    rows = np.array([edges for _, edges in entries], dtype=np.float64)
    return _Boxes(
        edges=rows[:, [2, 0, 3, 1]],
        pixel=np.ones((len(entries), 2)),
        part=np.array([part for part, _ in entries]),
        label=[_label(scene, edges) for _, edges in entries],
    )


def _ground_boxes(windows: dict[str, list[tuple[int, tuple[int, int, int, int]]]], by_name: dict[str, Scene]) -> _Boxes:
    """Rectangles cut off at the edge of their scene (padding is no ground), in the unit of the CRS."""
    edges, pixel, part, label = [], [], [], []
    for name, entries in windows.items():
        grid = by_name[name].grid
        a, b, c, d, e, f = grid.transform
        px = np.array([edge for _, edge in entries], dtype=np.float64)
        rows, cols = np.clip(px[:, :2], 0, grid.height), np.clip(px[:, 2:], 0, grid.width)
        corners = [(cols[:, j], rows[:, i]) for i in (0, 1) for j in (0, 1)]
        x = np.stack([a * col + b * row + c for col, row in corners])
        y = np.stack([d * col + e * row + f for col, row in corners])
        edges.append(np.stack([x.min(axis=0), y.min(axis=0), x.max(axis=0), y.max(axis=0)], axis=1))
        pixel.append(np.tile((np.hypot(a, d), np.hypot(b, e)), (len(entries), 1)))
        part += [index for index, _ in entries]
        label += [_label(name, edge) for _, edge in entries]
    return _Boxes(np.concatenate(edges), np.concatenate(pixel), np.array(part), label)


def _label(scene: str, edges: tuple[int, int, int, int]) -> str:
    return f"{scene} rows {edges[0]} to {edges[1]}, columns {edges[2]} to {edges[3]}"


def _check_boxes(boxes: _Boxes, buffer_px: int) -> None:
    import shapely

    reach = buffer_px * boxes.pixel.max(axis=0)
    for part in range(len(PARTS)):
        mine, others = np.flatnonzero(boxes.part == part), np.flatnonzero(boxes.part > part)
        if not len(mine) or not len(others):
            continue
        tree = shapely.STRtree(shapely.box(*boxes.edges[others].T))
        around = boxes.edges[mine] + np.concatenate([-reach, reach])
        first, second = tree.query(shapely.box(*around.T), predicate="intersects")
        first, second = mine[first], others[second]
        a, b = boxes.edges[first], boxes.edges[second]
        apart = np.maximum(a[:, :2] - b[:, 2:], b[:, :2] - a[:, 2:])  # (pairs, 2) gap along x and y
        coarser = np.maximum(boxes.pixel[first], boxes.pixel[second])
        gap_px = (apart / coarser).max(axis=1)
        bad = np.flatnonzero(gap_px < buffer_px - _TOLERANCE_PX)
        if len(bad):
            worst = bad[np.argmin(gap_px[bad])]
            raise DataError(_text(boxes, int(first[worst]), int(second[worst]), float(gap_px[worst]), buffer_px))


def _text(boxes: _Boxes, first: int, second: int, gap_px: float, buffer_px: int) -> str:
    where = " and ".join(f"{boxes.label[index]} ({PARTS[boxes.part[index]]})" for index in (first, second))
    what = "share ground" if gap_px < 0 else f"are {gap_px:g} px apart"
    return (
        f"The split is not safe: {where} {what}, and parts must be {buffer_px} px apart. "
        "Start afresh with data.split.keep: none."
    )
