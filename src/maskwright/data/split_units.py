"""Which scenes must be divided together, and how a rectangle of one scene is found in another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskwright.data.regions import crs_name
from maskwright.types import Window

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Grid, Scene

__all__ = [
    "TOLERANCE_PX",
    "Edges",
    "edges_in",
    "frame_of",
    "group_scenes",
    "is_upright",
    "outwards",
    "seen_from",
    "share_frame",
    "too_close",
]

Edges = tuple[float, float, float, float]

TOLERANCE_PX = 1e-6  # coordinates are rounded; a millionth of a pixel is no distance


def group_scenes(scenes: Sequence[Scene], buffer_px: int, *, whole_grounds: bool) -> list[tuple[Scene, ...]]:
    """Scenes that no split may treat apart: they overlap, or lie closer together than the buffer.

    Args:
        scenes: All scenes.
        buffer_px: Least distance between parts, in pixels of the coarser scene of a pair.
        whole_grounds: True if scenes of one ground always belong together. False leaves those apart that lie far from
            each other, and joins those of one ground that cannot be compared.

    Returns:
        Groups in the order of their first scenes.
    """
    group = list(range(len(scenes)))

    def root(index: int) -> int:
        while group[index] != index:
            group[index] = group[group[index]]
            index = group[index]
        return index

    for first, second in _neighbours(scenes, buffer_px, whole_grounds):
        low, high = sorted((root(first), root(second)))
        group[high] = low
    members: dict[int, list[Scene]] = {}
    for index, scene in enumerate(scenes):
        members.setdefault(root(index), []).append(scene)
    return [tuple(members[index]) for index in sorted(members)]


def _neighbours(scenes: Sequence[Scene], buffer_px: int, whole_grounds: bool) -> list[tuple[int, int]]:
    frames = [frame_of(scene) for scene in scenes]
    pairs: list[tuple[int, int]] = []
    for frame in dict.fromkeys(frames):
        members = np.array([index for index, other in enumerate(frames) if other == frame])
        boxes = np.array([scenes[index].grid.bounds for index in members])
        pixels = np.array([scenes[index].grid.pixel_size for index in members])
        for place, index in enumerate(members[:-1]):
            rest = slice(place + 1, None)
            coarser = np.maximum(pixels[place], pixels[rest])
            apart = np.maximum(boxes[rest, :2] - boxes[place, 2:], boxes[place, :2] - boxes[rest, 2:])
            near = (apart < (buffer_px - TOLERANCE_PX) * coarser).all(axis=1)
            pairs += [(int(index), int(other)) for other in members[rest][near]]
    by_ground: dict[str, list[int]] = {}
    for index, scene in enumerate(scenes):
        by_ground.setdefault(scene.ground, []).append(index)
    for members_of in by_ground.values():
        if whole_grounds or len({frames[index] for index in members_of}) > 1:
            pairs += [(members_of[0], index) for index in members_of[1:]]
    return pairs


def frame_of(scene: Scene) -> tuple[str | None, str | None]:
    """Scenes with the same frame have comparable coordinates; those without any position only on one ground."""
    grid = scene.grid
    return crs_name(grid.crs), None if grid.is_georeferenced else scene.ground


def is_upright(grid: Grid) -> bool:
    """True if rows and columns run along the axes of the coordinates."""
    return grid.transform[1] == 0.0 and grid.transform[3] == 0.0


def share_frame(scenes: Sequence[Scene]) -> bool:
    """True if a rectangle of one scene is a rectangle of all others, somewhere."""
    return len(scenes) == 1 or (
        len({frame_of(scene) for scene in scenes}) == 1 and all(is_upright(scene.grid) for scene in scenes)
    )


def edges_in(edges: Edges, owner: Grid, viewer: Grid) -> Edges:
    """A rectangle of one upright grid in pixels of another: row, row stop, column, column stop; may be infinite."""
    if owner.transform == viewer.transform:
        return edges
    (a, _, c, _, e, f), (a_2, _, c_2, _, e_2, f_2) = owner.transform, viewer.transform
    row, row_stop = sorted((edge * e + (f - f_2)) / e_2 for edge in edges[:2])
    col, col_stop = sorted((edge * a + (c - c_2)) / a_2 for edge in edges[2:])
    return row, row_stop, col, col_stop


def seen_from(edges: Edges, owner: Grid, viewer: Grid) -> Window | None:
    """The whole pixels of one upright grid that lie inside a rectangle of another, or None."""
    row, row_stop, col, col_stop = edges_in(edges, owner, viewer)
    row_px, row_stop_px = _inwards(row, row_stop, viewer.height)
    col_px, col_stop_px = _inwards(col, col_stop, viewer.width)
    if row_px >= row_stop_px or col_px >= col_stop_px:
        return None
    return Window(row_px, col_px, row_stop_px - row_px, col_stop_px - col_px)


def _inwards(start: float, stop: float, length: int) -> tuple[int, int]:
    low = math.ceil(min(max(start, 0.0), length) - TOLERANCE_PX)
    return low, math.floor(max(min(stop, length), 0.0) + TOLERANCE_PX)


def outwards(window: Window, grid: Grid) -> Edges:
    """The edges of a rectangle, moved to infinity where they lie on the scene's own edge."""
    return (
        -math.inf if window.row <= 0 else window.row,
        math.inf if window.row_stop >= grid.height else window.row_stop,
        -math.inf if window.col <= 0 else window.col,
        math.inf if window.col_stop >= grid.width else window.col_stop,
    )


def too_close(first: tuple[Grid, Window], second: tuple[Grid, Window], buffer_px: int) -> bool:
    """True if two rectangles with comparable coordinates lie closer than the buffer, in pixels of the coarser grid."""
    (grid, window), (other_grid, other_window) = first, second
    box, other = grid.world_box(window), other_grid.world_box(other_window)
    for axis in (0, 1):
        coarser = max(grid.pixel_size[axis], other_grid.pixel_size[axis])
        apart = max(box[axis] - other[axis + 2], other[axis] - box[axis + 2])
        if apart >= (buffer_px - TOLERANCE_PX) * coarser:
            return False
    return True
