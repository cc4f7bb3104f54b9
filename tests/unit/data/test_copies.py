"""The same picture twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from maskwright.config import load_experiment
from maskwright.data.build import build_source, build_split_of
from maskwright.data.copies import Copy, difference_hash, exact_copies, grey, image_copies, near_copies, shrunk
from maskwright.workflows.init import draft_experiment


def picture(seed: int) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(96, 96)), 6).astype(np.float32)


def likeness(pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    codes = np.array([difference_hash(entry) for entry in pictures], np.uint64)
    return codes, np.stack([shrunk(entry, 48, 48).ravel() for entry in pictures])


def test_equal_contents_are_paired_with_the_first() -> None:
    assert exact_copies(["a", "b", "a", "", "", "a"]) == [Copy(0, 2, 1.0), Copy(0, 5, 1.0)]


def test_a_brighter_noisier_copy_is_found_and_nothing_else() -> None:
    pictures = [picture(seed) for seed in range(30)]
    noise = np.random.default_rng(9).normal(scale=0.005, size=(96, 96))
    pictures.append((pictures[4] * 0.7 + 3 + noise).astype(np.float32))
    found = near_copies(*likeness(pictures))
    assert [(copy.first, copy.second) for copy in found] == [(4, 30)]
    assert found[0].alike > 0.95


def test_what_all_images_share_makes_no_copies() -> None:
    rows, cols = np.mgrid[:96, :96]
    disc = ((rows - 48) ** 2 + (cols - 48) ** 2 < 40**2).astype(np.float32)
    pictures = [disc + picture(seed) for seed in range(20)]
    codes, small = likeness(pictures)
    plain = np.corrcoef(small)
    assert (plain[np.triu_indices(20, 1)] > 0.9).any()  # plain likeness would call some of them copies
    assert near_copies(codes, small) == []


def test_copies_among_many_are_found_by_buckets() -> None:
    generator = np.random.default_rng(3)
    codes = generator.integers(0, 2**63, 6000).astype(np.uint64)
    small = generator.normal(size=(6000, 64)).astype(np.float32)
    codes[5000], small[5000] = codes[17] ^ np.uint64(1), small[17]
    codes[5500], small[5500] = codes[18], small[18] + 0.05
    found = {(copy.first, copy.second) for copy in near_copies(codes, small)}
    assert found == {(17, 5000), (18, 5500)}


def test_thousands_of_equal_hashes_do_not_make_all_pairs() -> None:
    codes = np.zeros(4000, np.uint64)
    small = np.random.default_rng(0).normal(size=(4000, 16)).astype(np.float32)
    assert near_copies(codes, small) == []


def test_a_copy_among_thousands_of_equal_hashes_is_found() -> None:
    codes = np.zeros(3000, np.uint64)
    small = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
    small[2900] = small[5] * 1.001
    assert [(copy.first, copy.second) for copy in near_copies(codes, small)] == [(5, 2900)]


def write_images(folder: Path, pictures: list[np.ndarray]) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    mask = np.zeros((96, 96), np.uint8)
    mask[20:60, 20:60] = 255
    for index, entry in enumerate(pictures):
        grey_levels = np.clip(128 + 900 * entry, 0, 255).astype(np.uint8)
        Image.fromarray(grey_levels).save(folder / "images" / f"part_{index:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"part_{index:02}.png")


def test_exposures_of_one_part_are_found_once_and_stay_in_one_part_of_the_split(tmp_path: Path) -> None:
    pictures = [picture(seed) for seed in range(20)]
    pictures += [pictures[seed] * 0.8 + 0.01 for seed in range(10)]  # a second exposure of the first ten
    pictures.append(pictures[15])  # and one file twice
    write_images(tmp_path / "parts", pictures)
    settings = draft_experiment(tmp_path / "parts").settings()
    settings["data"]["cache"] = {"folder": str(tmp_path / "cache")}
    data = load_experiment((), settings).data
    source = build_source(data, "binary")
    exact, near = image_copies(source)
    assert [(copy.first, copy.second) for copy in exact] == [(15, 30)]
    assert {(copy.first, copy.second) for copy in near} == {(seed, 20 + seed) for seed in range(10)} | {(15, 30)}
    assert image_copies(source) == (exact, near)  # from the cache
    parts = {region.scene: region.part for region in build_split_of(data, source).regions}
    names = [scene.name for scene in source.scenes]
    assert all(parts[names[copy.first]] == parts[names[copy.second]] for copy in near)
    settings["data"]["split"] = {"copies": "ignore"}
    loose = load_experiment((), settings).data
    parted = {region.scene: region.part for region in build_split_of(loose, source).regions}
    assert any(parted[names[copy.first]] != parted[names[copy.second]] for copy in near)


def test_values_under_pixels_that_do_not_count_make_no_copy() -> None:
    values, valid = np.random.default_rng(0).normal(size=(3, 32, 32)), np.ones((32, 32), bool)
    valid[5:9] = False
    other = values.copy()
    other[:, 5:9] = 1e6
    assert np.array_equal(grey(values, valid), grey(other, valid))
