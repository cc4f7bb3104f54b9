"""Windows with halos over hand-made fields of crowns: each crown comes once and whole, however the scene is cut."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from maskwright.models.duplicates import without_duplicates
from maskwright.objects import Crop, FoundObjects, join_objects
from maskwright.prediction.instances_merge import (
    Merged,
    SeamMerger,
    merge_cores,
    plan_cores,
)
from maskwright.types import Window

SIZE = (150, 200)


def disc(x: float, y: float, radius: float, score: float = 0.9, label: int = 1) -> FoundObjects:
    """One crown: the pixels whose centres lie within a radius."""
    rows = np.arange(int(y - radius) - 1, int(y + radius) + 2)
    cols = np.arange(int(x - radius) - 1, int(x + radius) + 2)
    inside = (rows[:, None] + 0.5 - y) ** 2 + (cols[None] + 0.5 - x) ** 2 <= radius**2
    used_rows, used_cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    part = inside[used_rows[0] : used_rows[-1] + 1, used_cols[0] : used_cols[-1] + 1]
    return one(Crop(int(rows[used_rows[0]]), int(cols[used_cols[0]]), part), (x, y), score, label)


def one(crop: Crop, centre: tuple[float, float], score: float = 0.9, label: int = 1) -> FoundObjects:
    height, width = crop.pixels.shape
    box = (crop.col, crop.row, crop.col + width, crop.row + height)
    return FoundObjects(
        np.array([box], np.float32),
        np.array([label]),
        np.array([score], np.float32),
        np.array([centre], np.float32),
        np.array([np.nan], np.float32),
        (crop,),
    )


def cut_at(crown: FoundObjects, window: Window, *, wobble: float = 0.0) -> FoundObjects | None:
    """What a window sees of a crown, told from its corner: pixels outside are gone, the centre is that of the rest."""
    (crop,) = crown.masks
    height, width = crop.pixels.shape
    place = Window(crop.row, crop.col, height, width).intersection(window)
    if place is None:
        return None
    part = crop.pixels[place.row - crop.row :, place.col - crop.col :][: place.height, : place.width]
    if not part.any():
        return None
    rows, cols = np.nonzero(part)
    part = part[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    top, left = place.row + rows.min(), place.col + cols.min()
    centre = (left + (cols - cols.min() + 0.5).mean() + wobble, top + (rows - rows.min() + 0.5).mean() + wobble)
    seen = one(Crop(int(top), int(left), part), centre, float(crown.scores[0]), int(crown.labels[0]))
    return seen.shifted(-window.row, -window.col)


class Field:
    """Answers windows of a field of crowns, and remembers which were asked for."""

    def __init__(self, crowns: list[FoundObjects], *, wobble: float = 0.0) -> None:
        self.crowns, self.wobble = crowns, wobble
        self.asked: list[Window] = []

    def __call__(self, window: Window) -> FoundObjects:
        self.asked.append(window)
        wobble = self.wobble if len(self.asked) % 2 else -self.wobble
        seen = [cut_at(crown, window, wobble=wobble) for crown in self.crowns]
        return join_objects([part for part in seen if part is not None])


def merged(field: Field, core_px: int, halo_px: int, *, size: tuple[int, int] = SIZE, **options: float) -> Merged:
    merger = SeamMerger(*size, **options)
    parts = list(merge_cores(plan_cores(*size, core_px, halo_px), field, merger))
    return Merged(join_objects([part.objects for part in parts]), np.concatenate([part.cut for part in parts]))


def told(objects: FoundObjects) -> list[tuple[object, ...]]:
    """Objects as values that can be compared, in an order of their own."""
    return sorted(
        (
            round(float(x), 2),
            round(float(y), 2),
            int(label),
            crop.row,
            crop.col,
            crop.pixels.shape,
            crop.pixels.tobytes(),
        )
        for (x, y), label, crop in zip(objects.centres, objects.labels, objects.masks, strict=True)
    )


def whole(field: Field) -> list[tuple[object, ...]]:
    return told(Field(field.crowns)(Window(0, 0, *SIZE)))


def crowns_over_every_seam(radius: float) -> list[FoundObjects]:
    """Around each seam and corner of cores of 50 px: on it, and a little to each side."""
    places = [(50.0 * i, 50.0 * j) for i, j in product(range(1, 4), range(1, 3))]
    steps = [(0.0, 0.0), (0.3, -0.4), (-1.0, 0.0), (0.0, 25.0), (25.0, 0.5), (24.5, 24.5)]
    return [
        disc(x + dx, y + dy, radius, label=1 + n % 2) for n, ((x, y), (dx, dy)) in enumerate(product(places, steps))
    ]


@pytest.mark.parametrize("radius", [1.5, 5.0, 11.9])
@pytest.mark.parametrize(("core_px", "halo_px"), [(50, 24), (50, 30), (64, 24), (37, 25)])
def test_crowns_over_seams_and_corners_come_once_and_whole(radius: float, core_px: int, halo_px: int) -> None:
    field = Field(crowns_over_every_seam(radius)[:: 1 if radius < 2 else 3])
    result = merged(field, core_px, halo_px, duplicate_iou=0.5)
    alone = Field(field.crowns)(Window(0, 0, *SIZE))
    assert told(result.objects) == told(alone.pick(without_duplicates(alone, 0.5)))
    assert not result.cut.any()


@pytest.mark.parametrize("core_px", [20, 33, 50, 64, 150, 400])
def test_the_result_does_not_depend_on_how_the_scene_is_cut(core_px: int) -> None:
    rng = np.random.default_rng(3)
    crowns = [disc(x, y, r) for x, y, r in rng.uniform((0, 0, 1), (200, 150, 6), (90, 3))]
    field = Field([crown for crown in crowns if cut_at(crown, Window(0, 0, *SIZE)) is not None])
    alone = Field(field.crowns)(Window(0, 0, *SIZE))
    kept = alone.pick(without_duplicates(alone, 0.5))
    field.crowns = [field.crowns[i] for i in without_duplicates(alone, 0.5)]
    assert told(merged(field, core_px, 14).objects) == told(kept)


def test_a_crown_larger_than_the_halo_is_looked_at_again_with_a_wider_one() -> None:
    field = Field([disc(50.0, 50.0, 30.0), disc(120.0, 20.0, 3.0)])
    result = merged(field, 50, 8)
    assert told(result.objects) == whole(field)
    assert not result.cut.any()
    assert max(window.height for window in field.asked) > 50 + 2 * 8


def test_windows_that_cannot_grow_mark_what_they_cut() -> None:
    field = Field([disc(50.0, 50.0, 30.0), disc(120.0, 20.0, 3.0)])
    merger = SeamMerger(*SIZE)
    parts = list(merge_cores(plan_cores(*SIZE, 50, 8), field, merger, grows=False))
    cut = np.concatenate([part.cut for part in parts])
    assert cut.sum() >= 1
    assert (~cut).sum() == 1


@pytest.mark.parametrize("wobble", [0.4, 1.9])
def test_windows_that_disagree_about_a_centre_at_a_seam_still_give_it_once(wobble: float) -> None:
    crowns = [disc(x, y, 6.0) for x, y in product((50.0, 100.0, 150.0), (25.0, 50.0, 100.0))]
    field = Field(crowns, wobble=wobble)
    result = merged(field, 50, 20, slack_px=4.0)
    assert len(result) == len(crowns)
    assert sorted(crop.pixels.sum() for crop in result.objects.masks) == sorted(c.areas()[0] for c in crowns)


def test_what_is_held_does_not_grow_with_the_height_of_the_scene() -> None:
    rng = np.random.default_rng(0)
    most = {}
    for height in (200, 1600):
        points = rng.uniform((0, 0), (200, height), (height * 2, 2))
        field = _Nearby([disc(x, y, 2.0) for x, y in points], height)
        merger = SeamMerger(height, 200)
        count = sum(len(part) for part in merge_cores(plan_cores(height, 200, 50, 8), field, merger))
        assert count + merger.duplicates >= count > height
        most[height] = merger.most_held
    assert most[1600] < 1.5 * most[200]
    assert most[1600] < 400


class _Nearby(Field):
    """A large field: only crowns near the window are looked at."""

    def __init__(self, crowns: list[FoundObjects], height: int) -> None:
        super().__init__(crowns)
        self._rows = np.array([crown.centres[0, 1] for crown in crowns])
        self._cols = np.array([crown.centres[0, 0] for crown in crowns])

    def __call__(self, window: Window) -> FoundObjects:
        near = (self._rows > window.row - 5) & (self._rows < window.row_stop + 5)
        near &= (self._cols > window.col - 5) & (self._cols < window.col_stop + 5)
        seen = [cut_at(self.crowns[index], window) for index in np.flatnonzero(near)]
        return join_objects([part for part in seen if part is not None])


def test_a_scene_without_trees_gives_none() -> None:
    result = merged(Field([]), 50, 10)
    assert len(result) == 0


def test_cores_cover_a_scene_once_and_windows_stay_inside() -> None:
    seen = np.zeros((70, 45), int)
    for row in plan_cores(70, 45, 32, 10):
        for place in row:
            seen[place.core.row : place.core.row_stop, place.core.col : place.core.col_stop] += 1
            assert place.window.row >= 0
            assert place.window.row_stop <= 70
    assert (seen == 1).all()
