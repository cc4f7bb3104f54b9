"""The same picture twice."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from maskwright.data.preflight_copies import Copy, copy_findings, exact_copies, near_copies
from maskwright.data.preflight_look import difference_hash, shrunk


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


def test_copies_across_parts_are_told_apart_from_those_inside_one() -> None:
    names, grounds = ["a", "b", "c", "d"], ["a", "b", "c", "d"]
    parts = ["train", "test", "train", "train"]
    found = copy_findings(names, parts, grounds, [Copy(0, 1, 1.0)], [Copy(0, 1, 1.0), Copy(2, 3, 0.95)])
    assert [(f.level, f.code) for f in found] == [("error", "exact_copies_across_parts"), ("note", "near_copies")]
    assert found[0].where == "a, b"
    assert "a (train) and b (test)" in found[0].what


def test_images_of_one_ground_are_known_to_belong_together() -> None:
    assert copy_findings(["a", "b"], ["train", "train"], ["g", "g"], [], [Copy(0, 1, 0.99)]) == []


def test_a_copy_among_thousands_of_equal_hashes_is_found() -> None:
    codes = np.zeros(3000, np.uint64)
    small = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
    small[2900] = small[5] * 1.001
    assert [(copy.first, copy.second) for copy in near_copies(codes, small)] == [(5, 2900)]
