"""Doubtful labels found by the real command: planted faults come first, and the list says who judged."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from PIL import Image

from maskwright.cli.main import main
from maskwright.data.synthetic import write_forest
from maskwright.errors import ConfigError
from maskwright.tracking.folder import find_runs
from maskwright.workflows.predict import predict
from maskwright.workflows.suspects import JUDGES, find_suspects

TILE = 32
NAMES = [f"p{number:02d}" for number in range(24)]
VAL = ["p03", "p07", "p11", "p19"]
TEST = ["p23"]
WRONG = {"val": "p07", "train": "p05"}  # their squares are not labelled
EXPERIMENT = """
name: doubtful
task: {task}
data: {data}
model: {{kind: {model}, base_channels: 4, depth: 2}}
training: {{epochs: {epochs}, threads: 1, device: cpu}}
metrics: {{bootstrap: 100}}
optim: {{optimizer: {{kind: adamw, lr: 0.01}}}}
tracking: {{output_dir: {out}, quiet: true}}
"""


def _write(folder: Path) -> None:
    rng = np.random.Generator(np.random.Philox(3))
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for name in NAMES:
        picture = rng.integers(60, 120, (TILE, TILE, 3), dtype=np.uint8)
        mask = np.zeros((TILE, TILE), dtype=np.uint8)
        row, col = rng.integers(0, 20, 2)
        picture[row : row + 10, col : col + 10] = 200
        if name not in WRONG.values():
            mask[row : row + 10, col : col + 10] = 255
        Image.fromarray(picture).save(folder / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    _write(folder / "data")
    train = [name for name in NAMES if name not in (*VAL, *TEST)]
    split = f"split: {{by: lists, train: {train}, val: {VAL}, test: {TEST}}}"
    data = (
        f"{{kind: images, folder: {folder / 'data'}, tiles: {{size_px: {TILE}}}, loader: {{batch_size: 4}}, {split}}}"
    )
    config = folder / "experiment.yaml"
    text = EXPERIMENT.format(task="{kind: binary}", data=data, model="unet", out=folder / "outputs", epochs=4)
    config.write_text(text, encoding="utf-8")
    assert main(["train", str(config)]) == 0
    return folder, find_runs(folder / "outputs")[0].path


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def test_planted_faults_come_first_and_the_list_says_who_judged(pictures: tuple[Path, Path], capsys) -> None:
    _, run = pictures
    assert main(["evaluate", str(run), "--suspects", "4"]) == 0
    said = capsys.readouterr().out
    assert "not labelled, and the model finds it" in said
    assert "doubts there are understated and incomplete" in said
    rows = _rows(run / "suspects" / "suspects.csv")
    assert {row["scene"] for row in rows[:2]} == set(WRONG.values())
    judged = {row["scene"]: row["judged_by"] for row in rows}
    assert judged[WRONG["val"]] == JUDGES["val"]
    assert judged[WRONG["train"]] == JUDGES["train"]
    weights = [float(row["weight"]) for row in rows]
    assert weights == sorted(weights, reverse=True)
    listed = (run / "suspects" / "files_to_correct.txt").read_text().splitlines()
    assert {Path(line).name for line in listed[:2]} == {f"{name}.png" for name in WRONG.values()}
    assert all("masks" in line for line in listed)
    page = (run / "suspects" / "suspects.html").read_text()
    assert page.count("<img") == len(rows)
    assert main(["evaluate", str(run), "--suspects", "4"]) == 2
    assert "holds an earlier list" in capsys.readouterr().err


def test_images_without_labels_are_ranked_by_how_unsure_the_model_is(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, run = pictures
    names = ["p00.png", "p01.png", "p02.png"]
    paths = [folder / "data" / "images" / name for name in names]
    settings = {"uncertainty": "entropy", "quicklook": False}
    means = {}
    for result in predict(run, paths, tmp_path / "maps", settings=settings):
        with rasterio.open(result.files["uncertainty"]) as raster:
            means[result.raster.name] = float(np.nanmean(raster.read().astype(np.float64)))
    found = find_suspects(run, 2, unlabelled=paths, out=tmp_path / "out")
    expected = sorted(means.items(), key=lambda item: -item[1])[:2]
    assert [area.file.name for area in found.areas] == [name for name, _ in expected]
    assert [area.uncertainty for area in found.areas] == pytest.approx([mean for _, mean in expected], rel=1e-5)
    assert _rows(tmp_path / "out" / "label_next.csv")[0]["file"].endswith(expected[0][0])
    assert "What to label next" in found.files["page"].read_text()


@pytest.mark.slow
def test_folds_judge_every_label_by_a_model_that_has_not_seen_it(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = pictures
    found = find_suspects(run, 6, folds=3, out=tmp_path / "out")
    assert {one.judged for one in found.doubts} == {JUDGES["fold"]}
    assert set(WRONG.values()) <= {one.scene for one in found.doubts}
    assert TEST[0] not in {one.scene for one in found.doubts}
    assert "judged by one of 3 models trained without it" in found.sentences[0]
    assert len(find_runs(tmp_path / "out" / "folds")) == 3


def test_what_cannot_be_asked_is_refused(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = pictures
    for options, text in (
        ({"folds": 2}, "--folds 2: at least 3"),
        ({"folds": 40}, "training and validation hold 23 sites or groups of images"),
    ):
        with pytest.raises(ConfigError, match=text):
            find_suspects(run, 3, out=tmp_path / "out", **options)
    with pytest.raises(ConfigError, match="--suspects 0: ask for 1 or more"):
        find_suspects(run, 0)


def test_doubts_about_rasters_are_polygons_on_the_ground(tmp_path: Path) -> None:
    write_forest(tmp_path / "data", size_px=320, seed=4)
    data = f"{{kind: height_rasters, folder: {tmp_path / 'data'}, tiles: {{size_px: 32}}, loader: {{batch_size: 8}}}}"
    task = "{kind: height_gaps, heights_m: [5, 10], train_range_m: [2, 20]}"
    config = tmp_path / "experiment.yaml"
    text = EXPERIMENT.format(task=task, data=data, model="film_unet", out=tmp_path / "outputs", epochs=1)
    config.write_text(text, encoding="utf-8")
    assert main(["train", str(config)]) == 0
    run = find_runs(tmp_path / "outputs")[0].path
    found = find_suspects(run, 5)
    rows = _rows(found.files["table"])
    info, _, geometry, columns = pyogrio.raw.read(found.files["polygons"])
    fields = dict(zip(info["fields"], columns, strict=True))
    assert fields["rank"].tolist() == [1, 2, 3, 4, 5]
    assert len(geometry) == 5
    assert set(fields["of"]) <= {"5 m", "10 m"}
    import shapely

    for row, shape in zip(rows, shapely.from_wkb(geometry), strict=True):
        left, bottom, right, top = shape.bounds
        assert float(row["x"]) == pytest.approx((left + right) / 2, abs=1e-3)
        assert float(row["y"]) == pytest.approx((bottom + top) / 2, abs=1e-3)
