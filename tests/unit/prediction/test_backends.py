"""The exported file that answers in place of the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.errors import PredictionError
from maskwright.prediction.backends import find_onnx, load_exported


def test_the_file_is_found_in_a_run_a_model_folder_or_by_itself(tmp_path: Path) -> None:
    model = tmp_path / "run/model"
    model.mkdir(parents=True)
    file = model / "model.onnx"
    file.write_bytes(b"x")
    assert find_onnx(file) == (file, None)
    assert find_onnx(model) == (file, None)
    (model / "model.json").write_text("{}")
    assert find_onnx(tmp_path / "run") == (file, model)


def test_where_there_is_none_the_command_that_makes_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match=r"holds no model.onnx. Make it: maskwright export .* --format onnx"):
        find_onnx(tmp_path)
    with pytest.raises(PredictionError, match="does not exist"):
        find_onnx(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("device", "backend", "text"),
    [
        ("auto", "tensorrt", "Backend 'tensorrt' is not known. Choose torch or onnx."),
        ("auto", "torch", "is an ONNX file. Add --backend onnx"),
        ("cuda", "onnx", "runs on the CPU, not on cuda"),
    ],
)
def test_what_cannot_be_is_refused_before_the_file_is_opened(device: str, backend: str, text: str) -> None:
    with pytest.raises(PredictionError) as caught:
        load_exported("model.onnx", device, backend)
    assert text in str(caught.value)
