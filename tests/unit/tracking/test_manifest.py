from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

from maskwright.errors import CheckpointError
from maskwright.tracking import CheckpointRecord, Manifest, read_manifest, write_manifest

RECORDS = tuple(
    CheckpointRecord(
        f"checkpoint_epoch_000{epoch}.pt", "ab" * 32, 100, epoch, 0, 10 * epoch, {"val/iou": score}, "epoch", "2026"
    )
    for epoch, score in ((1, 0.5), (2, math.nan))
)


def test_a_manifest_comes_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_manifest(path, Manifest(RECORDS, RECORDS[0].file, "val/iou", "max"))
    back = read_manifest(path)
    assert back.best_record == RECORDS[0]
    assert back.latest is not None
    assert back.latest.file == RECORDS[1].file
    assert math.isnan(back.latest.scores["val/iou"])
    assert (back.monitor, back.mode) == ("val/iou", "max")
    raw = json.loads(path.read_text())
    assert raw["latest"] == "checkpoint_epoch_0002.pt"
    assert raw["best"] == "checkpoint_epoch_0001.pt"
    assert raw["checkpoints"][0] == asdict(RECORDS[0])


def test_an_empty_manifest_has_neither_latest_nor_best(tmp_path: Path) -> None:
    write_manifest(tmp_path / "manifest.json", Manifest())
    back = read_manifest(tmp_path / "manifest.json")
    assert back == Manifest()
    assert back.latest is None
    assert back.best_record is None


def test_a_newer_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"format_version": 2}))
    with pytest.raises(CheckpointError, match="newer Maskwright: manifest format 2"):
        read_manifest(path)


@pytest.mark.parametrize(
    "change",
    [{"kind": "other"}, {"file": "../../elsewhere.pt"}, {"surprise": 1}],
)
def test_a_record_that_cannot_be_is_damage(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "manifest.json"
    write_manifest(path, Manifest(RECORDS))
    content = json.loads(path.read_text())
    content["checkpoints"][0] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        read_manifest(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"checkpoints": 3}'])
def test_a_torn_manifest_is_damage(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged") as caught:
        read_manifest(path)
    assert caught.value.__cause__ is not None  # the store rebuilds what is damaged, not what is newer
