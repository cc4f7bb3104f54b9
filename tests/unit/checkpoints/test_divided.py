"""Checkpoints of a divided state: plain values as JSON, tensors beside them, all of it or none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.checkpoints import check_divided, load_state, read_about
from maskwright.checkpoints.divided import new_shares, save_divided, shares_hold, size_of, sweep_shares, write_shares
from maskwright.checkpoints.format import is_whole
from maskwright.errors import CheckpointError

ABOUT = {"epoch": 3, "kind": "epoch"}


def state() -> dict[str, Any]:
    weight = torch.arange(6.0).view(2, 3)
    return {
        "model": {"a.weight": weight, "a.tied": weight, "columns": weight[:, 1]},
        "optimizer": {"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"betas": (0.9, 0.99), "lr": 0.1}]},
        "best": {"score": math.nan, "epoch": None},
        "odd": {"items": {"tuple": True}, 1.5: "x"},
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint_epoch_0003.json"
    sha256, size = save_divided(path, write_shares(new_shares(path), state()), ABOUT)
    assert len(sha256) == 64
    assert size == size_of(path) == sum(file.stat().st_size for file in tmp_path.rglob("*.*") if file.is_file())
    return path


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list | tuple):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_it_comes_back_as_it_was_keys_and_types_included(saved: Path) -> None:
    assert_same(load_state(saved), state())
    assert read_about(saved) == ABOUT
    assert is_whole(saved)
    assert shares_hold(saved)


def test_nothing_in_it_is_a_pickle(saved: Path) -> None:
    files = [file for file in saved.parent.rglob("*") if file.is_file()]
    assert sorted(file.suffix for file in files) == [".json", ".safetensors"]
    document = json.loads(saved.read_text())
    assert document["state"]["best"] == {"score": "NaN", "epoch": None}


def test_what_cannot_be_saved_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"state\['path'\] is a pathlib"):
        check_divided({"path": tmp_path})
    with pytest.raises(CheckpointError, match=r"state\['path'\]"):
        write_shares(tmp_path / "x", {"path": tmp_path})
    assert not list(tmp_path.iterdir())


def test_a_share_that_was_changed_or_is_missing_is_noticed(saved: Path) -> None:
    (share,) = saved.parent.rglob("*.safetensors")
    data = bytearray(share.read_bytes())
    data[-1] ^= 1
    share.write_bytes(bytes(data))
    assert not is_whole(saved)
    share.write_bytes(bytes(data[:-8]))
    with pytest.raises(CheckpointError, match="are not those that were saved"):
        load_state(saved)
    share.unlink()
    assert not is_whole(saved)
    share.parent.rmdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_state(saved)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format_version": 99}, "written by a newer Maskwright: checkpoint format 99"),
        ({"format": "other"}, "is not a Maskwright checkpoint"),
        ({"folder": "../elsewhere"}, "names files outside its folder"),
        ({"folder": "elsewhere"}, "elsewhere is no folder of a checkpoint"),
        ({"tensors": {"a": {"shape": [10**12], "dtype": "float32", "divided": False}}}, "claims more than its files"),
        ({"tensors": {"a": {"shape": [1], "dtype": "load", "divided": False}}}, "'load' is no type of a tensor"),
        ({"tensors": {}}, "is damaged"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(saved: Path, change: dict[str, Any], told: str) -> None:
    saved.write_text(json.dumps(json.loads(saved.read_text()) | change))
    with pytest.raises(CheckpointError, match=told):
        load_state(saved)


def test_shares_that_no_checkpoint_needs_are_swept_away(saved: Path) -> None:
    (needed,) = saved.parent.glob("*.shares")
    stray, other = saved.parent / "checkpoint_epoch_0002.0123abcd.shares", saved.parent / "mine.shares"
    for folder in (stray, other):
        folder.mkdir()
    sweep_shares(saved.parent, [saved.name])
    assert (needed.exists(), stray.exists(), other.exists()) == (True, False, True)
    saved.write_text("damaged")  # perhaps its second name is whole
    sweep_shares(saved.parent, [saved.name])
    assert needed.exists()
    sweep_shares(saved.parent, [])
    assert not needed.exists()
