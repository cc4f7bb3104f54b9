from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from maskwright.checkpoints import save_model
from maskwright.config.model import FilmUNetConfig, HeightCdfConfig, SmpConfig, UNetConfig
from maskwright.data.normalise import MetresNormaliser
from maskwright.errors import PredictionError
from maskwright.prediction import Predictor
from maskwright.prediction.export import Exported, _require, export_model
from maskwright.prediction.export_formats import GRAPH_FORMATS, Graph
from maskwright.prediction.export_parity import Parity, Tiles
from maskwright.tasks.height_gaps import HeightGaps

HEIGHTS = (2.0, 5.0, 10.0)
KINDS: dict[str, Any] = {
    "unet": UNetConfig(base_channels=4, depth=1),
    "film_unet": FilmUNetConfig(base_channels=4, depth=1),
    "height_cdf": HeightCdfConfig(base_channels=4, depth=1),
    "smp": SmpConfig(encoder="resnet18"),
}


def _saved(folder: Path, kind: str = "unet", **changes: Any) -> Path:
    """A network nobody trained, with statistics as after a training."""
    torch.manual_seed(1)
    architecture = KINDS[kind]
    task = HeightGaps(HEIGHTS, fixed=not architecture.conditioned)
    model = task.build_model(architecture, 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    if kind == "film_unet":
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
        "tile_px": 24,
    }
    save_model(folder, model, description | changes)
    return folder


def _assert_checked(exported: Exported) -> None:
    parity = exported.parity
    assert {size[0] for size in parity.sizes} == {1, 3}
    assert any(rows % 2 and cols % 2 for _, rows, cols in parity.sizes)
    assert parity.difference <= 1e-4 * max(1, parity.largest)
    assert parity.agreement == 1
    assert exported.path.exists()


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(
    "format",
    [
        "folder",
        "torchscript",
        pytest.param("torch-export", marks=pytest.mark.slow),
        pytest.param("onnx", marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_network_answers_the_same_in_every_format(kind: str, format: str, tmp_path: Path) -> None:
    exported = export_model(_saved(tmp_path / "model", kind), tmp_path / "out" / "file", format=format)
    _assert_checked(exported)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_an_exported_program_answers_any_size_and_number_of_heights(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "model", "film_unet")
    file = export_model(folder, format="torch-export").path
    assert file == folder / "model.pt2"
    extra = {"maskwright.json": ""}
    program = torch.export.load(file, extra_files=extra).module()
    network = Predictor.load(folder, device="cpu").model
    for size, batch, count in (((8, 8), 1, 1), ((9, 30), 3, 5), ((3, 3), 2, 2)):
        image, heights = torch.randn(batch, 1, *size), torch.rand(batch, count) * 20
        torch.testing.assert_close(program(image, heights), network(image, heights), rtol=0, atol=1e-5)
    assert json.loads(extra["maskwright.json"])["export"]["format"] == "torch-export"


def test_a_trace_says_what_it_fixes_and_carries_what_prediction_needs(tmp_path: Path) -> None:
    exported = export_model(_saved(tmp_path / "model", "height_cdf"), format="torchscript")
    (note,) = exported.notes
    assert note == (
        "a trace: it takes images of at least 4 px a side, and 3 heights at a time; "
        "torchscript is deprecated by PyTorch"
    )
    assert min(min(size[1:]) for size in exported.parity.sizes) >= 4


# --- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw_onnx(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exported]:
    """A network with fixed heights, two of them kept, that takes metres."""
    folder = _saved(tmp_path_factory.mktemp("fixed") / "model")
    return folder, export_model(folder, with_normalisation=True, heights_m=(2.0, 10.0))


def test_an_onnx_file_is_one_file_that_any_reader_understands(raw_onnx: tuple[Path, Exported]) -> None:
    folder, exported = raw_onnx
    _assert_checked(exported)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.onnx", "model.safetensors"]
    onnx.checker.check_model(onnx.load(exported.path), full_check=True)
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("image", ["batch", 1, "height", "width"])
    assert (answer.name, answer.shape) == ("logits", ["batch", 2, "height", "width"])
    keys = session.get_modelmeta().custom_metadata_map
    assert json.loads(keys["heights_m"]) == [2, 10]
    assert json.loads(keys["probability_threshold"]) == 0.5
    assert json.loads(keys["temperature"]) == 1


def test_metres_given_to_the_file_become_the_probabilities_of_the_predictor(raw_onnx: tuple[Path, Exported]) -> None:
    folder, exported = raw_onnx
    heights = np.random.default_rng(2).uniform(0, 20, (1, 1, 19, 34)).astype(np.float32)
    heights[0, 0, 3:6, 4:9] = np.nan
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": heights})[0][0]
    expected = Predictor.load(folder, device="cpu").predict(heights[0, 0], (2.0, 10.0), pixel_size_m=0.5)[0]
    probs = np.maximum.accumulate(1 / (1 + np.exp(-logits)), axis=0)
    measured = np.isfinite(heights[0, 0])
    np.testing.assert_allclose(probs[:, measured], expected[:, measured], atol=1e-5)


def _tampered(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    """The file with one weight in a thousand of the first convolution a little larger."""
    model = onnx.load_from_string(GRAPH_FORMATS["onnx"].write(graph, metadata))
    weight = next(each for each in model.graph.initializer if each.name.endswith("weight"))
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.05
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    data: bytes = model.SerializeToString()
    return data


def test_a_file_that_answers_differently_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _saved(tmp_path / "model")
    (tmp_path / "old.onnx").write_bytes(b"the file of yesterday")
    tampered = replace(GRAPH_FORMATS["onnx"], write=_tampered)
    monkeypatch.setattr("maskwright.prediction.export.GRAPH_FORMATS", {"onnx": tampered})
    with pytest.raises(PredictionError, match="does not answer as the network does, and was not kept: logits: largest"):
        export_model(folder, tmp_path / "old.onnx", overwrite=True)
    assert (tmp_path / "old.onnx").read_bytes() == b"the file of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "old.onnx"]


def test_advice_to_raise_the_tolerance_is_given_only_where_it_helps() -> None:
    parity = Parity(((1, 5, 7),), 0.5, 2.0, 1.0, 1e-4, False, "logits")
    with pytest.raises(PredictionError, match=r"rows x columns: 1 x 5 x 7\. Raise --tolerance if"):
        _require(parity, "onnx")
    with pytest.raises(PredictionError, match=r"masks agree on 90\.0000%.*At least 99\.9% .* report it\.$"):
        _require(replace(parity, difference=1e-6, agreement=0.9), "onnx")
    assert _require(replace(parity, difference=1e-4), "onnx").passed


def test_a_file_that_cannot_be_opened_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = replace(GRAPH_FORMATS["onnx"], write=lambda graph, metadata: b"no model at all")
    monkeypatch.setattr("maskwright.prediction.export.GRAPH_FORMATS", {"onnx": broken})
    with pytest.raises(PredictionError, match="cannot be opened as an ONNX model"):
        export_model(_saved(tmp_path / "model"), tmp_path / "new.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_exporter_that_fails_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(graph: Graph, metadata: Mapping[str, str]) -> bytes:
        raise NotImplementedError("no such operator\nand a page of details")

    monkeypatch.setattr(
        "maskwright.prediction.export.GRAPH_FORMATS", {"onnx": replace(GRAPH_FORMATS["onnx"], write=fails)}
    )
    with pytest.raises(PredictionError, match=r"^The network unet cannot be written as onnx: no such operator\. Try"):
        export_model(_saved(tmp_path / "model"), tmp_path / "new.onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_extra(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name == missing:
            raise ImportError(name)
        return found(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(PredictionError, match=rf"needs the package {missing}.*pip install 'maskwright\[export\]'"):
        export_model(_saved(tmp_path / "model"), tmp_path / "new.onnx")
    assert not (tmp_path / "new.onnx").exists()


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"format": "tflite"}, "Format 'tflite' is not known. Choose folder, onnx, torch-export, torchscript"),
        ({"format": "torchscript", "qgis": True}, "--qgis makes an ONNX file; it cannot be torchscript"),
        ({"qgis": True}, "this one sees heights in metres"),
        ({"tolerance": 0.0}, "tolerance: 0 must be larger than 0"),
        ({"heights_m": (3.0,)}, "answers 2, 5, 10 m only and was asked for 3 m"),
        ({"format": "folder"}, "--out FOLDER"),
        ({"format": "folder", "with_normalisation": True, "out": "copy"}, "copied as it is"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], text: str, tmp_path: Path) -> None:
    folder = _saved(tmp_path / "model")
    if "out" in options:
        options = options | {"out": tmp_path / options["out"]}
    with pytest.raises(PredictionError) as caught:
        export_model(folder, **options)
    assert text in str(caught.value)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_what_is_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "model")
    (tmp_path / "old.torchscript").write_bytes(b"old")
    with pytest.raises(PredictionError, match=r"would be replaced. Choose another --out, or add --overwrite"):
        export_model(folder, tmp_path / "old.torchscript", format="torchscript")
    with pytest.raises(PredictionError, match=r"is a folder. Name the file to write"):
        export_model(folder, tmp_path, format="torchscript")
    with pytest.raises(PredictionError, match=r"exists already. Name a folder that is not there yet"):
        export_model(folder, tmp_path, format="folder", overwrite=True)
    export_model(folder, tmp_path / "old.torchscript", format="torchscript", overwrite=True)
    assert (tmp_path / "old.torchscript").stat().st_size > 1000


def test_a_copied_folder_predicts_the_same_and_holds_nothing_else(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"stays where it is")
    copy = export_model(folder, tmp_path / "to" / "hand_on", format="folder").path
    assert sorted(path.name for path in copy.iterdir()) == ["model.json", "model.safetensors"]
    heights = np.random.default_rng(0).uniform(0, 20, (20, 20)).astype(np.float32)
    one, other = (Predictor.load(each, device="cpu").predict(heights, pixel_size_m=0.5) for each in (folder, copy))
    np.testing.assert_array_equal(one, other)


def test_tiles_of_the_data_are_asked_and_said_to_be_so(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "model")
    tiles = Tiles(torch.rand(2, 1, 20, 20), torch.ones(2, 20, 20, dtype=torch.bool))
    exported = export_model(folder, tmp_path / "file", format="torchscript", tiles=tiles)
    assert exported.parity.is_real
    assert "asked on the data" in exported.parity.sentence()
    with pytest.raises(PredictionError, match="The tiles have 2 bands and the model sees 1"):
        export_model(folder, tmp_path / "b", format="folder", tiles=Tiles(torch.rand(2, 2, 20, 20), tiles.valid))


def test_packages_of_the_export_are_loaded_only_when_used() -> None:
    code = "import sys, maskwright.prediction.export; print([n for n in sys.modules if n.startswith('onnx')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
