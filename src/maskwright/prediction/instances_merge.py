"""Objects of overlapping windows to the objects of a scene: each once and whole, in bounded memory.

A scene is cut into cores that touch and do not overlap; each is looked at with a halo around it. An object belongs to
the core that holds its centre, so neighbours that both see it give it once. Where they do not quite agree on a centre
that lies at a seam, both may give it or neither: centres a little outside the core are taken too, and of two
objects that are one, the whole one stays, then the one that is at home in its core, then the better score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from maskwright.models.duplicates import crop_iou, meeting_boxes, without_duplicates
from maskwright.objects import FoundObjects, join_objects
from maskwright.types import Window

__all__ = ["CoreWindow", "Merged", "SeamMerger", "merge_cores", "plan_cores"]

Find = Callable[[Window], FoundObjects]

_TOUCH_PX = 0.5  # a box so near to an end is taken to reach it
_MOST_GROWN = 2  # doublings of the halo for objects that reach out of it


@dataclass(frozen=True, slots=True)
class CoreWindow:
    """A part of a scene and what is looked at to find its objects.

    Attributes:
        core: Objects with their centre in here are its own.
        window: The core with its halo, cut at the scene.
    """

    core: Window
    window: Window


@dataclass(frozen=True, eq=False)
class Merged:
    """Objects nothing can be said against any more, told from the corner of the scene.

    Attributes:
        objects: As they become final, those of one time from the top downwards.
        cut: (N,) bool: reaches to the end of all it was seen in; may be larger.
    """

    objects: FoundObjects
    cut: np.ndarray

    def __len__(self) -> int:
        return len(self.objects)

    def pick(self, kept: np.ndarray) -> Merged:
        return Merged(self.objects.pick(kept), self.cut[kept])


def plan_cores(height: int, width: int, core_px: int, halo_px: int) -> list[list[CoreWindow]]:
    """Rows of cores that cover a scene once, from the top and from the left.

    Args:
        height: Rows of the scene.
        width: Columns of the scene.
        core_px: Side of a core; those at the lower and right border may be smaller.
        halo_px: What is seen around it.
    """
    scene = Window(0, 0, height, width)

    def one(row: int, col: int) -> CoreWindow:
        core = Window(row, col, min(core_px, height - row), min(core_px, width - col))
        return CoreWindow(core, _cut(core.grown(halo_px), scene))

    return [[one(row, col) for col in range(0, width, core_px)] for row in range(0, height, core_px)]


def merge_cores(
    cores: list[list[CoreWindow]],
    find: Find,
    merger: SeamMerger,
    *,
    grows: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Merged]:
    """The objects of a scene, portion by portion.

    Args:
        cores: From :func:`plan_cores`.
        find: A window of the scene to its objects, told from the window's corner.
        merger: Holds what lies at seams.
        grows: Look again with a halo twice as wide, twice at most, where an object of the core reaches its end.
        progress: Called with (cores done, cores in all).
    """
    total, done = sum(len(row) for row in cores), 0
    for row in cores:
        for place in row:
            found, seen = _seen(place, find, merger, grows=grows)
            merger.add(replace(place, window=seen), found)
            done += 1
            yield merger.finished(place.core.row_stop, place.core.col_stop)
            if progress is not None:
                progress(done, total)
        yield merger.finished(row[0].core.row_stop, merger.width)
    yield merger.rest()


def _seen(place: CoreWindow, find: Find, merger: SeamMerger, *, grows: bool) -> tuple[FoundObjects, Window]:
    """The objects of a core, told from its window, and the window they were at last seen in."""
    window, scene = place.window, Window(0, 0, merger.height, merger.width)
    found, halo = find(window), _halo(place)
    for _ in range(_MOST_GROWN if grows else 0):
        own = _inside(found.centres, window, place.core, 0.0)
        if not (own & _cut_off(found, window, scene)).any():
            break
        halo *= 2
        window = _cut(place.core.grown(halo), scene)
        found = find(window)
    return found, window


class SeamMerger:
    """Takes the objects of one core after the other, row by row, and gives those that are final.

    Args:
        height: Rows of the scene.
        width: Columns of the scene.
        duplicate_iou: Two objects whose masks overlap more are one.
        slack_px: Centres so far outside a core are taken too.

    Attributes:
        most_held: The most objects that were held at a time.
        duplicates: Objects left out because they were there already.
    """

    def __init__(self, height: int, width: int, *, duplicate_iou: float = 0.5, slack_px: float = 2.0) -> None:
        self.height, self.width, self.slack_px = height, width, slack_px
        self._iou = duplicate_iou
        self._held = FoundObjects.none()
        self._rank = np.zeros((0, 2), bool)  # whole, at home
        self.most_held = self.duplicates = 0

    def add(self, place: CoreWindow, found: FoundObjects) -> None:
        """Take what was found in the window of a core, told from that window's corner."""
        single = found.pick(without_duplicates(found, self._iou))
        self.duplicates += len(found) - len(single)
        found = single.pick(_inside(single.centres, place.window, place.core, self.slack_px))
        scene = Window(0, 0, self.height, self.width)
        whole = ~_cut_off(found, place.window, scene)
        home = _inside(found.centres, place.window, place.core, 0.0)
        self._join(found.shifted(place.window.row, place.window.col), np.column_stack((whole, home)))
        self.most_held = max(self.most_held, len(self._held))

    def finished(self, row_stop: int, col_stop: int) -> Merged:
        """The held objects that no core below ``row_stop``, or right of ``col_stop`` above it, can see as its own."""
        below, right = row_stop - self.slack_px, col_stop - self.slack_px
        boxes = self._held.boxes
        last_row, last_col = row_stop >= self.height, col_stop >= self.width
        done = (last_row | (boxes[:, 3] <= below)) & (last_col | (boxes[:, 2] <= right))
        return self._given(done)

    def rest(self) -> Merged:
        """All that is still held."""
        return self._given(np.ones(len(self._held), bool))

    def _given(self, done: np.ndarray) -> Merged:
        places = np.flatnonzero(done)
        x, y = self._held.centres[places].T
        places = places[np.lexsort((x, y))]
        given = Merged(self._held.pick(places), ~self._rank[places, 0])
        self._held, self._rank = self._held.pick(~done), self._rank[~done]
        return given

    def _join(self, new: FoundObjects, rank: np.ndarray) -> None:
        """Hold ``new`` too; of two that are one the better stays."""
        held_out, new_out = np.zeros(len(self._held), bool), np.zeros(len(new), bool)
        for old, young in meeting_boxes(self._held.boxes, new.boxes):
            if held_out[old] or new_out[young]:
                continue
            if crop_iou(self._held.masks[old], new.masks[young]) <= self._iou:
                continue
            first = (*self._rank[old], self._held.scores[old])
            second = (*rank[young], new.scores[young])
            (held_out if second > first else new_out)[old if second > first else young] = True
        self.duplicates += int(held_out.sum() + new_out.sum())
        self._held = join_objects([self._held.pick(~held_out), new.pick(~new_out)])
        self._rank = np.concatenate([self._rank[~held_out], rank[~new_out]])


def _inside(centres: np.ndarray, window: Window, core: Window, slack_px: float) -> np.ndarray:
    """(N,) bool: whether centres, told from a window, lie in its core, or so near to it."""
    x = centres[:, 0].astype(np.float64) + window.col
    y = centres[:, 1].astype(np.float64) + window.row
    across = (x >= core.col - slack_px) & (x < core.col_stop + slack_px)
    down = (y >= core.row - slack_px) & (y < core.row_stop + slack_px)
    return np.asarray(across & down)


def _cut_off(found: FoundObjects, window: Window, scene: Window) -> np.ndarray:
    """(N,) bool: whether objects, told from a window, reach one of its ends that is no end of the scene."""
    x0, y0, x1, y1 = found.boxes.T
    cut = np.zeros(len(found), bool)
    if window.row > scene.row:
        cut |= y0 < _TOUCH_PX
    if window.col > scene.col:
        cut |= x0 < _TOUCH_PX
    if window.row_stop < scene.row_stop:
        cut |= y1 > window.height - _TOUCH_PX
    if window.col_stop < scene.col_stop:
        cut |= x1 > window.width - _TOUCH_PX
    return cut


def _halo(place: CoreWindow) -> int:
    """What is seen around a core, on the side where the scene goes on farthest; at least a pixel."""
    core, window = place.core, place.window
    above, below = core.row - window.row, window.row_stop - core.row_stop
    left, right = core.col - window.col, window.col_stop - core.col_stop
    return max(above, below, left, right, 1)


def _cut(window: Window, scene: Window) -> Window:
    inside = window.intersection(scene)
    assert inside is not None  # a core lies inside its scene
    return inside
