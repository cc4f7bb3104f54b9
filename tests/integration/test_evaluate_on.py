"""Other data scored by the real command: a forest, pictures, a file that names them, leaks, models side by side."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from maskwright.cli.main import main
from maskwright.data.synthetic import write_forest
from maskwright.errors import ConfigError, DataError
from maskwright.tracking.folder import find_runs
from maskwright.workflows.evaluate_on import evaluate_on

TILE = 32
COMMON = """
model: {{kind: {model}, base_channels: 4, depth: 2}}
training: {{epochs: {epochs}, threads: 1, device: cpu}}
metrics: {{bootstrap: 100}}
optim: {{optimizer: {{kind: adamw, lr: 0.01}}}}
tracking: {{output_dir: {out}, quiet: true}}
"""


def write_pictures(folder: Path, *, seed: int, count: int) -> None:
    """Grey noise with a bright square on three of four."""
    rng = np.random.Generator(np.random.Philox(seed))
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        picture = rng.integers(60, 120, (TILE, TILE + 8, 3), dtype=np.uint8)
        mask = np.zeros((TILE, TILE + 8), dtype=np.uint8)
        if number % 4:
            row, col = rng.integers(0, 20, 2)
            picture[row : row + 10, col : col + 10] = 200
            mask[row : row + 10, col : col + 10] = 255
        Image.fromarray(picture).save(folder / "images" / f"p{number:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{number:02d}.png")


def _train(folder: Path, name: str, data: str, task: str, model: str, epochs: int = 3) -> Path:
    config = folder / f"{name}.yaml"
    text = f"name: {name}\ntask: {task}\ndata: {data}\n"
    config.write_text(text + COMMON.format(model=model, out=folder / "outputs", epochs=epochs), encoding="utf-8")
    assert main(["train", str(config)]) == 0
    return find_runs(folder / "outputs", name)[0].path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder with data, other data, and the run."""
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder / "data", seed=3, count=24)
    write_pictures(folder / "other", seed=9, count=6)
    data = f"{{kind: images, folder: {folder / 'data'}, tiles: {{size_px: {TILE}}}, loader: {{batch_size: 4}}}}"
    return folder, _train(folder, "pictures", data, "{kind: binary}", "unet")


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("forest")
    write_forest(folder / "data", size_px=320, seed=4)
    write_forest(folder / "other", size_px=160, seed=11)
    data = f"{{kind: height_rasters, folder: {folder / 'data'}, tiles: {{size_px: 32}}, loader: {{batch_size: 8}}}}"
    task = "{kind: height_gaps, heights_m: [5, 10], train_range_m: [2, 20]}"
    return folder, _train(folder, "forest", data, task, "film_unet", epochs=1)


def test_other_pictures_are_scored_with_maps_page_and_tables(pictures: tuple[Path, Path], capsys) -> None:
    folder, run = pictures
    out = folder / "scored"
    assert main(["evaluate", str(run), "--on", str(folder / "other"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "beside answers that need no training" in said.out
    assert "tuned on the training and validation data of the run" in said.err
    numbers = json.loads((out / "evaluation.json").read_text())
    assert numbers["part"] == "scored"
    assert len(numbers["images"]) == 6
    maps = sorted((out / "errors").iterdir())
    assert len(maps) == 6
    codes = np.concatenate([np.asarray(Image.open(path)).ravel() for path in maps])
    true = np.concatenate(
        [np.asarray(Image.open(p)).ravel() > 0 for p in sorted((folder / "other" / "masks").iterdir())]
    )
    assert codes.size == 6 * TILE * (TILE + 8)
    np.testing.assert_array_equal(np.isin(codes, (1, 3)), true)  # rightly called or missed: truly there
    (row,) = numbers["model"]
    hits, wrong, missed = ((codes == code).sum() for code in (1, 2, 3))
    assert row["scores"]["iou"] == pytest.approx(hits / (hits + wrong + missed))
    assert row["share_called"] == pytest.approx((hits + wrong) / codes.size)
    table = list(csv.DictReader((out / "evaluation_scores.csv").open()))
    assert [row["answer"] for row in table] == ["model", "nothing", "everything", "a coin with the training share"]
    assert float(table[0]["iou"]) == pytest.approx(row["scores"]["iou"], abs=1e-6)
    page = (out / "report.html").read_text()
    assert "pictures_" in page
    assert "lowest overlap" in page


def test_the_coin_knows_the_share_of_the_training_and_not_of_the_other_data(pictures: tuple[Path, Path]) -> None:
    folder, run = pictures
    result = evaluate_on(run, folder / "other", out=folder / "coin")
    own = json.loads((run / "evaluation.json").read_text())["baselines"]["a coin with the training share"][0]
    coin = result.evaluation.baselines["a coin with the training share"][0]
    assert coin.share_called == pytest.approx(own["share_called"], abs=1e-3)


def test_an_earlier_evaluation_is_kept_unless_told(pictures: tuple[Path, Path], capsys) -> None:
    folder, run = pictures
    command = ["evaluate", str(run), "--on", str(folder / "other")]
    assert main(command) == 0
    assert (run / "evaluations" / "other" / "report.html").is_file()
    assert main(command) == 2
    assert "holds an earlier evaluation" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def test_files_seen_in_training_are_refused_by_content_and_told_where_allowed(
    pictures: tuple[Path, Path], tmp_path: Path, capsys
) -> None:
    _, run = pictures
    sites = json.loads((run / "run.json").read_text())["sites"]
    from maskwright.data.splits import read_manifest

    trained = sorted({place.scene for place in read_manifest(run / "splits.geojson").tiles["train"]})[0]
    write_pictures(tmp_path / "mixed", seed=21, count=3)
    for file, kind in zip(sites[trained]["files"], ("images", "masks"), strict=False):
        shutil.copy(file["path"], tmp_path / "mixed" / kind / "renamed.png")
    with pytest.raises(DataError, match=rf"renamed\.png \(trained on as {trained}\).*--allow-seen"):
        evaluate_on(run, tmp_path / "mixed", out=tmp_path / "out")
    assert not (tmp_path / "out" / "evaluation.json").exists()
    words = ["evaluate", str(run), "--on", str(tmp_path / "mixed"), "--out", str(tmp_path / "out"), "--allow-seen"]
    assert main(words) == 0
    assert "Not honest numbers" in (tmp_path / "out" / "report.html").read_text()


def test_a_file_names_data_in_any_form_that_the_section_takes(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = pictures
    (tmp_path / "field.yaml").write_text(
        f"data:\n  images: {folder / 'other' / 'images'}\n  labels: {{folder: {folder / 'other' / 'masks'}}}\n"
    )
    by_file = evaluate_on(run, tmp_path / "field.yaml", out=tmp_path / "a").evaluation
    by_folder = evaluate_on(run, folder / "other", out=tmp_path / "b").evaluation
    assert by_file.model == by_folder.model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", "it has no section data"),
        ("data: {kind: height_rasters, folder: x}\n", "data.kind is height_rasters, and the run was trained on images"),
        ("[", "cannot be read as YAML"),
    ],
)
def test_files_that_name_no_such_data_are_refused(
    text: str, message: str, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        evaluate_on(pictures[1], tmp_path / "wrong.yaml")
    with pytest.raises(ConfigError, match="there is no such folder or file"):
        evaluate_on(pictures[1], tmp_path / "nowhere")


def test_pairs_of_other_sites_are_scored_by_height_and_site(forest: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = forest
    result = evaluate_on(run, folder / "other", heights_m=[5.0, 12.0], out=tmp_path / "out")
    evaluation = result.evaluation
    assert evaluation.heights_m == (5.0, 12.0)
    assert len(evaluation.baselines) == 4
    assert evaluation.sites
    assert len(result.error_maps) == len(evaluation.sites)
    totals = np.zeros((2, 4), np.int64)
    for path in result.error_maps:
        with rasterio.open(path) as raster:
            assert raster.descriptions == ("5 m", "12 m")
            assert raster.crs is not None
            codes = raster.read()
        totals += np.stack([np.bincount(plane[plane < 255], minlength=4) for plane in codes])
    for row, (_, hits, wrong, missed) in zip(evaluation.model, totals, strict=True):
        assert row.scores["iou"] == pytest.approx(hits / (hits + wrong + missed))
    with pytest.raises(DataError, match=r"trained on as|used for validation as"):
        evaluate_on(run, folder / "data", out=tmp_path / "leak")


def test_runs_scored_on_the_same_data_are_compared_by_paired_tests(
    pictures: tuple[Path, Path], tmp_path: Path, capsys
) -> None:
    folder, run = pictures
    data = f"{{kind: images, folder: {folder / 'data'}, tiles: {{size_px: {TILE}}}, loader: {{batch_size: 4}}}}"
    second = _train(tmp_path, "second", data, "{kind: binary}", "unet", epochs=1)
    for one in (run, second):
        assert main(["evaluate", str(one), "--on", str(folder / "other"), "--overwrite"]) == 0
    capsys.readouterr()
    page = tmp_path / "both.html"
    assert main(["compare", str(run), str(second), "--on", "other", "--out", str(page)]) == 0
    said = capsys.readouterr().out
    assert "Differences on the same test data" in said
    content = json.loads(page.with_suffix(".json").read_text())
    assert {row["part"] for row in content["runs"]} == {"other"}
    assert content["differences"][0]["p_value"] is not None
    assert main(["compare", str(run), str(second), "--on", "elsewhere", "--out", str(page)]) == 2
    assert "was not evaluated --on elsewhere" in capsys.readouterr().err


def test_options_that_belong_to_others_are_refused(pictures: tuple[Path, Path], capsys) -> None:
    run = str(pictures[1])
    assert main(["evaluate", run, "--allow-seen"]) == 2
    assert "--allow-seen goes with --on alone" in capsys.readouterr().err
    assert main(["evaluate", run, "--folds", "3"]) == 2
    assert "--folds goes with --suspects alone" in capsys.readouterr().err
