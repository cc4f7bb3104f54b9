"""The whole way on made-up pictures, by the real commands: one class, exclusive classes, labels, heights."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.cli.main import main
from maskwright.config import load_experiment
from maskwright.data.splits import read_manifest
from maskwright.data.synthetic import write_forest
from maskwright.tracking.folder import RunFolder, find_runs
from maskwright.workflows.assemble import assemble

TILE = 32
COMMON = """
model: {{kind: {model}, base_channels: 4, depth: 2}}
optim: {{optimizer: {{kind: adamw, lr: 0.01}}}}
training: {{epochs: 2, threads: 1, device: cpu}}
tracking: {{output_dir: {out}, quiet: true}}
"""


def write_pictures(folder: Path, masks: str, *, count: int = 24) -> None:
    """Grey noise with bright squares; every fourth picture is free of them."""
    rng = np.random.Generator(np.random.Philox(3))
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        picture = rng.integers(60, 120, (TILE, TILE, 3), dtype=np.uint8)
        mask = np.zeros((TILE, TILE), dtype=np.uint8)
        if number % 4:
            row, col = rng.integers(0, 20, 2)
            value = 1 + number % 2 if masks == "classes" else 255
            picture[row : row + 10, col : col + 10] = 200 if value != 2 else (220, 30, 30)
            mask[row : row + 10, col : col + 10] = value
        Image.fromarray(picture).save(folder / "images" / f"p{number:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{number:02d}.png")


def train(folder: Path, data: str, task: str, *, model: str = "unet", more: str = "metrics: {bootstrap: 100}") -> Path:
    """Train by the command in a new folder; the run folder."""
    config = folder / "experiment.yaml"
    text = f"name: made_up\ntask: {task}\ndata: {data}\n{more}\n"
    config.write_text(text + COMMON.format(model=model, out=folder / "outputs"), encoding="utf-8")
    assert main(["train", str(config)]) == 0
    return find_runs(folder / "outputs")[0].path


def images_data(folder: Path, extra: str = "") -> str:
    options = f"tiles: {{size_px: {TILE}}}, loader: {{batch_size: 4}}"
    return f"{{kind: images, folder: {folder}, {options}{extra}}}"


def numbers_of(run: Path) -> dict:
    return json.loads((run / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def one_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    write_pictures(folder / "data", "binary")
    return train(
        folder,
        images_data(folder / "data"),
        "{kind: binary}",
        more="metrics: {bootstrap: 100, operating_point: max_f1, calibrate: true}",
    )


def test_the_run_folder_holds_all_that_heights_have_too(one_class):
    run = RunFolder(one_class)
    for path in (run.config, run.events, run.report, run.log, run.manifest, run.splits, run.model / "model.json"):
        assert path.stat().st_size > 0, path
    assert run.record.status() == "finished"
    assert {"train/loss", "val/loss", "val/iou"} <= json.loads(run.history.read_text())[0].keys()
    assert (run.samples / "epoch_0001.png").is_file()


def test_baselines_have_the_scores_that_follow_from_the_share_of_foreground(one_class):
    run = RunFolder(one_class)
    parts = assemble(load_experiment([run.config]), split=read_manifest(run.splits))
    places = parts.split.tiles["test"]
    true = sum(int((parts.source.label(p.scene, p.window)[0] == 1).sum()) for p in places)
    share = true / (len(places) * TILE * TILE)
    numbers = numbers_of(one_class)
    (model,), baselines = numbers["model"], numbers["baselines"]
    assert numbers["columns"] == ["foreground"]
    assert set(baselines) == {"nothing", "everything", "a coin with the training share"}
    assert model["share_true"] == pytest.approx(share)
    assert baselines["nothing"][0]["scores"]["iou"] == 0
    assert baselines["everything"][0]["scores"]["iou"] == pytest.approx(share)
    low, high = model["intervals"]["iou"]
    assert low <= model["scores"]["iou"] <= high
    assert numbers["blocks"] == len({place.scene for place in places})


def test_every_test_image_has_a_row_that_says_what_it_holds(one_class):
    numbers = numbers_of(one_class)
    rows = {row["image"]: row for row in numbers["images"]}
    for name, row in rows.items():
        number = int(name.rpartition("p")[2])
        assert row["true"] == ([] if number % 4 == 0 else ["foreground"])
    (samples,) = numbers["samples"]
    found = [row for row in rows.values() if row["true"] and row["called"]]
    true = [row for row in rows.values() if row["true"]]
    assert samples["scores"]["recall"] == pytest.approx(len(found) / len(true))
    with (one_class / "evaluation_images.csv").open(newline="", encoding="utf-8") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [row["image"] for row in numbers["images"]]


def test_the_model_file_says_how_pictures_are_read_and_where_probabilities_are_cut(one_class):
    described = json.loads((one_class / "model" / "model.json").read_text())
    assert described["input"] == "image"
    assert described["classes"] == ["foreground"]
    assert described["heights_m"] == []
    (threshold,) = described["probability_thresholds"]
    assert threshold == described["probability_threshold"] == described["task"]["probability_threshold"]
    assert described["operating_point"]["rule"] == "max_f1"
    assert described["temperature"] > 0
    assert numbers_of(one_class)["operating_point"]["thresholds"] == [threshold]


def test_scoring_twice_gives_the_numbers_of_the_training(one_class, tmp_path, capsys):
    for name in ("a", "b"):
        assert main(["evaluate", str(one_class), "--out", str(tmp_path / f"{name}.json")]) == 0
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("a", "b"))
    first.pop("elapsed_s"), second.pop("elapsed_s")
    assert first == second
    assert first["model"][0]["scores"]["iou"] == pytest.approx(numbers_of(one_class)["model"][0]["scores"]["iou"])
    assert "foreground" in capsys.readouterr().out


def test_a_run_on_pictures_that_was_stopped_ends_with_the_same_weights(one_class, tmp_path):
    from maskwright.checkpoints import load_description
    from maskwright.training import Callback
    from maskwright.workflows.train import resume
    from maskwright.workflows.train import train as train_run

    class Stop(Callback):
        def on_epoch_end(self, state, scores):
            if state.epoch == 1:
                state.request_stop("asked by a test")

    experiment = load_experiment([RunFolder(one_class).config], [f"tracking.output_dir={tmp_path}"])
    stopped = train_run(experiment, callbacks=[Stop()], say=lambda line: None)
    assert not stopped.finished
    resumed = resume(stopped.folder.path, say=lambda line: None, quiet=True)
    assert resumed.finished
    hashes = [load_description(run / "model")["weights"]["sha256"] for run in (one_class, resumed.folder.path)]
    assert hashes[0] == hashes[1]


def test_heights_cannot_be_asked_of_pictures(one_class, capsys):
    assert main(["evaluate", str(one_class), "--heights", "5"]) == 2
    assert "asked for no heights" in " ".join(capsys.readouterr().err.split())


def test_classes_that_exclude_each_other_are_scored_one_by_one(tmp_path):
    write_pictures(tmp_path / "data", "classes", count=40)
    labels = ", labels: {kind: masks, classes: [{name: bright, values: [1]}, {name: red, values: [2]}]}"
    run = train(tmp_path, images_data(tmp_path / "data", labels), "{kind: multiclass}")
    numbers = numbers_of(run)
    assert numbers["columns"] == ["background", "bright", "red"]
    matrix = np.array(numbers["confusion"])
    assert matrix.sum() == numbers["valid_pixels"]
    for k, row in enumerate(numbers["model"]):
        union = matrix[k].sum() + matrix[:, k].sum() - matrix[k, k]
        assert row["scores"]["iou"] == pytest.approx(matrix[k, k] / union)
    common = numbers["baselines"]["the most common class"]
    assert common[0]["scores"]["iou"] == pytest.approx(matrix[0].sum() / matrix.sum())
    assert [row["scores"]["iou"] for row in common[1:]] == [0, 0]
    present = [row["scores"]["iou"] for row in numbers["model"] if row["column"] not in numbers["absent"]]
    assert numbers["mean"] == pytest.approx(np.mean(present))
    assert [row["column"] for row in numbers["samples"]] == ["bright", "red", "any of them"]


def test_labels_that_overlap_are_yes_and_no_each(tmp_path):
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rng = np.random.Generator(np.random.Philox(5))
    images, annotations = [], []
    for number in range(20):
        picture = rng.integers(60, 120, (TILE, TILE, 3), dtype=np.uint8)
        picture[4:20, 4:20] = 200
        Image.fromarray(picture).save(folder / "images" / f"p{number:02d}.png")
        images.append({"id": number, "file_name": f"p{number:02d}.png", "height": TILE, "width": TILE})
        for category, (x, y, side) in ((1, (4, 4, 16)), (2, (8, 8, 8))):  # a crack inside a stain: both are true
            corners = [x, y, x + side, y, x + side, y + side, x, y + side]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                    "segmentation": [corners],
                }
            )
    categories = [{"id": 1, "name": "stain"}, {"id": 2, "name": "crack"}]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(coco))
    labels = f", labels: {{kind: coco, file: {folder / 'labels.json'}}}"
    run = train(tmp_path, images_data(folder, labels), "{kind: multilabel}")
    numbers = numbers_of(run)
    assert numbers["columns"] == ["stain", "crack"]
    assert numbers["confusion"] is None
    assert [row["share_true"] for row in numbers["model"]] == pytest.approx([16 * 16 / TILE**2, 8 * 8 / TILE**2])


def test_heights_in_metres_stand_beside_the_mean_height_and_the_opening(tmp_path):
    write_forest(tmp_path / "data", size_px=320, seed=4)
    data = f"{{kind: height_rasters, folder: {tmp_path / 'data'}, tiles: {{size_px: 32}}, loader: {{batch_size: 8}}}}"
    run = train(tmp_path, data, "{kind: height}", model="regression_unet")
    numbers = numbers_of(run)
    parts = assemble(load_experiment([RunFolder(run).config]), split=read_manifest(RunFolder(run).splits))
    heights = {}
    for part in ("train", "test"):
        samples = [parts.source.sample(p.scene, p.window) for p in parts.split.tiles[part]]
        heights[part] = np.concatenate([canopy[valid] for _, canopy, valid in samples]).astype(np.float64)
    flat = numbers["baselines"]["the mean height of the training ground"][0]["scores"]
    errors = heights["train"].mean() - heights["test"]
    assert flat["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert flat["bias"] == pytest.approx(errors.mean())
    assert numbers["score"] == "rmse"
    assert numbers["model"][0]["scores"]["rmse"] > 0
    assert main(["evaluate", str(run), "--out", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["model"][0]["scores"]["rmse"] == pytest.approx(numbers["model"][0]["scores"]["rmse"], rel=1e-5)
