"""Dividing whole images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from maskwright.data.regions import Split
from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.split_images import build_image_split
from maskwright.data.split_names import parts_from_files, parts_from_folders, parts_from_lists
from maskwright.data.splits import assert_apart, read_manifest, write_manifest
from maskwright.errors import DataError

PLAIN = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
UTM = "EPSG:32611"


def photo(name: str, ground: str | None = None, size: tuple[int, int] = (64, 64)) -> Scene:
    return Scene(name, Grid(*size, PLAIN, None), ground or name, (Path(f"{name}.jpg"),))


def raster(name: str, x: float, side: int = 64) -> Scene:
    from rasterio.crs import CRS

    grid = Grid(side, side, (1.0, 0.0, x, 0.0, -1.0, 0.0), CRS.from_string(UTM).to_wkt())
    return Scene(name, grid, name, (Path(f"{name}.tif"),))


def all_valid(scenes: Sequence[Scene]) -> object:
    grids = {scene.name: scene.grid for scene in scenes}

    def share(name: str, cell_px: int) -> np.ndarray:
        grid = grids[name]
        rows, cols = np.arange(0, grid.height, cell_px), np.arange(0, grid.width, cell_px)
        heights = np.minimum(cell_px, grid.height - rows)
        return np.outer(heights, np.minimum(cell_px, grid.width - cols)) / cell_px**2

    return share


def split(scenes: Sequence[Scene], **options: object) -> Split:
    made = build_image_split(scenes, all_valid(scenes), **{"tile_px": 32, **options})  # type: ignore[arg-type]
    assert_apart(made, scenes)
    return made


def parts(made: Split) -> dict[str, str]:
    return {region.scene: region.part for region in made.regions}


def test_images_are_divided_in_the_shares_asked() -> None:
    scenes = [photo(f"{index:03}") for index in range(100)]
    made = split(scenes)
    assert Counter(parts(made).values()) == {"train": 70, "val": 15, "test": 15}
    assert made.counts() == {"train": 280, "val": 60, "test": 60}
    assert made == split(scenes)
    assert parts(made) != parts(split(scenes, seed=43))


def test_images_with_each_class_are_divided_alike() -> None:
    scenes = [photo(f"{index:03}") for index in range(120)]
    ids = {scene.name: [1] if index < 20 else [2] if index < 60 else [] for index, scene in enumerate(scenes)}
    made = parts(split(scenes, ids_of=lambda name: ids[name]))
    for found, expected in (([1], (14, 3, 3)), ([2], (28, 6, 6)), ([], (42, 9, 9))):
        count = Counter(part for name, part in made.items() if ids[name] == found)
        assert tuple(count[part] for part in ("train", "val", "test")) == expected


def test_images_of_one_group_stay_together() -> None:
    scenes = [photo(f"{index:03}", ground=f"tile {index // 5}") for index in range(100)]
    made = parts(split(scenes, by="group"))
    assert all(len({made[f"{5 * group + index:03}"] for index in range(5)}) == 1 for group in range(20))
    assert Counter(made.values()) == {"train": 70, "val": 15, "test": 15}


def test_images_whose_ground_overlaps_stay_together() -> None:
    scenes = [raster(f"{index}", 50.0 * index if index < 4 else 1000.0 * index) for index in range(12)]
    made = parts(split(scenes))
    assert len({made[f"{index}"] for index in range(4)}) == 1


def test_images_that_only_touch_may_be_divided() -> None:
    scenes = [raster(f"{index}", 64.0 * index) for index in range(20)]
    assert set(parts(split(scenes)).values()) == {"train", "val", "test"}


def test_new_images_do_not_reshuffle_old_ones(tmp_path: Path) -> None:
    old = [photo(f"{index:03}") for index in range(40)]
    first = split(old)
    write_manifest(first, old, tmp_path / "splits.geojson")
    previous = read_manifest(tmp_path / "splits.geojson")
    assert previous == first
    new = [photo(f"new {index}") for index in range(20)]
    second = split([*new, *old], previous=previous)
    assert {name: part for name, part in parts(second).items() if not name.startswith("new")} == parts(first)
    assert Counter(parts(second).values()) == {"train": 42, "val": 9, "test": 9}


def test_an_image_of_another_size_counts_as_new() -> None:
    old = [photo(f"{index:03}") for index in range(20)]
    now = [photo("000", size=(32, 32)), *old[1:]]
    assert "1 images have another size than in the earlier split" in split(now, previous=split(old)).notes[0]


def test_a_new_image_that_joins_two_parts_is_refused() -> None:
    old = [raster(f"{index}", 100.0 * index) for index in range(12)]
    first = split(old)
    made = parts(first)
    place = next(index for index in range(11) if made[f"{index}"] != made[f"{index + 1}"])
    with pytest.raises(DataError, match=r"belong to different parts, and bridge joins them"):
        split([*old, raster("bridge", 100.0 * place + 50)], previous=first)


def test_every_part_gets_an_image_of_the_few_there_are() -> None:
    assert Counter(parts(split([photo(f"{index}") for index in range(3)])).values()) == {
        "train": 1,
        "val": 1,
        "test": 1,
    }


def test_too_few_images_are_refused_with_advice() -> None:
    with pytest.raises(DataError, match=r"2 images cannot be divided into 3 parts.*data\.split\.by: blocks"):
        split([photo("a"), photo("b")])
    with pytest.raises(DataError, match="4 images in 2 groups that stay together"):
        split([photo(f"{index}", ground=f"{index % 2}") for index in range(4)])


def test_parts_with_share_zero_get_nothing() -> None:
    made = split([photo(f"{index}") for index in range(10)], shares=(0.8, 0.2, 0.0))
    assert Counter(parts(made).values()) == {"train": 8, "val": 2}


def write(folder: Path, **lists: str) -> dict[str, Path]:
    for part, text in lists.items():
        (folder / f"{part}.txt").write_text(text, encoding="utf-8")
    return {part: folder / f"{part}.txt" for part in lists}


def images(*names: str) -> dict[str, Path]:
    return {name: Path(f"/data/images/{name}.jpg") for name in names}


def test_split_files_name_images_with_and_without_ending_and_folders(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        train="\ufeffa\nb.jpg\n\n# a comment\n",
        val="images/c.jpg masks/c.png\n",
        test="C:\\data\\images\\d e.jpg\n",
    )
    named = parts_from_files(files, images("a", "b", "c", "d e", "f"))
    assert named.faults == ()
    assert named.parts == {"a": "train", "b": "train", "c": "val", "d e": "test"}
    made = split([photo(name) for name in ("a", "b", "c", "d e", "f")], by="files", named=named)
    assert parts(made) == named.parts
    assert made.notes == ("1 images are in no part and are not used: f",)
    assert "files that list images" in made.summary()


def test_faults_of_split_files_are_told_at_once(tmp_path: Path) -> None:
    files = write(tmp_path, train="a\nb\nphoto_1\n", val="b\nx/same\n", test="same\n")
    named = parts_from_files(files, images("a", "b", "photo_01", "one/same", "two/same"))
    with pytest.raises(DataError) as caught:
        split([photo(name) for name in ("a", "b")], by="files", named=named)
    text = str(caught.value)
    assert "there is no image photo_1. Did you mean photo_01?" in text
    assert "b is named in " in text
    assert "same may mean several images. Write the folders as well, for example one/same" in text


def test_validation_is_taken_from_training_where_none_is_named() -> None:
    scenes = [photo(f"{index:02}") for index in range(40)]
    named = parts_from_folders({scene.name: "test" if index < 6 else "train" for index, scene in enumerate(scenes)})
    made = split(scenes, by="folders", named=named)
    assert Counter(parts(made).values()) == {"train": 28, "val": 6, "test": 6}
    assert made.notes == ("no image is named for validation: 6 of the 34 training images are taken for it",)


def test_lists_that_divide_a_group_are_refused() -> None:
    scenes = [photo("a", "g"), photo("b", "g"), photo("c")]
    named = parts_from_lists({"train": ["a", "c"], "val": ["b"]}, images("a", "b", "c"))
    with pytest.raises(DataError, match=r"a \(train\), b \(val\) belong to one group or show the same ground"):
        split(scenes, by="lists", named=named)


def test_tiles_without_pixels_that_count_are_left_out() -> None:
    scenes = [photo(f"{index}", size=(33, 64)) for index in range(10)]
    made = split(scenes, min_valid=0.1)  # the second row of tiles has 1 of 32 rows
    assert sum(made.counts().values()) == 20
    with pytest.raises(DataError, match="No tile of 512 px has 10% of its pixels that count"):
        split(scenes, tile_px=512, min_valid=0.1)


def test_many_images_are_divided_without_comparing_each_with_each() -> None:
    scenes = [photo(f"{index:05}") for index in range(20_000)]
    made = build_image_split(scenes, lambda name, cell_px: np.ones((2, 2)), tile_px=32)
    assert Counter(parts(made).values()) == {"train": 14_000, "val": 3_000, "test": 3_000}


def test_the_summary_counts_images() -> None:
    text = split([photo(f"{index}") for index in range(10)]).summary()
    assert text.startswith("Split by whole images: tiles of 32 px")
    assert "images" in text.splitlines()[1]
    assert text.splitlines()[2].split() == ["train", "28", "70.0%", "70.0%", "7"]


def test_copies_stay_together_and_the_notes_say_so() -> None:
    scenes = [photo(f"{index:03}") for index in range(40)]
    copies = [(index, index + 20) for index in range(20)] + [(0, 1)]
    made = split(scenes, copies=copies)
    part_of = parts(made)
    assert all(part_of[scenes[a].name] == part_of[scenes[b].name] for a, b in copies)
    assert made.notes == (
        "40 images are copies or near copies of others; those that show the same stay in one part (data.split.copies)",
    )


def test_copies_that_an_earlier_split_parted_stay_where_they_are() -> None:
    scenes = [photo(f"{index:03}") for index in range(20)]
    earlier = split(scenes)
    first = {part: next(i for i, s in enumerate(scenes) if parts(earlier)[s.name] == part) for part in ("train", "val")}
    newcomer = [*scenes, photo("new")]
    chain = [(first["train"], 20), (first["val"], 20)]  # the new image looks like both
    made = split(newcomer, previous=earlier, copies=chain)
    assert all(parts(made)[name] == part for name, part in parts(earlier).items())
    assert parts(made)["new"] == "train"  # with the first it was joined to
    assert "1 pairs of copies lie in different parts of the earlier split" in made.notes[0]
    assert "data.split.keep: none divides afresh" in made.notes[0]


def test_a_film_of_one_scene_is_refused_with_advice() -> None:
    scenes = [photo(f"{index:03}") for index in range(10)]
    with pytest.raises(DataError, match=r"10 images in 1 groups .* set data\.split\.copies: ignore"):
        split(scenes, copies=[(index, index + 1) for index in range(9)])
