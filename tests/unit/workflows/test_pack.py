"""A run in one file: whole, without pickle, and harmless to unpack whatever it holds."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.checkpoints import load_description, load_weights, save_model
from maskwright.cli.main import main
from maskwright.errors import RunError
from maskwright.tracking import EventLog, History, RunFolder, RunReader
from maskwright.tracking.environment import process_mark
from maskwright.workflows.pack import pack_run, unpack_run

CONTENTS = "maskwright_run.json"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "outputs", "toy")
    folder.config.write_text("name: toy\n")
    History(folder.history).append({"epoch": 1, "train/loss": 0.5})
    EventLog(folder.events).write("step", global_step=1, loss=0.5)
    (folder.checkpoints / "checkpoint_latest.pt").write_bytes(b"a pickle")
    save_model(folder.model, torch.nn.Linear(3, 2), {"task": {"kind": "binary"}})
    folder.record.update(status="finished", environment={"versions": {"torch": "1.0"}})
    return folder


@pytest.fixture
def packed(run: RunFolder, tmp_path: Path) -> Path:
    return pack_run(run.path, tmp_path / "run.zip").path


def rewritten(packed: Path, change: Callable[[dict[str, bytes]], None], **options: Any) -> Path:
    """The file with other content; the table of contents follows unless it is changed itself."""
    with zipfile.ZipFile(packed) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    before = files[CONTENTS]
    change(files)
    if files.get(CONTENTS) == before:
        contents = json.loads(before)
        contents["files"] = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
            if name != CONTENTS
        }
        files[CONTENTS] = json.dumps(contents).encode()
    other = packed.with_name("other.zip")
    with zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            stored = name.endswith("safetensors") and not options.get("squeeze")
            archive.writestr(name, data, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
    return other


def refused(file: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(RunError, match=text):
        unpack_run(file, tmp_path / "elsewhere" / "runs")
    left = [path for path in tmp_path.rglob("*") if path.name in ("evil.txt",)]
    assert left == []
    folder = tmp_path / "elsewhere" / "runs"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_a_packed_run_comes_out_as_it_went_in_without_its_checkpoints(
    run: RunFolder, packed: Path, tmp_path: Path
) -> None:
    result = unpack_run(packed, tmp_path / "there")
    assert result.path == tmp_path / "there" / run.path.name
    assert (result.status, result.epochs) == ("finished", 1)
    there = RunFolder.open(result.path)
    for name in result.files:
        if name != "run.json":
            assert (there.path / name).read_bytes() == (run.path / name).read_bytes()
    assert there.record.load()["status"] == "finished"
    assert list(there.checkpoints.iterdir()) == []
    assert RunReader(there.path).history() == ({"epoch": 1, "train/loss": 0.5},)
    model = torch.nn.Linear(3, 2)
    load_weights(there.model, model)
    assert load_description(there.model)["task"] == {"kind": "binary"}


def test_nothing_in_the_file_is_a_pickle(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        assert not [name for name in names if name.endswith((".pt", ".pkl"))]
        assert archive.getinfo("model/model.safetensors").compress_type == zipfile.ZIP_STORED


def test_the_receiver_is_told_of_other_versions(packed: Path, tmp_path: Path) -> None:
    (note,) = unpack_run(packed, tmp_path / "there").notes
    assert f"torch 1.0 (here {torch.__version__.partition('+')[0]}" in note


def test_a_run_at_work_is_packed_as_one_that_rests(run: RunFolder, tmp_path: Path) -> None:
    run.record.update(status="running", host=socket.gethostname(), pid=os.getpid(), process=process_mark(os.getpid()))
    assert pack_run(run.path, tmp_path / "run.zip").status == "interrupted"
    assert unpack_run(tmp_path / "run.zip", tmp_path / "there").status == "interrupted"
    assert run.record.load()["status"] == "running"


def test_a_run_without_a_model_says_so(run: RunFolder, tmp_path: Path) -> None:
    for path in run.model.iterdir():
        path.unlink()
    assert pack_run(run.path, tmp_path / "run.zip").notes == ("It holds no model: no epoch was completed.",)
    assert "It holds no model." in unpack_run(tmp_path / "run.zip", tmp_path / "there").notes


def test_a_run_that_is_there_already_is_never_overwritten(run: RunFolder, packed: Path) -> None:
    with pytest.raises(RunError, match=r"is there already\. Remove it, or unpack into another folder"):
        unpack_run(packed, run.path.parent)
    assert (run.checkpoints / "checkpoint_latest.pt").exists()


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "model/../../evil.txt", "evil.txt", "checkpoints/a.pt"])
def test_a_name_that_has_no_place_in_a_run_is_refused(packed: Path, tmp_path: Path, name: str) -> None:
    refused(rewritten(packed, lambda files: files.update({name: b"x"})), tmp_path, "has no place in a packed run")


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "/root/evil"])
def test_a_folder_name_that_leads_elsewhere_is_refused(packed: Path, tmp_path: Path, name: str) -> None:
    def rename(files: dict[str, bytes]) -> None:
        files[CONTENTS] = json.dumps(json.loads(files[CONTENTS]) | {"name": name}).encode()

    refused(rewritten(packed, rename), tmp_path, "table of contents does not fit")


def test_a_bomb_is_refused_before_anything_is_written(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = rewritten(packed, lambda files: files.update({"log.txt": bytes(3_000_000)}))
    assert bomb.stat().st_size < 20_000
    monkeypatch.setattr("maskwright.workflows.pack._MOST_TEXT", 2_000_000)
    refused(bomb, tmp_path, "unpacked it would hold 3 MB beside the weights")


def test_compressed_weights_are_refused(packed: Path, tmp_path: Path) -> None:
    refused(rewritten(packed, lambda files: None, squeeze=True), tmp_path, "its weights are compressed")


def test_a_size_that_lies_is_noticed(packed: Path, tmp_path: Path) -> None:
    large = rewritten(packed, lambda files: files.update({"log.txt": b"a" * 100_000}))
    content = large.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    large.write_bytes(content)
    refused(large, tmp_path, r"damaged|holds more than it announces")


def test_other_content_than_was_packed_is_noticed(packed: Path, tmp_path: Path) -> None:
    def forge(files: dict[str, bytes]) -> None:
        files["config.yaml"] = b"name: forged\n"
        files[CONTENTS] += b" "  # the table of contents stays as it was

    refused(rewritten(packed, forge), tmp_path, "config.yaml is not what was packed")


def test_a_newer_format_asks_for_an_upgrade(packed: Path, tmp_path: Path) -> None:
    def newer(files: dict[str, bytes]) -> None:
        files[CONTENTS] = json.dumps(json.loads(files[CONTENTS]) | {"format_version": 99}).encode()

    refused(rewritten(packed, newer), tmp_path, "packed by a newer Maskwright: format 99")


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 torn"])
def test_a_foreign_or_torn_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.zip").write_bytes(content)
    refused(tmp_path / "file.zip", tmp_path, "is not a packed run, or damaged")


def test_a_foreign_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "file.zip", "w") as archive:
        archive.writestr("holiday.txt", "sun")
    refused(tmp_path / "file.zip", tmp_path, "it has no table of contents")


def test_the_commands_pack_unpack_and_list(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, there = str(tmp_path / "run.zip"), str(tmp_path / "there")
    assert main(["runs", "pack", str(run.path), file]) == 0
    assert main(["runs", "unpack", file, "--to", there]) == 0
    printed = capsys.readouterr().out
    assert "maskwright runs unpack run.zip" in printed
    assert f"maskwright predict {there}/{run.path.name} YOUR_FILES --out maps" in printed
    for words in (["runs", there], ["runs", "list", there], ["runs", there, "--name", "toy"]):
        assert main(words) == 0
        assert run.path.name in capsys.readouterr().out
    monkeypatch.chdir(run.path.parent.parent)
    assert main(["runs"]) == 0
    assert run.path.name in capsys.readouterr().out
    assert main(["runs", "--name", "other"]) == 0
    assert "No runs in outputs." in capsys.readouterr().out
    assert main(["runs", "pack", str(run.path), str(tmp_path / "run.tar")]) == 2
    assert "run.zip" in capsys.readouterr().err
