"""Trees found without training: bumps on a surface whose places are known."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from maskwright.config import load_experiment
from maskwright.data.synthetic_trees import write_trees
from maskwright.metrics.instance_meter import TrueObjects
from maskwright.objects import Crop
from maskwright.tasks.object_task import ObjectTask
from maskwright.workflows.assemble import assemble
from maskwright.workflows.report_tables import object_baseline_table
from maskwright.workflows.tree_baselines import PeakRule, green_excess, peaks_of, tree_baselines, tuned_rule

Tile = tuple[np.ndarray, np.ndarray, TrueObjects]


def _tile(seed: int, *, noise: float = 0.05, points: bool = False) -> Tile:
    """Bells of 12 px on rough ground."""
    rng = np.random.default_rng(seed)
    centres = np.array([(x + 0.5, y + 0.5) for x in range(14, 120, 18) for y in range(14, 120, 18)], np.float32)
    rows, cols = np.mgrid[:128, :128]
    surface = rng.normal(0, noise, (128, 128))
    for x, y in centres:
        surface += 5 * np.exp(-((rows + 0.5 - y) ** 2 + (cols + 0.5 - x) ** 2) / (2 * 4.0**2))
    boxes = np.concatenate([centres - 6, centres + 6], axis=1).astype(np.float32)
    masks = tuple(Crop(int(y) - 6, int(x) - 6, np.ones((12, 12), bool)) for x, y in centres)
    count = len(centres)
    diameter = np.full(count, np.nan if points else 12.0, np.float32)
    there = TrueObjects(boxes, np.full(count, 2), centres, diameter, masks, np.ones(count, bool), 0.5)
    return surface.astype(np.float32), np.ones((128, 128), bool), there


@pytest.mark.parametrize("points", [False, True])
def test_a_rule_tuned_on_some_tiles_finds_the_trees_of_another(points: bool) -> None:
    rule = tuned_rule([_tile(0, points=points), _tile(1, points=points)], match_distance_m=2.0)
    assert rule is not None
    assert rule.label == 2
    assert rule.f1 > 0.95
    assert rule.crown_px == pytest.approx(18.0 if points else np.sqrt(4 * 144 / np.pi))
    surface, valid, there = _tile(7)
    found = peaks_of(surface, valid, rule)
    apart = np.hypot(*np.moveaxis(found.centres[:, None] - there.centres[None], -1, 0))
    assert (apart.min(axis=0) <= 4).mean() > 0.9
    assert len(found) <= 1.1 * len(there)
    assert (found.labels == 2).all()
    assert ((found.scores > 0) & (found.scores <= 1)).all()


def test_ground_that_does_not_count_holds_no_peaks_and_pulls_none_down() -> None:
    surface, valid, _ = _tile(3)
    valid[:, 64:] = False
    surface[:, 64:] = 1e6
    found = peaks_of(surface, valid, PeakRule(2.0, 6, 1.0, 12.0, 1))
    assert len(found) > 10
    assert (found.centres[:, 0] < 64).all()
    untouched = peaks_of(np.where(valid, surface, -1e6), valid, PeakRule(2.0, 6, 1.0, 12.0, 1))
    np.testing.assert_array_equal(found.centres, untouched.centres)


def test_no_objects_to_learn_from_give_no_rule() -> None:
    surface, valid, there = _tile(0)
    empty = TrueObjects(there.boxes[:0], there.labels[:0], there.centres[:0], there.diameter[:0], (), there.counts[:0])
    assert tuned_rule([(surface, valid, empty)], 2.0) is None
    assert tuned_rule([], 2.0) is None


def test_a_flat_surface_holds_no_tree() -> None:
    flat = np.zeros((32, 32), np.float32)
    assert len(peaks_of(flat, np.ones((32, 32), bool), PeakRule(2.0, 6, 0.0, 12.0, 1))) == 0
    assert len(peaks_of(flat, np.zeros((32, 32), bool), PeakRule(2.0, 6, 0.0, 12.0, 1))) == 0


def test_green_excess_by_hand() -> None:
    rgb = np.array([[[100, 0, 50, 0]], [[100, 200, 100, 0]], [[100, 0, 50, 0]]], np.uint8)
    np.testing.assert_allclose(green_excess(rgb), [[0.0, 2.0, 0.5, 0.0]])


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trees(tmp_path_factory.mktemp("farm"), 6, size_px=128, difficulty="easy")


def _scored(farm: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, dict[str, float]], list[str]]:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(farm / "cache"))
    told = [f"data.folder={farm / 'images'}", f"data.labels.file={farm / 'annotations.json'}", "data.tiles.size_px=128"]
    parts = assemble(load_experiment(["preset:cabruca_light"], told))
    assert isinstance(parts.task, ObjectTask)
    tiles = parts.split.tiles
    return tree_baselines(parts.task, parts.images, tiles["test"], (parts.images, tiles["train"]))


def test_heights_beside_the_images_are_used_where_all_have_them(farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, notes = _scored(farm, monkeypatch)
    assert list(scores) == ["nothing", "peaks of the canopy height"]
    assert scores["nothing"]["near_f1"] == 0.0
    assert scores["nothing"]["count_error"] == -1.0
    assert scores["peaks of the canopy height"]["near_f1"] > 0.7
    assert "chosen on the training part" in notes[0]
    assert not [name for name in scores["nothing"] if name.startswith("crown")]


def test_other_ground_whose_images_have_the_same_names_keeps_its_own_heights(
    farm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    other = write_trees(tmp_path / "other", 6, size_px=128, seed=40, difficulty="easy")
    mine, others = (
        assemble(
            load_experiment(
                ["preset:cabruca_light"],
                [
                    f"data.folder={folder / 'images'}",
                    f"data.labels.file={folder / 'annotations.json'}",
                    "data.tiles.size_px=128",
                ],
            )
        )
        for folder in (farm, other)
    )
    assert isinstance(mine.task, ObjectTask)
    places = [place for tiles in others.split.tiles.values() for place in tiles]
    scores, _ = tree_baselines(mine.task, others.images, places, (mine.images, mine.split.tiles["train"]))
    assert scores["peaks of the canopy height"]["near_f1"] > 0.7


def test_else_what_is_green_is_used(farm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "farm"
    shutil.copytree(farm, copy)
    (copy / "chm/trees_0003.tif").unlink()  # one image without heights: the scores of all must stay comparable
    scores, _ = _scored(copy, monkeypatch)
    assert list(scores) == ["nothing", "peaks of the green excess"]
    assert 0 <= scores["peaks of the green excess"]["near_f1"] <= 1


def test_the_table_puts_the_model_beside_them() -> None:
    told = SimpleNamespace(
        objects={"mAP_50": 0.5, "found_f1": 0.6, "near_f1": 0.7, "count_error": -0.1},
        objects_baselines={"nothing": {"mAP_50": 0.0, "count_error": -1.0}},
    )
    head, rows = object_baseline_table(told)  # type: ignore[arg-type]
    assert head[0] == "answer"
    assert rows == [["model", "0.500", "0.600", "0.700", "-0.100"], ["nothing", "0.000", "-", "-", "-1.000"]]
