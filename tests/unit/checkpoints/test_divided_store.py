"""A store whose checkpoints are divided, in one process, which then has all shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.checkpoints import CheckpointStore, DividedStore
from maskwright.errors import CheckpointError
from maskwright.tracking import CheckpointRecord


def save(store: DividedStore, epoch: int, score: float) -> CheckpointRecord:
    state: dict[str, Any] = {"epoch": epoch, "weight": torch.full((2,), float(epoch))}
    return store.save(state, epoch=epoch, position=0, global_step=epoch, scores={"val/iou": score}, kind="epoch")


def folder_of(tmp_path: Path, **options: Any) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", monitor="val/iou", mode="max", **options)


def shares(tmp_path: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in (tmp_path / "checkpoints").glob("*.shares"))


def no_share(shape: Any, dtype: torch.dtype) -> torch.Tensor:
    raise AssertionError("nothing was divided")


def test_the_best_and_the_newest_stay_with_their_shares_and_have_second_names(tmp_path: Path) -> None:
    files = folder_of(tmp_path, max_checkpoints=1)
    store = DividedStore(files)
    records = [save(store, epoch, score) for epoch, score in ((1, 0.1), (2, 0.9), (3, 0.5))]
    assert [record.file for record in files.records] == ["checkpoint_epoch_0002.json", "checkpoint_epoch_0003.json"]
    assert shares(tmp_path) == ["checkpoint_epoch_0002", "checkpoint_epoch_0003"]
    assert (files.folder / "checkpoint_latest.json").read_bytes() == files.path_of(records[2]).read_bytes()
    assert files.load_best().state["epoch"] == 2
    assert torch.equal(files.load_latest().state["weight"], torch.full((2,), 3.0))
    found = store.load_latest(no_share)
    assert found is not None
    assert (found.state["epoch"], found.record, found.notes) == (3, records[2], ())


def test_one_saved_again_replaces_the_former_as_a_whole(tmp_path: Path) -> None:
    store = DividedStore(folder_of(tmp_path))
    save(store, 1, 0.1)
    save(store, 1, 0.2)
    assert shares(tmp_path) == ["checkpoint_epoch_0001"]
    assert folder_of(tmp_path).load_latest().record.scores == {"val/iou": 0.2}


def test_a_damaged_share_is_passed_over_for_the_checkpoint_before(tmp_path: Path) -> None:
    store = DividedStore(folder_of(tmp_path))
    for epoch in (1, 2):
        save(store, epoch, 0.1)
    (share,) = (tmp_path / "checkpoints").glob("checkpoint_epoch_0002.*/*.safetensors")
    share.write_bytes(share.read_bytes()[:-1])
    found = DividedStore(folder_of(tmp_path)).load_latest(no_share)
    assert found is not None
    assert found.state["epoch"] == 1
    assert "Passed over checkpoint_epoch_0002.json" in found.notes[0]


def test_what_a_killed_process_left_is_gone_after_the_next_save(tmp_path: Path) -> None:
    store = DividedStore(folder_of(tmp_path))
    save(store, 1, 0.1)
    stray = tmp_path / "checkpoints" / "checkpoint_epoch_0002.0123abcd.shares"
    stray.mkdir()
    (stray / "shard-00001.safetensors").write_bytes(b"half")
    save(DividedStore(folder_of(tmp_path)), 3, 0.2)
    assert shares(tmp_path) == ["checkpoint_epoch_0001", "checkpoint_epoch_0003"]


def test_a_run_may_change_its_form_and_the_other_one_of_the_same_moment_goes(tmp_path: Path) -> None:
    files = folder_of(tmp_path)
    save(DividedStore(files), 1, 0.1)
    moment: dict[str, Any] = {"position": 0, "kind": "epoch"}
    files.save({"epoch": 1}, epoch=1, global_step=1, scores={"val/iou": 0.3}, **moment)
    assert [record.file for record in files.records] == ["checkpoint_epoch_0001.pt"]
    assert shares(tmp_path) == []
    assert not (files.folder / "checkpoint_latest.json").exists()
    assert (files.folder / "checkpoint_latest.pt").exists()


def test_a_list_that_is_lost_is_made_anew_from_the_files(tmp_path: Path) -> None:
    record = save(DividedStore(folder_of(tmp_path)), 1, 0.1)
    (tmp_path / "checkpoints" / "manifest.json").unlink()
    (found,) = folder_of(tmp_path).records
    assert (found.file, found.sha256, found.bytes) == (record.file, record.sha256, record.bytes)


def test_without_a_folder_or_a_checkpoint_it_says_so(tmp_path: Path) -> None:
    assert DividedStore(folder_of(tmp_path)).load_latest(no_share) is None
    with pytest.raises(CheckpointError, match="no folder for checkpoints"):
        DividedStore(None).load_latest(no_share)
    with pytest.raises(CheckpointError, match="not saved in the background"):
        DividedStore(None).save_later({})
