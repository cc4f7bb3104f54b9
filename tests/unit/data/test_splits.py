from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from maskwright.data.regions import PARTS
from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.splits import Region, Split, assert_apart, build_split
from maskwright.errors import DataError
from maskwright.types import Place, Window

UTM = CRS.from_epsg(32616).to_wkt()
OTHER_UTM = CRS.from_epsg(32617).to_wkt()
FAR = 1_000_000.0


def scene(
    name: str,
    height: int,
    width: int,
    *,
    pixel: float = 1.0,
    x: float = 0.0,
    y: float = 0.0,
    ground: str | None = None,
    crs: str | None = UTM,
) -> Scene:
    return Scene(name, Grid(height, width, (pixel, 0.0, x, 0.0, -pixel, y), crs), ground or name, ())


def sites(count: int, height: int = 128, width: int = 128) -> list[Scene]:
    return [scene(f"site_{index}", height, width + 32 * (index % 3), x=FAR * index) for index in range(count)]


def shares_of(scenes: Sequence[Scene], valid: dict[str, np.ndarray] | None = None) -> Callable[[str, int], np.ndarray]:
    grids = {one.name: one.grid for one in scenes}

    def valid_share(name: str, cell_px: int) -> np.ndarray:
        grid = grids[name]
        mask = (valid or {}).get(name, np.ones((grid.height, grid.width), dtype=bool))
        rows, cols = -(-grid.height // cell_px), -(-grid.width // cell_px)
        padded = np.zeros((rows * cell_px, cols * cell_px))
        padded[: grid.height, : grid.width] = mask
        return padded.reshape(rows, cell_px, cols, cell_px).mean(axis=(1, 3))

    return valid_share


def split_of(
    scenes: Sequence[Scene], tile_px: int, valid: dict[str, np.ndarray] | None = None, **options: object
) -> Split:
    return build_split(scenes, shares_of(scenes, valid), tile_px=tile_px, **options)  # type: ignore[arg-type]


def world(window: Window, grid: Grid) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of the ground under a window; padding is no ground."""
    pixel, _, left, _, _, top = grid.transform
    rows = np.clip([window.row, window.row_stop], 0, grid.height)
    cols = np.clip([window.col, window.col_stop], 0, grid.width)
    return left + pixel * cols[0], top - pixel * rows[1], left + pixel * cols[1], top - pixel * rows[0]


def closest_px(split: Split, scenes: Sequence[Scene]) -> float:
    """Brute force over all pairs: least Chebyshev distance between parts, in pixels of the coarser of two scenes."""
    grids = {one.name: one.grid for one in scenes}
    entries = [(region.part, region.scene, region.window) for region in split.regions]
    entries += [(part, place.scene, place.window) for part in PARTS for place in split.tiles[part]]
    boxes = np.array([world(window, grids[name]) for _, name, window in entries])
    pixels = np.array([grids[name].pixel_size[0] for _, name, _ in entries])
    kinds = np.array([PARTS.index(part) for part, _, _ in entries])
    least = np.inf
    for box, pixel, kind in zip(boxes, pixels, kinds, strict=True):
        other = kinds != kind
        gaps = np.maximum(box[:2] - boxes[other, 2:], boxes[other, :2] - box[2:]).max(axis=1)
        least = min(least, float((gaps / np.maximum(pixel, pixels[other])).min(initial=np.inf)))
    return least


def parts_of(split: Split) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for region in split.regions:
        found.setdefault(region.scene, set()).add(region.part)
    return found


# --- by site ----------------------------------------------------------------------------------------------------------


def test_six_sites_are_divided_as_wholes() -> None:
    scenes = sites(6)
    split = split_of(scenes, 32)
    assert split.by == "site"
    assert all(len(parts) == 1 for parts in parts_of(split).values())
    assert all(region.window == one.grid.window for region, one in zip(split.regions, scenes, strict=True))


def test_five_sites_are_divided_inside() -> None:
    assert split_of(sites(5, 320), 32).by == "blocks"


def test_scenes_of_one_ground_are_one_site_and_never_part_ways() -> None:
    pairs = [
        scene(f"{name}_{year}", 128, 128, x=FAR * index, ground=name, pixel=1.0)
        for index, name in enumerate("abcdefg")
        for year in (2012, 2014)
    ]
    split = split_of(pairs, 32)
    parts = parts_of(split)
    assert split.by == "site"
    for name in "abcdefg":
        assert parts[f"{name}_2012"] == parts[f"{name}_2014"]
    assert split_of(pairs[:10], 16).by == "blocks"  # ten scenes, but only five grounds


def test_shares_of_sites_come_as_near_as_any_assignment_does() -> None:
    scenes = [scene(f"s{index}", 32 * rows, 320, x=FAR * index) for index, rows in enumerate((1, 2, 3, 5, 8, 4, 2))]
    split = split_of(scenes, 32)
    tiles = np.array([10 * rows for rows in (1, 2, 3, 5, 8, 4, 2)])
    every = np.array(np.meshgrid(*[[0, 1, 2]] * 7)).reshape(7, -1).T
    shares = np.stack([(every == part) @ tiles for part in range(3)], axis=1) / tiles.sum()
    best = np.abs(shares - (0.7, 0.15, 0.15)).sum(axis=1).min()
    reached = sum(abs(real - asked) for real, asked in zip(split.real_shares().values(), split.shares, strict=True))
    assert reached <= best + 0.02


def test_hundreds_of_sites_come_near_the_shares() -> None:
    split = split_of(sites(200, 64, 64), 32)
    for part, asked in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
        assert split.real_shares()[part] == pytest.approx(asked, abs=0.01)


def test_scenes_that_nearly_touch_are_one_site() -> None:
    mosaic = [scene(f"m{index}", 320, 320, x=320.0 * index) for index in range(6)]
    split = split_of(mosaic, 32)
    assert split.by == "blocks"
    assert closest_px(split, mosaic) >= 32
    apart = [scene(f"m{index}", 320, 320, x=352.0 * index) for index in range(6)]
    assert split_of(apart, 32).by == "site"


def test_by_site_with_too_few_sites_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"by: site needs at least 3 sites .* there are 2\. Use data\.split\.by: blocks"
    ):
        split_of(sites(2), 32, by="site")


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_blocks_of_a_large_scene_have_the_shares_asked() -> None:
    split = split_of([scene("a", 2048, 2048)], 64)
    for part, asked in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
        assert split.real_shares()[part] == pytest.approx(asked, abs=0.03)
    assert sum(split.counts().values()) > 0.85 * 32 * 32


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(20, 400),
    width=st.integers(20, 400),
    tile_px=st.sampled_from([16, 32, 48]),
    overlap_px=st.integers(0, 15),
    buffer_px=st.sampled_from([None, 0, 7, 16, 40]),
    min_valid=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 1000),
)
def test_whatever_the_ground_tiles_are_measured_inside_their_region_and_apart(
    height: int, width: int, tile_px: int, overlap_px: int, buffer_px: int | None, min_valid: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    valid = np.ones((height, width), dtype=bool)
    valid[: int(height * rng.random() * 0.5), : int(width * rng.random())] = False
    scenes = [scene("a", height, width)]
    try:
        split = split_of(
            scenes, tile_px, {"a": valid}, overlap_px=overlap_px, buffer_px=buffer_px, min_valid=min_valid, seed=seed
        )
    except DataError:
        return
    padded = np.zeros((height + tile_px, width + tile_px), dtype=bool)
    padded[:height, :width] = valid
    covered = {part: np.zeros_like(padded, dtype=int) for part in PARTS}
    for part in PARTS:
        assert len(split.tiles[part]) >= 4
        for place in split.tiles[part]:
            window, region = place.window, split.region_of(place).window
            here = np.s_[window.row : window.row_stop, window.col : window.col_stop]
            covered[part][here] += 1
            assert padded[here].mean() >= min_valid - 1e-9
            assert region.row <= window.row
            assert region.col <= window.col
            assert window.row_stop <= region.row_stop or region.row_stop == height
            assert window.col_stop <= region.col_stop or region.col_stop == width
    assert covered["val"].max() == 1
    assert covered["test"].max() == 1
    assert closest_px(split, scenes) >= (tile_px if buffer_px is None else buffer_px)
    assert_apart(split, scenes)


def test_scenes_of_one_ground_are_cut_along_the_same_lines() -> None:
    scenes = [
        scene("fine", 640, 960, pixel=1.25, ground="g"),
        scene("coarse", 160, 240, pixel=5.0, ground="g"),
        scene("moved", 512, 768, pixel=1.25, x=100.3, y=-50.7, ground="g"),
    ]
    split = split_of(scenes, 16)
    assert closest_px(split, scenes) >= 16
    assert {region.scene for region in split.regions} == {"fine", "coarse", "moved"}
    assert all(place.scene != "coarse" or split.region_of(place) for part in PARTS for place in split.tiles[part])
    used = {(place.scene, part) for part in PARTS for place in split.tiles[part]}
    assert {("fine", part) for part in PARTS} <= used
    assert ("coarse", "train") in used


def test_a_coarse_scene_widens_the_buffer_for_the_ground_it_shares() -> None:
    fine, coarse = scene("fine", 1024, 1024, ground="g"), scene("coarse", 256, 256, pixel=4.0, ground="g")
    both = split_of([fine, coarse], 16)
    regions = tuple(region for region in both.regions if region.scene == "fine")
    tiles = {part: tuple(place for place in both.tiles[part] if place.scene == "fine") for part in PARTS}
    assert closest_px(replace(both, regions=regions, tiles=tiles), [fine]) == 64  # 16 px of 4 m
    assert closest_px(split_of([fine], 16), [fine]) == 16


def test_ground_in_coordinates_that_cannot_be_compared_stays_whole() -> None:
    scenes = [
        scene("a", 160, 160, ground="g"),
        scene("b", 160, 160, ground="g", crs=OTHER_UTM),
        scene("c", 640, 640, x=FAR),
    ]
    split = split_of(scenes, 32)
    assert parts_of(split)["a"] == parts_of(split)["b"] == {"train"}
    assert any("a, b show the same ground in coordinates that cannot be compared" in note for note in split.notes)


def test_a_scene_without_crs_is_divided_like_any_other() -> None:
    with_crs, without = scene("a", 320, 320), scene("a", 320, 320, crs=None)
    assert split_of([with_crs], 32).regions == split_of([without], 32).regions


def test_long_grids_give_each_part_several_pieces_of_ground() -> None:
    split = split_of([scene("a", 3200, 640)], 32)
    assert sum(region.part == "val" for region in split.regions) > 1
    assert sum(split.counts().values()) > 0.85 * 100 * 20


def test_the_same_input_gives_the_same_split_and_another_seed_another() -> None:
    scenes = [scene("a", 640, 640), scene("b", 640, 500, x=FAR)]
    assert split_of(scenes, 32, seed=1) == split_of(scenes, 32, seed=1)
    assert len({split_of(scenes, 32, seed=seed).regions for seed in range(8)}) > 4


def test_a_share_of_zero_leaves_a_part_empty() -> None:
    split = split_of([scene("a", 640, 640)], 32, shares=(0.8, 0.2, 0.0))
    assert split.counts()["test"] == 0
    assert split.real_shares()["val"] == pytest.approx(0.2, abs=0.03)


def test_training_tiles_may_overlap_and_their_ground_counts_once() -> None:
    scenes = [scene("a", 640, 640)]
    plain, dense = split_of(scenes, 64), split_of(scenes, 64, overlap_px=32)
    assert plain.regions == dense.regions
    assert len(dense.tiles["train"]) > 3 * len(plain.tiles["train"])
    assert dense.tiles["val"] == plain.tiles["val"]
    assert dense.real_shares() == plain.real_shares()
    assert dense.area_ha("train") == plain.area_ha("train") == len(plain.tiles["train"]) * 64 * 64 / 10_000


def test_a_tile_is_kept_from_the_least_measured_share_on() -> None:
    valid = np.ones((320, 320), dtype=bool)
    valid[0, :10] = False  # the first tile has 1014 of 1024 pixels
    scenes = [scene("a", 320, 320)]
    just = split_of(scenes, 32, {"a": valid}, min_valid=1014 / 1024, shares=(1.0, 0.0, 0.0))
    over = split_of(scenes, 32, {"a": valid}, min_valid=1015 / 1024, shares=(1.0, 0.0, 0.0))
    assert Place("a", Window(0, 0, 32, 32)) in just.tiles["train"]
    assert len(just.tiles["train"]) == len(over.tiles["train"]) + 1 == 100


def test_a_tile_without_any_measured_pixel_is_never_kept() -> None:
    valid = np.ones((320, 320), dtype=bool)
    valid[:32, :32] = False
    split = split_of([scene("a", 320, 320)], 32, {"a": valid}, min_valid=0.0, shares=(1.0, 0.0, 0.0))
    assert len(split.tiles["train"]) == 99


# --- earlier splits ---------------------------------------------------------------------------------------------------


def test_new_sites_never_reshuffle_old_ones() -> None:
    old = split_of(sites(8), 32)
    new = split_of(sites(15), 32, previous=old)
    before, after = parts_of(old), parts_of(new)
    assert {name: after[name] for name in before} == before
    for part, asked in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
        assert new.real_shares()[part] == pytest.approx(asked, abs=0.1)


def test_a_new_site_goes_where_it_is_needed_most() -> None:
    scenes = sites(6)
    old = split_of(scenes, 32)
    lacking = "test"
    everything_else = [one for one in scenes if parts_of(old)[one.name] != {lacking}]
    newcomer = scene("new", 128, 160, x=FAR * 50)
    kept = replace(old, regions=tuple(region for region in old.regions if region.part != lacking))
    split = split_of([*everything_else, newcomer], 32, previous=kept)
    assert parts_of(split)["new"] == {lacking}


def test_blocks_do_not_change_when_other_sites_join() -> None:
    first, second = scene("a", 640, 640), scene("b", 500, 640, x=FAR)
    alone = split_of([first], 32)
    together = split_of([first, second], 32)
    assert [region for region in together.regions if region.scene == "a"] == list(alone.regions)


def test_a_sixth_site_leaves_blocks_as_they_were() -> None:
    five, six = sites(5, 320), sites(6, 320)
    old = split_of(five, 32)
    new = split_of(six, 32, previous=old)
    assert new.by == "blocks"
    assert [region for region in new.regions if region.scene != "site_5"] == list(old.regions)
    assert "site_5" in parts_of(new)


def test_a_new_date_takes_over_the_blocks_of_its_ground() -> None:
    first = scene("first", 640, 640, ground="g")
    old = split_of([first], 32, buffer_px=64)
    second = scene("second", 320, 330, pixel=2.0, x=20.0, y=10.0, ground="g")
    new = split_of([first, second], 32, previous=old, buffer_px=32)
    assert [region for region in new.regions if region.scene == "first"] == list(old.regions)
    assert parts_of(new)["second"] == {"train", "val", "test"}
    assert closest_px(new, [first, second]) >= 32
    assert any("second takes over the blocks of first" in note for note in new.notes)


def test_a_new_scene_that_cannot_keep_the_buffer_loses_that_block() -> None:
    first = scene("first", 640, 640, ground="g")
    old = split_of([first], 32)
    coarse = scene("coarse", 160, 160, pixel=4.0, ground="g")  # its pixels need four times the buffer
    new = split_of([first, coarse], 32, previous=old)
    assert closest_px(new, [first, coarse]) >= 32
    assert any("lies too close to another part and is not used" in note for note in new.notes)


def test_a_scene_with_another_grid_counts_as_new() -> None:
    old = split_of([scene("a", 640, 640)], 32)
    new = split_of([scene("a", 640, 600)], 32, previous=old)
    assert any("a has another grid than in the earlier split" in note for note in new.notes)


def test_an_earlier_split_of_another_kind_is_dropped_and_said() -> None:
    old = split_of(sites(6), 32)
    new = split_of(sites(6, 320), 32, by="blocks", previous=old)
    assert new.notes[0] == "the earlier split is not kept: it was made by site, this one is made by blocks"


def test_a_wider_buffer_drops_an_earlier_split_and_says_so() -> None:
    scenes = [scene("a", 960, 960)]
    old = split_of(scenes, 32)
    new = split_of(scenes, 32, buffer_px=64, previous=old)
    assert "its parts are 32 px apart, 64 px are asked" in new.notes[0]
    assert closest_px(new, scenes) >= 64


def test_a_new_scene_that_joins_two_parts_is_refused() -> None:
    scenes = [scene(f"s{index}", 128, 128, x=400.0 * index) for index in range(6)]
    old = split_of(scenes, 32)
    part = {region.scene: region.part for region in old.regions}
    index = next(index for index in range(5) if part[f"s{index}"] != part[f"s{index + 1}"])
    bridge = scene("bridge", 128, 400, x=400.0 * index + 64)
    with pytest.raises(DataError, match=rf"s{index} \(\w+\).*belong to different parts; bridge makes them one site"):
        split_of([*scenes, bridge], 32, previous=old)


# --- lists ------------------------------------------------------------------------------------------------------------


def test_lists_are_taken_as_they_are() -> None:
    split = split_of(sites(4), 32, by="lists", train=["site_0", "site_2"], val=["site_3"], test=["site_1"])
    assert parts_of(split) == {"site_0": {"train"}, "site_1": {"test"}, "site_2": {"train"}, "site_3": {"val"}}


def test_without_names_for_val_blocks_come_out_of_the_training_sites() -> None:
    scenes = sites(3, 640)
    split = split_of(scenes, 32, by="lists", train=["site_0", "site_1"], test=["site_2"])
    assert parts_of(split) == {"site_0": {"train", "val"}, "site_1": {"train", "val"}, "site_2": {"test"}}
    counts = split.counts()
    assert counts["val"] / (counts["train"] + counts["val"]) == pytest.approx(0.15 / 0.85, abs=0.05)
    assert counts["test"] == 20 * 6
    assert closest_px(split, scenes) >= 32


def test_all_faults_of_lists_are_told_at_once() -> None:
    scenes = [*sites(4), scene("twin", 128, 128, x=FAR * 0, ground="site_0")]
    with pytest.raises(DataError) as caught:
        split_of(scenes, 32, by="lists", train=["site_0", "site_7"], val=["site_1", "twin"], test=["site_1"])
    text = str(caught.value)
    assert "data.split.train: there is no site site_7. Did you mean site_" in text
    assert "site_1 is named in val and in test. Name it once." in text
    assert "site_2, site_3 are named in no part" in text
    assert "site_0 (train), twin (val) show the same ground. Name them in one part." in text


def test_listed_sites_closer_than_the_buffer_are_refused() -> None:
    near = [scene("a", 128, 128), scene("b", 128, 128, x=140.0), scene("c", 128, 128, x=FAR)]
    with pytest.raises(DataError, match=r"a \(train\), b \(test\) share ground or lie closer together than 32 px"):
        split_of(near, 32, by="lists", train=["a"], val=["c"], test=["b"])


# --- refusals and notes -----------------------------------------------------------------------------------------------


def test_too_few_tiles_are_refused_with_the_largest_tile_that_works() -> None:
    scenes = [scene("a", 583, 1000)]
    with pytest.raises(DataError) as caught:
        split_of(scenes, 256)
    text = str(caught.value)
    assert "too few tiles of 256 px: train" in text
    assert "each part needs at least 4 (tiles at least 70% measured, parts 256 px apart)" in text
    size_px = int(text.rsplit("data.tiles.size_px: ", 1)[1].rstrip("."))
    assert min(split_of(scenes, size_px).counts().values()) >= 4
    with pytest.raises(DataError, match="too few tiles"):
        split_of(scenes, size_px + 16)


def test_ground_for_which_no_tile_works_is_refused_with_other_advice() -> None:
    with pytest.raises(DataError, match="No smaller tile would work either"):
        split_of([scene("a", 20, 20)], 16)


def test_enough_tiles_for_each_part_matter_more_than_the_shares() -> None:
    split = split_of([scene("a", 160, 160)], 32)
    assert min(split.counts().values()) >= 4


def test_no_tile_with_enough_measured_pixels_is_refused_with_the_best_share() -> None:
    valid = np.zeros((256, 256), dtype=bool)
    valid[:, ::3] = True
    with pytest.raises(
        DataError, match=r"No tile of 64 px has at least 70% .* in a, has 34\.\d%\. Set data\.tiles\.min_v"
    ):
        split_of([scene("a", 256, 256)], 64, {"a": valid})


def test_ground_without_any_measured_pixel_points_at_nodata() -> None:
    with pytest.raises(DataError, match=r"has 0\.0%\. Check the nodata value"):
        split_of([scene("a", 256, 256)], 64, {"a": np.zeros((256, 256), dtype=bool)})


def test_no_scene_is_refused() -> None:
    with pytest.raises(DataError, match="There is no scene to divide"):
        split_of([], 32)


def test_two_scenes_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="Several scenes are named a"):
        split_of([scene("a", 64, 64), scene("a", 64, 64, x=FAR)], 32)


def test_scenes_that_are_not_used_and_scenes_that_are_padded_are_told() -> None:
    scenes = [*sites(7), scene("cloudy", 128, 128, x=-FAR), scene("small", 28, 30, x=-2 * FAR)]
    split = split_of(scenes, 32, {"cloudy": np.zeros((128, 128), dtype=bool)})
    assert "cloudy is not used: its best tile is 0% measured, data.tiles.min_valid asks 70%" in split.notes
    assert any(
        note.startswith("small is 28 x 30 px, smaller than a tile of 32 px: it is padded") for note in split.notes
    )


def test_the_summary_tells_tiles_real_shares_and_buffer() -> None:
    split = split_of([scene("forest", 320, 320)], 32, shares=(0.5, 0.25, 0.25), seed=5)
    lines = split.summary().splitlines()
    assert lines[0] == "Split by blocks inside sites: tiles of 32 px, seed 5, parts at least 32 px apart"
    counts = split.counts()
    share = counts["train"] / sum(counts.values())
    hectares = counts["train"] * 32 * 32 / 10_000
    assert lines[2].split() == ["train", str(counts["train"]), f"{share:.1%}", "50.0%", f"{hectares:.2f}"]
    assert lines[-1].split() == ["forest", *(str(counts[part]) for part in PARTS)]


def test_a_place_that_is_no_tile_has_no_region() -> None:
    split = split_of([scene("a", 320, 320)], 32)
    with pytest.raises(DataError, match="is no tile of this split"):
        split.region_of(Place("a", Window(1, 1, 32, 32)))


# --- the independent check --------------------------------------------------------------------------------------------


def two_parts(gap_px: int, *, buffer_px: int = 32) -> tuple[Split, list[Scene]]:
    scenes = [scene("a", 128, 64), scene("b", 128, 64, x=64.0 + gap_px)]
    regions = (Region("a", "train", Window(0, 0, 128, 64)), Region("b", "test", Window(0, 0, 128, 64)))
    tiles = {"train": (Place("a", Window(0, 32, 32, 32)),), "val": (), "test": (Place("b", Window(0, 0, 32, 32)),)}
    grids = {one.name: one.grid for one in scenes}
    return Split("lists", 0, (0.7, 0.15, 0.15), 32, buffer_px, regions, tiles, grids), scenes


def test_parts_exactly_a_buffer_apart_pass_the_check() -> None:
    assert_apart(*two_parts(32))


def test_parts_closer_than_the_buffer_fail_the_check() -> None:
    with pytest.raises(
        DataError, match=r"a rows .* \(train\) and b rows .* \(test\) are 31 px apart, .* must be 32 px"
    ):
        assert_apart(*two_parts(31))


def test_shared_ground_fails_the_check() -> None:
    with pytest.raises(DataError, match="share ground"):
        assert_apart(*two_parts(-5, buffer_px=0))


def test_touching_parts_pass_the_check_without_a_buffer() -> None:
    assert_apart(*two_parts(0, buffer_px=0))


def test_a_tile_outside_its_region_fails_the_check() -> None:
    split, scenes = two_parts(40)
    moved = {**split.tiles, "train": (Place("a", Window(0, 33 + 32, 32, 32)),)}
    assert_apart(replace(split, tiles=moved), scenes)  # padding is no ground
    wandering = {**split.tiles, "train": (Place("b", Window(64, 0, 32, 32)),)}
    with pytest.raises(DataError, match="The split is not safe"):
        assert_apart(replace(split, tiles=wandering), scenes)


def test_the_check_counts_in_pixels_of_the_coarser_scene() -> None:
    scenes = [scene("a", 64, 64), scene("b", 64, 64, pixel=2.0, x=64.0 + 40.0)]
    regions = (Region("a", "train", Window(0, 0, 64, 64)), Region("b", "val", Window(0, 0, 64, 64)))
    split = Split("lists", 0, (0.7, 0.15, 0.15), 32, 20, regions, dict.fromkeys(PARTS, ()))
    assert_apart(split, scenes)
    with pytest.raises(DataError, match="are 20 px apart"):
        assert_apart(replace(split, buffer_px=21), scenes)


def test_the_check_notices_missing_scenes_other_grids_and_grounds_it_cannot_compare() -> None:
    split, scenes = two_parts(40)
    with pytest.raises(DataError, match="names the site b, which is not among the data"):
        assert_apart(split, scenes[:1])
    with pytest.raises(DataError, match="b has another grid"):
        assert_apart(split, [scenes[0], scene("b", 127, 64, x=104.0)])
    foreign = scene("b", 128, 64, ground="a", crs=OTHER_UTM, x=104.0)
    with pytest.raises(DataError, match="The ground a is used by several parts in coordinates that cannot be compared"):
        assert_apart(replace(split, grids={}), [scenes[0], foreign])


def test_ten_thousand_tiles_are_checked() -> None:
    big = [scene("a", 3200, 3200)]
    split = split_of(big, 32)
    assert sum(split.counts().values()) > 8_000
    assert_apart(split, big)
    place = split.tiles["val"][0]
    broken = {**split.tiles, "train": (*split.tiles["train"], place)}
    with pytest.raises(DataError, match="share ground"):
        assert_apart(replace(split, tiles=broken), big)
