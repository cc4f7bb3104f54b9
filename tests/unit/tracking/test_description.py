from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from maskwright.errors import CheckpointError
from maskwright.tracking.description import load_description, weights_hash


def _folder(folder: Path, **fields: object) -> Path:
    folder.mkdir(exist_ok=True)
    content = {"format_version": 1, "weights": {"sha256": "abc"}, "task": {"kind": "binary"}, **fields}
    (folder / "model.json").write_text(json.dumps(content))
    return folder


def test_what_a_model_says_of_itself(tmp_path: Path) -> None:
    assert load_description(_folder(tmp_path))["task"] == {"kind": "binary"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format_version": 2}, "written by a newer Maskwright: model format 2, this one reads up to 1. Upgrade"),
        ({"format_version": None}, "is damaged: it has no format_version"),
        ({"weights": {}}, "does not say which weights belong to it"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_description(_folder(tmp_path, **fields))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is not a model folder: it has no model\.json"):
        load_description(tmp_path)


def test_where_saving_was_cut_short_the_weights_decide(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"old").hexdigest()
    former = {"weights": {"sha256": digest}, "task": {"kind": "height"}}
    folder = _folder(tmp_path, former=former)
    (folder / "model.safetensors").write_bytes(b"old")
    assert weights_hash(folder) == digest
    assert load_description(folder) == former
    (folder / "model.safetensors").write_bytes(b"new")
    assert load_description(folder)["task"] == {"kind": "binary"}


def test_reading_it_needs_no_torch(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    code = f"import sys; from maskwright.tracking.description import load_description as load; load({str(folder)!r}); "
    said = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert said.stdout.strip() == "False"
