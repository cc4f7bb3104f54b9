"""Rounds of pseudo-labels by the real command: what is added, what is kept, what is refused; killed and continued."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.cli.main import main
from maskwright.config import load_experiment
from maskwright.data.splits import read_manifest
from maskwright.errors import DataError
from maskwright.tracking.folder import RunFolder, find_runs
from maskwright.workflows.shape import train_shaped

SIDE = 32
EXPERIMENT = """
name: sure
task: {{kind: {task}}}
data:
  kind: images
  folder: {data}
  labels: {{kind: masks{labels}}}
  tiles: {{size_px: 32}}
  loader: {{batch_size: 4}}
model: {{base_channels: 4, depth: 2}}
optim: {{optimizer: {{lr: 0.01}}}}
training: {{epochs: 3, threads: 1, device: cpu}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {out}, quiet: true, tensorboard: false}}
pseudo_labels: {{folder: {more}, rounds: 1, confidence: 0.6, min_share: 0.05, weight: 0.5}}
"""


def picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Grey noise with a bright square, and its mask."""
    image = rng.integers(60, 120, (SIDE, SIDE, 3), dtype=np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    row, col = rng.integers(0, SIDE - 12, 2)
    image[row : row + 12, col : col + 12] = 200
    mask[row : row + 12, col : col + 12] = 255
    return image, mask


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data`` with labels, ``more`` without."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.Generator(np.random.Philox(7))
    for below in ("data/images", "data/masks", "data/twos", "more/inside"):
        (folder / below).mkdir(parents=True)
    for number in range(14):
        image, mask = picture(rng)
        Image.fromarray(image).save(folder / "data" / "images" / f"p{number:02d}.png")
        Image.fromarray(mask).save(folder / "data" / "masks" / f"p{number:02d}.png")
    for number in range(6):
        below = folder / "more" / ("inside" if number % 2 else "")
        Image.fromarray(picture(rng)[0]).save(below / f"u{number}.png")
    return folder


def write_experiment(folder: Path, pictures: Path, *, task: str = "binary", labels: str = "", more: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "sure.yaml"
    config.write_text(
        EXPERIMENT.format(
            task=task,
            labels=labels,
            data=pictures / "data",
            out=folder / "outputs",
            more=more or pictures / "more",
        )
    )
    return config


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> RunFolder:
    folder = tmp_path_factory.mktemp("rounds")
    assert main(["train", str(write_experiment(folder, pictures))]) == 0
    (outer,) = find_runs(folder / "outputs")
    return outer


def inner(outer: RunFolder, number: int) -> RunFolder:
    (run,) = find_runs(outer.path, f"round_{number}")
    return run


def test_made_masks_are_trained_on_and_never_scored(rounds: RunFolder) -> None:
    first, second = (read_manifest(inner(rounds, number).splits) for number in range(2))
    extra = {region.scene for region in second.regions} - {region.scene for region in first.regions}
    assert extra
    assert all(name.startswith("extra:") for name in extra)
    assert {region.part for region in second.regions if region.scene in extra} == {"train"}
    for part in ("val", "test"):
        assert second.tiles[part] == first.tiles[part]
    assert set(first.tiles["train"]) < set(second.tiles["train"])


def test_masks_hold_ids_where_the_model_is_sure_and_nothing_elsewhere(rounds: RunFolder, pictures: Path) -> None:
    """Held against the probabilities that a plain prediction of the same model gives."""
    from maskwright.prediction import Predictor

    predictor = Predictor.load(inner(rounds, 0).path, device="cpu")
    listed = json.loads((rounds.path / "labels_1" / "extra.json").read_text())["images"]
    assert {entry["name"] for entry in listed} <= {
        path.relative_to(pictures / "more").with_suffix("").as_posix() for path in (pictures / "more").rglob("*.png")
    }
    for entry in listed:
        image = np.asarray(Image.open(entry["image"])).transpose(2, 0, 1)
        probs = predictor.predict_image(image)[0]
        ids = np.asarray(Image.open(rounds.path / "labels_1" / entry["mask"]))
        certain = np.abs(np.maximum(probs, 1 - probs) - 0.6) > 1e-4  # rounding may decide the others
        assert np.array_equal((ids != 255)[certain], (np.maximum(probs, 1 - probs) > 0.6)[certain])
        assert np.array_equal(ids[(ids != 255) & certain] == 1, (probs > 0.5)[(ids != 255) & certain])
    assert json.loads((inner(rounds, 0).model / "model.json").read_text())["temperature"] != 1.0


def test_the_best_round_by_validation_is_kept_and_the_page_says_what_was_added(rounds: RunFolder) -> None:
    told = json.loads((rounds.path / "pseudo_labels.json").read_text())
    scores = [entry["val/iou"] for entry in told["rounds"]]
    assert told["kept"] == int(np.argmax(scores))
    kept = inner(rounds, told["kept"])
    assert (rounds.model / "model.safetensors").read_bytes() == (kept.model / "model.safetensors").read_bytes()
    added = told["rounds"][1]
    assert len(added["images_added"]) > 0
    assert sum(added["confidence_histogram"]) == pytest.approx(1)
    page = (rounds.path / "pseudo_labels.html").read_text()
    for text in ("Did it help?", "labelled images alone", "What round 1 added", "data:image/png", "calibrated"):
        assert text in page, text


def test_the_last_lines_say_each_round_and_whether_it_helped(
    rounds: RunFolder, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(write_experiment(tmp_path, pictures)), "--dry-run"]) == 0
    assert "Then 1 round with up to 6 images without labels" in capsys.readouterr().out
    log = json.loads((rounds.path / "run.json").read_text())
    assert log["status"] == "finished"
    assert log["kept"] in (inner(rounds, 0).path.name, inner(rounds, 1).path.name)


def test_a_tile_of_an_added_image_comes_as_often_as_its_weight_says(rounds: RunFolder) -> None:
    from maskwright.data.build import build_loaders
    from maskwright.workflows.assemble import assemble

    run = inner(rounds, 1)
    parts = assemble(load_experiment([run.config]), split=read_manifest(run.splits))
    train, _ = build_loaders(parts.experiment.data, parts.source, parts.split, seed=1)
    seen = [place.scene for epoch in range(40) for batch in train.batches(epoch) for place in batch.where]
    extra = sum(name.startswith("extra:") for name in seen)
    counts = {
        name: sum(place.scene.startswith("extra:") == name for place in parts.split.tiles["train"])
        for name in (True, False)
    }
    expected = 0.5 * counts[True] / (0.5 * counts[True] + counts[False])
    assert extra / len(seen) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("task", ["multilabel", pytest.param("multiclass", marks=pytest.mark.slow)])
def test_classes_that_exclude_each_other_and_labels_that_overlap_have_rounds_too(
    pictures: Path, tmp_path: Path, task: str
) -> None:
    config = write_experiment(tmp_path, pictures, task=task, labels=", classes: [{name: square, values: [255]}]")
    outcome = train_shaped(load_experiment([config], ["training.epochs=1", "pseudo_labels.confidence=0.51"]))
    assert outcome.finished
    masks = sorted((outcome.folder.path / "labels_1" / "masks").rglob("*.png"))
    ids = np.unique(np.concatenate([np.asarray(Image.open(mask)).ravel() for mask in masks]))
    assert set(ids.tolist()) <= {0, 1, 255 if task == "multiclass" else 65535}


def test_a_kill_in_the_last_round_repeats_neither_training_nor_labels(
    rounds: RunFolder, pictures: Path, tmp_path: Path
) -> None:
    config = write_experiment(tmp_path, pictures)
    process = subprocess.Popen([sys.executable, "-m", "maskwright", "train", str(config)], env=dict(os.environ))
    deadline = time.monotonic() + 600
    begun = (tmp_path / "outputs").glob
    while process.poll() is None and not list(begun("*/round_1_*/checkpoints/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    (outer,) = find_runs(tmp_path / "outputs")
    done = [inner(outer, 0).model / "model.safetensors", outer.path / "labels_1" / "extra.json"]
    before = [path.stat().st_mtime_ns for path in done]
    assert main(["train", "--resume", "auto", "--output-dir", str(tmp_path / "outputs")]) == 0
    assert [path.stat().st_mtime_ns for path in done] == before
    for number in range(2):
        mine, straight = (inner(run, number).model / "model.safetensors" for run in (outer, rounds))
        assert mine.read_bytes() == straight.read_bytes()


def test_nothing_is_added_where_the_model_is_sure_of_nothing(pictures: Path, tmp_path: Path) -> None:
    config = write_experiment(tmp_path, pictures)
    unsure = ["training.epochs=1", "pseudo_labels.confidence=0.999999", "pseudo_labels.min_share=1.0"]
    outcome = train_shaped(load_experiment([config], unsure))
    assert len(find_runs(outcome.folder.path)) == 1
    assert any("Pseudo-labels were not tried" in line for line in outcome.lines)


def refused(config: Path, *overrides: str) -> str:
    with pytest.raises(DataError) as caught:
        train_shaped(load_experiment([config], list(overrides)))
    assert not find_runs(config.parent / "outputs")
    return str(caught.value)


def test_a_folder_without_images_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no image" in refused(write_experiment(tmp_path, pictures, more=str(tmp_path / "empty")))


def test_images_of_other_bands_are_refused_by_name(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(tmp_path / "grey" / "g.png")
    told = refused(write_experiment(tmp_path, pictures, more=str(tmp_path / "grey")))
    assert "g.png has 1 bands of uint8, the images with labels have 3 of uint8" in told


def test_copies_of_held_out_images_are_refused_and_copies_of_training_images_left_out(
    rounds: RunFolder, pictures: Path, tmp_path: Path
) -> None:
    split = read_manifest(inner(rounds, 0).splits)
    held_out, trained = split.tiles["test"][0].scene, split.tiles["train"][0].scene
    (tmp_path / "copies").mkdir()
    config = write_experiment(tmp_path, pictures, more=str(tmp_path / "copies"))
    shutil.copy(pictures / "data" / "images" / f"{trained}.png", tmp_path / "copies" / "t.png")
    assert "are labelled and trained on" in refused(config)
    shutil.copy(pictures / "data" / "images" / f"{held_out}.png", tmp_path / "copies" / "h.png")
    told = refused(config)
    assert "1 images are the same, byte for byte, as images held out" in told
    assert f"h.png is {held_out} (test)" in told
