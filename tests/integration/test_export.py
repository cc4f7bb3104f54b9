from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.crs import CRS
from scipy import ndimage
from torch import nn

from maskwright.checkpoints import save_model
from maskwright.cli.main import COMMANDS, main
from maskwright.config.model import FilmUNetConfig
from maskwright.data.normalise import MetresNormaliser
from maskwright.errors import PredictionError
from maskwright.prediction import Predictor
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.tracking.folder import find_runs
from maskwright.workflows.export import export
from maskwright.workflows.predict import predict

TILE = 32
EXPERIMENT = """
name: cracks
task: {{kind: binary}}
data: {{kind: images, folder: {data}, tiles: {{size_px: 32}}, loader: {{batch_size: 4}}}}
model: {{kind: unet, base_channels: 4, depth: 2}}
metrics: {{bootstrap: 100, operating_point: max_f1, calibrate: true}}
optim: {{optimizer: {{kind: adamw, lr: 0.01}}}}
training: {{epochs: 6, threads: 1, device: cpu}}
tracking: {{output_dir: {out}, quiet: true}}
"""


@pytest.fixture(autouse=True)
def _command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "export", ("maskwright.cli.export_commands:export", "Write a model."))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model trained on grey noise with bright squares."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.Generator(np.random.Philox(3))
    for name in ("images", "masks"):
        (folder / "data" / name).mkdir(parents=True)
    for number in range(16):
        picture = rng.integers(60, 120, (TILE, TILE, 3), dtype=np.uint8)
        mask = np.zeros((TILE, TILE), dtype=np.uint8)
        row, col = rng.integers(0, 20, 2)
        picture[row : row + 10, col : col + 10] = 200
        mask[row : row + 10, col : col + 10] = 255
        Image.fromarray(picture).save(folder / "data" / "images" / f"p{number:02d}.png")
        Image.fromarray(mask).save(folder / "data" / "masks" / f"p{number:02d}.png")
    config = folder / "experiment.yaml"
    config.write_text(EXPERIMENT.format(data=folder / "data", out=folder / "outputs"), encoding="utf-8")
    assert main(["train", str(config)]) == 0
    return find_runs(folder / "outputs")[0].path


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    """The run's own ONNX file."""
    result = export(run)
    assert result.parity.is_real
    return result.path


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    pixels = (255 * ndimage.gaussian_filter(rng.random((75, 90, 3)), (2, 2, 0))).astype(np.uint8)
    pixels = np.clip(4 * (pixels.astype(int) - 110), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wall.png")
    return tmp_path / "wall.png"


# --- the commands -----------------------------------------------------------------------------------------------------


def test_the_exported_file_predicts_what_the_network_predicts(run: Path, exported: Path, photograph: Path) -> None:
    assert exported == run / "model" / "model.onnx"
    words = [str(photograph), "--set", "probabilities=true", "--set", "probability_format=tif", "--quiet"]
    folders = {}
    for name, model, more in (
        ("torch", run, []),
        ("folder", run, ["--backend", "onnx"]),
        ("file", exported, ["--backend", "onnx"]),
    ):
        folders[name] = photograph.parent / name
        assert main(["predict", str(model), *words, "--out", str(folders[name]), *more]) == 0
    names = sorted(path.name for path in folders["torch"].iterdir())
    (probability,) = [name for name in names if name.endswith(".tif")]
    (mask,) = [name for name in names if "mask" in name]
    for other in ("folder", "file"):
        assert sorted(path.name for path in folders[other].iterdir()) == names
        one, two = (_pixels(folders[name] / probability) for name in ("torch", other))
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-4)
        assert one.std() > 0.01
        np.testing.assert_array_equal(_pixels(folders["torch"] / mask), _pixels(folders[other] / mask))


def test_the_command_tells_how_it_was_checked(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.torchscript"
    assert main(["export", str(run), "--format", "torchscript", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "Checked logits: largest difference" in told.out
    assert "masks agree on 100.0000% of the pixels; asked on the data, batch x rows x columns: 1 x 31 x 15" in told.out
    assert told.out.strip().endswith(str(out))
    assert told.err.startswith("Note: a trace: it takes images of at least 8 px a side")
    assert main(["export", str(run), "--format", "torchscript", "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_where_the_data_is_gone_the_check_invents_tiles_and_says_so(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    config = (moved / "config.yaml").read_text()
    data = str(run.parents[1] / "data")
    assert data in config
    (moved / "config.yaml").write_text(config.replace(data, str(tmp_path / "gone")))
    result = export(moved, tmp_path / "copy", format="folder")
    assert not result.parity.is_real
    assert result.notes[0].startswith("the data of the run cannot be read, so the check asks with invented tiles:")
    result = export(run / "model", tmp_path / "another", format="folder")
    assert result.notes == ("a model folder does not name its data, so the check asks with invented tiles",)


# --- QGIS -------------------------------------------------------------------------------------------------------------


def test_deepness_can_read_the_file_made_for_it(run: Path, tmp_path: Path) -> None:
    result = export(run, tmp_path / "cracks.onnx", qgis=True)
    assert result.parity.what == "probabilities"
    session = onnxruntime.InferenceSession(result.path, providers=["CPUExecutionProvider"])
    # What the plugin's reader asks of a file: one input with a number as its size, one output, square, of four axes.
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert given.shape == ["batch", 3, TILE, TILE]
    assert answer.shape == ["batch", 1, TILE, TILE]
    keys = session.get_modelmeta().custom_metadata_map
    assert json.loads(keys["model_type"]) == "Segmentor"
    names = json.loads(keys["class_names"])
    assert [int(key) for key in sorted(names, key=int)] == list(range(len(names)))
    mean, std = (np.array(json.loads(keys[f"standardization_{name}"]), np.float32) for name in ("mean", "std"))
    # What it makes of 8-bit pixels, and what it calls.
    pixels = np.random.default_rng(1).integers(0, 256, (2, TILE, TILE, 3), dtype=np.uint8)
    tiles = (np.float32(pixels / 255.0) - mean) / std
    probs = session.run(None, {given.name: tiles.transpose(0, 3, 1, 2)})[0]
    predictor = Predictor.load(run, device="cpu")
    for tile, found in zip(pixels, probs, strict=True):
        expected = predictor.predict_image(tile.transpose(2, 0, 1))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert json.loads(keys["seg_thresh"]) == pytest.approx(predictor.card.thresholds[0])
    with pytest.raises(PredictionError, match=r"was exported for QGIS: .* Export without --qgis"):
        Predictor.load(result.path, backend="onnx")


# --- what cannot be loaded --------------------------------------------------------------------------------------------


def test_a_file_of_older_weights_is_refused_beside_newer_ones(exported: Path, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(run / "model", folder)
    predictor = Predictor.load(folder, device="cpu", backend="onnx")
    assert predictor.card.sha256 == json.loads((folder / "model.json").read_text())["weights"]["sha256"]
    card = predictor.card
    network = card.task.build_model(card.architecture, card.in_channels, card.batch_size)
    save_model(folder, network, json.loads((folder / "model.json").read_text()))
    with pytest.raises(PredictionError, match=r"exported before the training went on.*--format onnx --overwrite"):
        Predictor.load(folder, device="cpu", backend="onnx")


def test_files_that_are_none_of_ours_and_wrong_words_are_told(exported: Path, run: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(exported)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    (tmp_path / "broken.onnx").write_bytes(exported.read_bytes()[:1000])
    for path, options, text in (
        (tmp_path / "foreign.onnx", {"backend": "onnx"}, "was not exported by Maskwright"),
        (tmp_path / "broken.onnx", {"backend": "onnx"}, "cannot be opened as an ONNX model"),
        (tmp_path / "none", {"backend": "onnx"}, "does not exist"),
        (tmp_path, {"backend": "onnx"}, f"holds no model.onnx. Make it: maskwright export {tmp_path} --format onnx"),
        (exported, {}, "Add --backend onnx"),
        (run, {"backend": "tensorrt"}, "Backend 'tensorrt' is not known. Choose torch or onnx"),
        (exported, {"backend": "onnx", "device": "cuda"}, "runs on the CPU, not on cuda"),
    ):
        with pytest.raises(PredictionError) as caught:
            Predictor.load(path, **options)
        assert text in str(caught.value)


def test_a_missing_onnxruntime_is_named_with_the_extra(
    exported: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return found(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    out = photograph.parent / "out"
    assert main(["predict", str(exported), str(photograph), "--out", str(out), "--backend", "onnx"]) == 2
    assert "pip install 'maskwright[export]'" in capsys.readouterr().err
    assert not out.exists()


# --- heights ----------------------------------------------------------------------------------------------------------


def test_gaps_of_a_raster_are_the_same_by_either_backend(tmp_path: Path) -> None:
    folder, raster = _film_model(tmp_path / "model"), _heights(tmp_path / "north.tif")
    # It takes metres itself; prediction gives it what it gives to the network all the same.
    file = export(folder, tmp_path / "film.onnx", heights_m=(3.0, 7.0), with_normalisation=True).path
    one = predict(folder, raster, tmp_path / "torch", heights_m=(3.0, 7.0), device="cpu")[0]
    two = predict(file, raster, tmp_path / "onnx", backend="onnx")[0]
    assert two.heights_m == (3.0, 7.0)
    np.testing.assert_allclose(_pixels(one.files["probability"]), _pixels(two.files["probability"]), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(_pixels(one.files["gaps"]), _pixels(two.files["gaps"]))
    many = predict(file, raster, tmp_path / "many", heights_m=(2.0, 4.0, 9.0, 12.0), backend="onnx")[0]
    assert _pixels(many.files["gaps"]).shape == (4, 70, 83)


def _film_model(folder: Path) -> Path:
    torch.manual_seed(1)
    architecture, task = FilmUNetConfig(base_channels=4, depth=2), HeightGaps((2.0, 5.0, 10.0))
    model = task.build_model(architecture, 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    nn.init.normal_(model.film.out.weight, 0, 0.5)
    description = {
        "task": task.to_dict(),
        "model": architecture.model_dump(mode="json"),
        "in_channels": 1,
        "batch_size": 8,
        "input": "chm",
        "normaliser": MetresNormaliser().to_dict(),
        "trained_range_m": [2.0, 10.0],
        "prediction": {},
        "nodata": {},
        "pixel_size_m": [0.5, 0.5],
        "tile_px": 48,
    }
    save_model(folder, model, description)
    return folder


def _heights(path: Path) -> Path:
    noise = np.random.default_rng(0).standard_normal((70, 83))
    heights = np.clip(8 + 60 * ndimage.gaussian_filter(noise, 2.5), 0, None).astype(np.float32)
    heights[:9, :20] = -9999.0
    profile = {"crs": CRS.from_epsg(32611), "transform": rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 4e6), "nodata": -9999.0}
    with rasterio.open(path, "w", driver="GTiff", height=70, width=83, count=1, dtype="float32", **profile) as dataset:
        dataset.write(heights, 1)
    return path


def _pixels(path: Path) -> np.ndarray:
    if path.suffix == ".tif":
        with rasterio.open(path) as dataset:
            values: np.ndarray = dataset.read()
        return values
    with Image.open(path) as image:
        return np.asarray(image)
