"""Every preset trains by the real command; made small where its size alone would take minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.cli.main import main
from maskwright.config import OBJECTS, load_experiment, presets
from maskwright.data.synthetic import write_forest
from maskwright.data.synthetic_images import write_pictures
from maskwright.data.synthetic_trees import make_trees, write_trees
from maskwright.tracking.folder import find_runs

SMALL = {
    "training.epochs": "1",
    "training.threads": "1",
    "data.tiles.size_px": "32",
    "data.loader.samples_per_epoch": "16",
    "metrics.bootstrap": "100",
    "tracking.quiet": "true",
}
SMALL_NETWORK = {"model.base_channels": "4", "model.depth": "2"}
SMALL_ECOSYSTEM = {"model.encoder": "resnet18", "model.encoder_weights": "none"}
SMALL_PHOTOS = {"data.split.by": "image", "data.split.shares": "[0.5, 0.25, 0.25]"}
HEIGHTS = {"task.heights_m": "[5, 10]"}


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rasters")
    for seed in range(3):  # some presets divide by site
        write_forest(folder, name=f"site{seed}", size_px=320, seed=seed)
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("photographs"), "cracks", 8, size_px=96)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Invented agroforests: outlines in a COCO file, and stems as points."""
    folder = write_trees(tmp_path_factory.mktemp("trees"), 6, size_px=96, difficulty="hard")
    (folder / "points").mkdir()
    for seed in range(6):
        rows = [f"{tree.x - 0.5},{tree.y - 0.5}" for tree in make_trees(96, seed, "hard").trees]
        (folder / "points" / f"trees_{seed:04d}.csv").write_text("\n".join(["x,y", *rows]), encoding="utf-8")
    return folder


def small(preset: str, rasters: Path, photographs: Path, trees: Path) -> dict[str, str]:
    """What makes the preset small, and the data it needs."""
    experiment = load_experiment(f"preset:{preset}", [f"data.folder={rasters}"])
    of_images, of_trees = experiment.data.kind == "images", experiment.task.kind in OBJECTS
    settings = {**SMALL, "data.folder": str(trees if of_trees else photographs if of_images else rasters)}
    settings |= SMALL_ECOSYSTEM if "smp" in experiment.model.kind else SMALL_NETWORK
    if of_trees:
        settings |= {"data.loader.workers": "0", "data.images": str(trees / "images")}
    settings |= SMALL_PHOTOS if of_images else HEIGHTS
    if of_images and experiment.data.resize_px is not None:
        settings["data.resize_px"] = "[64, 64]"
    return settings


SLOW = ("cabruca", "neon_boxes")  # alike in kind to cabruca_light


@pytest.mark.parametrize(
    "preset", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in sorted(presets())]
)
def test_a_preset_needs_nothing_but_the_data(
    preset: str, rasters: Path, photographs: Path, trees: Path, tmp_path: Path
):
    settings = small(preset, rasters, photographs, trees) | {"tracking.output_dir": str(tmp_path), "name": preset}
    words = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    assert main(["train", f"preset:{preset}", *words]) == 0
    (run,) = find_runs(tmp_path)
    assert run.record.status() == "finished"
    assert (run.path / "evaluation.json").is_file()
