"""Invented agroforests: as many trees as said, touching as said, and told in files as they are painted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from maskwright.data.synthetic_trees import TREE_DIFFICULTIES, TreeScene, make_trees, write_trees
from maskwright.errors import DataError


@pytest.fixture(scope="module")
def scene() -> TreeScene:
    return make_trees(512, seed=3)


def radii(scene: TreeScene) -> np.ndarray:
    return np.array([tree.diameter_m for tree in scene.trees]) / 2


def test_the_same_arguments_give_the_same_scene_and_another_seed_another() -> None:
    one, same, other = (make_trees(128, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.height, same.height)
    assert not np.array_equal(one.image, other.image)


def test_trees_are_as_many_and_as_large_as_said(scene: TreeScene) -> None:
    assert 40 <= len(scene.trees) <= 120
    diameters = 2 * radii(scene)
    assert diameters.min() > 2.2  # 3 to 12 m, up to the waves of an outline
    assert diameters.max() < 13.5
    assert {tree.label for tree in scene.trees} == {1, 2}
    assert all(0 <= tree.x < 512 and 0 <= tree.y < 512 for tree in scene.trees)


def test_about_a_third_touches_and_none_overlaps_more_than_said() -> None:
    touching, deepest, total = 0, 0.0, 0
    for seed in range(6):
        scene = make_trees(256, seed)
        places = np.array([(tree.x, tree.y) for tree in scene.trees]) * scene.pixel_size_m
        size = radii(scene)
        apart = np.hypot(*np.moveaxis(places[:, None] - places[None], -1, 0))
        np.fill_diagonal(apart, np.inf)
        depth = (size[:, None] + size[None] - apart) / (2 * np.minimum(size[:, None], size[None]))
        touching += int((depth.max(axis=1) > -0.05).sum())
        deepest = max(deepest, float(depth.max()))
        total += len(scene.trees)
    assert 0.25 < touching / total < 0.85  # a touching tree makes its neighbour one as well
    assert deepest < 0.45  # 0.3 of circles; wavy outlines reach a little further


def test_both_kinds_are_alike_in_colour_and_differ_from_the_soil(scene: TreeScene) -> None:
    colors = {1: [], 2: []}  # type: ignore[var-annotated]
    for tree in scene.trees:
        row, col = min(int(tree.y), 509), min(int(tree.x), 509)
        colors[tree.label].append(scene.image[max(row - 2, 0) : row + 3, max(col - 2, 0) : col + 3].mean(axis=(0, 1)))
    cacao, shade = (np.mean(colors[label], axis=0) for label in (1, 2))
    spread = np.std(colors[1], axis=0).mean()
    assert np.abs(cacao - shade).max() < spread
    assert scene.image[..., 0].mean() > cacao[0] + 10  # soil is redder


def test_the_canopy_model_is_as_high_as_the_trees(scene: TreeScene) -> None:
    assert scene.height.min() == 0
    top = scene.trees[-1]  # the highest: nothing lies over it
    assert scene.height[int(top.y), int(top.x)] == pytest.approx(top.height_m, rel=0.05)


def test_files_hold_outlines_diameters_and_a_place_on_the_ground(tmp_path: Path) -> None:
    write_trees(tmp_path, 2, size_px=96, seed=4, difficulty="hard", pixel_size_m=0.5)
    content = json.loads((tmp_path / "annotations.json").read_text("utf-8"))
    scenes = [make_trees(96, seed, "hard", 0.5) for seed in (4, 5)]
    assert len(content["annotations"]) == sum(len(scene.trees) for scene in scenes)
    assert [entry["name"] for entry in content["categories"]] == ["cacao", "shade"]
    first, tree = content["annotations"][0], scenes[0].trees[0]
    assert first["crown_diameter"] == pytest.approx(tree.diameter_m, abs=0.001)
    assert first["category_id"] == tree.label
    x, y, width, height = first["bbox"]
    assert 0 <= x <= x + width <= 96
    assert 0 <= y <= y + height <= 96
    with (
        rasterio.open(tmp_path / "images" / "trees_0001.tif") as file,
        rasterio.open(tmp_path / "chm" / "trees_0001.tif") as heights,
    ):
        assert file.crs.to_epsg() == 31984
        assert file.res == (0.5, 0.5)
        assert np.array_equal(file.read().transpose(1, 2, 0), scenes[1].image)
        assert heights.transform == file.transform


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(DataError, match=r"difficulty 'awful' is not known\. Known: easy, medium, hard"):
        make_trees(128, difficulty="awful")
    with pytest.raises(DataError, match="at least 64 px"):
        make_trees(32)
    assert list(TREE_DIFFICULTIES) == ["easy", "medium", "hard"]
