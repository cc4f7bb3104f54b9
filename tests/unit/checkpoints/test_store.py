from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.checkpoints import CheckpointStore, snapshot, upkeep
from maskwright.checkpoints import store as store_module
from maskwright.errors import CheckpointError
from maskwright.files import TEMPORARY_SUFFIX
from maskwright.tracking import RunFolder, read_manifest

torch.set_num_threads(1)

ALIASES = ["checkpoint_best.pt", "checkpoint_latest.pt"]


def state_of(number: int) -> dict[str, Any]:
    return {"model": {"weight": torch.full((8,), float(number))}, "number": number}


def epoch_file(epoch: int) -> str:
    return f"checkpoint_epoch_{epoch:04d}.pt"


def new_store(folder: Path, count: int = 3) -> CheckpointStore:
    return CheckpointStore(folder, max_checkpoints=count, monitor="val/iou", mode="max")


def save_epochs(store: CheckpointStore, *scores: float | None, first: int = 1) -> None:
    for epoch, score in enumerate(scores, start=first):
        found = {} if score is None else {"val/iou": score}
        store.save(state_of(epoch), epoch=epoch, global_step=10 * epoch, scores=found)


def files_in(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".pt") and name not in ALIASES)


def number_in(path: Path) -> int:
    content = torch.load(path, weights_only=True)
    return int(content["state"]["number"])


def test_what_was_saved_comes_back_with_its_record(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    saved = store.save(state_of(1), epoch=1, global_step=10, position=0, scores={"val/iou": 0.5})
    state, record, notes = store.load_latest()
    assert torch.equal(state["model"]["weight"], torch.ones(8))
    assert state["number"] == 1
    assert record == saved == store.records[-1]
    assert (record.epoch, record.position, record.global_step, record.kind) == (1, 0, 10, "epoch")
    assert record.scores == {"val/iou": 0.5}
    assert record.file == "checkpoint_epoch_0001.pt"
    assert record.bytes == store.path_of(record).stat().st_size
    assert notes == ()


def test_names_tell_finished_epochs_from_moments_inside_one(tmp_path: Path) -> None:
    store = new_store(tmp_path, count=9)
    files = [
        store.save({}, epoch=10, global_step=120).file,
        store.save({}, epoch=9, position=3, global_step=123, kind="step").file,
        store.save({}, epoch=9, position=4, global_step=124, kind="interrupted").file,
        store.save({}, epoch=0, position=0, global_step=0, kind="error").file,
    ]
    assert files == [
        "checkpoint_epoch_0010.pt",
        "checkpoint_epoch_0010_step_00000123.pt",
        "checkpoint_epoch_0010_step_00000124.pt",
        "checkpoint_epoch_0001_step_00000000.pt",
    ]


def test_an_interruption_right_after_an_epoch_does_not_replace_its_scored_checkpoint(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    save_epochs(store, 0.5)
    store.save(state_of(1), epoch=1, global_step=10, kind="interrupted")
    assert store.best is not None
    assert store.best.file == epoch_file(1)
    assert store.load_latest().record.kind == "interrupted"


@pytest.mark.parametrize("given", ["path", "run folder"])
def test_a_store_takes_its_folder_or_the_run_folder(tmp_path: Path, given: str) -> None:
    run = RunFolder.create(tmp_path, "gaps")
    store = CheckpointStore(run if given == "run folder" else run.checkpoints)
    save_epochs(store, 0.5)
    assert run.manifest.is_file()
    assert files_in(run.checkpoints) == [epoch_file(1)]


def test_twelve_improving_epochs_leave_five_files_and_two_aliases(tmp_path: Path) -> None:
    save_epochs(new_store(tmp_path, count=5), *(0.05 * epoch for epoch in range(1, 13)))
    assert files_in(tmp_path) == [epoch_file(epoch) for epoch in range(8, 13)]
    assert set(os.listdir(tmp_path)) == {*ALIASES, *files_in(tmp_path), "manifest.json"}


def test_the_best_is_never_removed(tmp_path: Path) -> None:
    store = new_store(tmp_path, count=2)
    save_epochs(store, 0.1, 0.9, 0.3, 0.9, 0.5, 0.6)
    assert files_in(tmp_path) == [epoch_file(epoch) for epoch in (2, 5, 6)]  # 4 was as good, not better
    assert number_in(tmp_path / "checkpoint_best.pt") == 2
    assert number_in(tmp_path / "checkpoint_latest.pt") == 6
    assert store.load_best().state["number"] == 2
    assert store.load_latest().state["number"] == 6


def test_the_lowest_score_is_best_where_lower_is_better(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, max_checkpoints=1, monitor="val/loss", mode="min")
    for epoch, loss in enumerate((0.5, 0.2, 0.3), start=1):
        store.save(state_of(epoch), epoch=epoch, global_step=epoch, scores={"val/loss": loss})
    assert store.load_best().state["number"] == 2


def test_scores_that_are_missing_or_not_numbers_are_never_best(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    save_epochs(store, None, math.nan)
    assert store.best is None
    assert not (tmp_path / "checkpoint_best.pt").exists()
    loaded = store.load_best()
    assert loaded.state["number"] == 2
    assert loaded.notes == ("No whole checkpoint has the score val/iou; took the newest, checkpoint_epoch_0002.pt.",)
    save_epochs(store, 0.01, math.nan, first=3)
    assert store.load_best().state["number"] == 3


def test_aliases_are_hard_links_where_possible(tmp_path: Path) -> None:
    save_epochs(new_store(tmp_path), 0.5, 0.4)
    assert os.path.samefile(tmp_path / "checkpoint_best.pt", tmp_path / epoch_file(1))
    assert os.path.samefile(tmp_path / "checkpoint_latest.pt", tmp_path / epoch_file(2))


def test_aliases_are_copies_where_links_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    save_epochs(new_store(tmp_path), 0.5, 0.4, 0.3)
    for alias, epoch in (("checkpoint_best.pt", 1), ("checkpoint_latest.pt", 3)):
        assert not os.path.samefile(tmp_path / alias, tmp_path / epoch_file(epoch))
        assert (tmp_path / alias).read_bytes() == (tmp_path / epoch_file(epoch)).read_bytes()


def test_a_copied_best_is_not_copied_again_while_it_stays_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []
    copy = store_module.copy
    monkeypatch.setattr(store_module, "link", lambda source, target: False)
    monkeypatch.setattr(store_module, "copy", lambda *paths: (copied.append(paths[1].name), copy(*paths)))
    save_epochs(new_store(tmp_path), 0.5, 0.4, 0.3)
    assert copied.count("checkpoint_best.pt") == 1
    assert copied.count("checkpoint_latest.pt") == 3


def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    store = new_store(tmp_path, count=2)
    save_epochs(store, 0.5, 0.4, 0.3, 0.2)
    manifest = read_manifest(tmp_path / "manifest.json")
    assert [record.file for record in manifest.records] == [epoch_file(epoch) for epoch in (1, 3, 4)]
    assert manifest.best == epoch_file(1)
    assert (manifest.monitor, manifest.mode) == ("val/iou", "max")
    assert CheckpointStore(tmp_path).records == manifest.records


def test_a_store_opened_without_a_score_follows_the_manifest(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, max_checkpoints=1, monitor="val/loss", mode="min")
    for epoch, loss in enumerate((0.5, 0.2, 0.3), start=1):
        store.save(state_of(epoch), epoch=epoch, global_step=epoch, scores={"val/loss": loss})
    other = CheckpointStore(tmp_path, max_checkpoints=1)
    assert other.load_best().state["number"] == 2
    other.save(state_of(4), epoch=4, global_step=4)
    assert files_in(tmp_path) == [epoch_file(2), epoch_file(4)]
    assert read_manifest(tmp_path / "manifest.json").monitor == "val/loss"


def test_an_epoch_saved_again_is_replaced(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    save_epochs(store, 0.5, 0.9)
    store.save(state_of(22), epoch=2, global_step=20, scores={"val/iou": 0.4})
    assert [record.epoch for record in store.records] == [1, 2]
    assert store.load_latest().state["number"] == 22
    assert store.load_best().state["number"] == 1


def test_a_snapshot_can_be_written_later(tmp_path: Path) -> None:
    weight = torch.ones(3)
    content = snapshot({"weight": weight})
    weight.zero_()
    store = new_store(tmp_path)
    store.write(content, epoch=1, global_step=1, scores={"val/iou": 0.5})
    assert store.load_latest().state["weight"].tolist() == [1, 1, 1]


def test_an_empty_folder_says_that_there_is_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert new_store(folder).records == ()
        with pytest.raises(CheckpointError, match="No whole checkpoint in"):
            new_store(folder).load_latest()
        with pytest.raises(CheckpointError, match="No whole checkpoint in"):
            new_store(folder).load_best()
    assert os.listdir(tmp_path) == []


def test_loading_can_map_the_file_and_skip_the_hash(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    save_epochs(store, 0.5)
    for options in ({"mmap": True}, {"verify": False}, {"mmap": True, "verify": False}):
        assert store.load_latest(**options).state["number"] == 1  # type: ignore[arg-type]


def test_loading_changes_nothing_on_disk(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    save_epochs(store, 0.5, 0.4)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / f".x.00000000-1-0{TEMPORARY_SUFFIX}").touch()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    reader = new_store(tmp_path)
    reader.load_latest()
    reader.load_best()
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_checkpoint_that_never_reached_the_manifest_is_removed_by_the_next_saver(tmp_path: Path) -> None:
    save_epochs(new_store(tmp_path), 0.5)
    manifest = (tmp_path / "manifest.json").read_bytes()
    save_epochs(new_store(tmp_path), 0.6, first=2)
    (tmp_path / "manifest.json").write_bytes(manifest)  # as if killed between file and manifest
    store = new_store(tmp_path)
    assert store.load_latest().state["number"] == 1
    assert store.recover() == ("Removed checkpoint_epoch_0002.pt, saved but never entered in the manifest.",)
    assert files_in(tmp_path) == [epoch_file(1)]
    assert number_in(tmp_path / "checkpoint_latest.pt") == 1


def test_files_that_are_not_ours_are_never_removed(tmp_path: Path) -> None:
    foreign = tmp_path / "checkpoint_epoch_0099.pt"
    torch.save({"model": torch.zeros(1)}, foreign)
    (tmp_path / "notes.txt").touch()
    store = new_store(tmp_path, count=1)
    save_epochs(store, 0.1, 0.2, 0.3)
    assert files_in(tmp_path) == [epoch_file(3), foreign.name]
    assert (tmp_path / "notes.txt").exists()


def test_a_lost_manifest_is_made_anew_from_the_files(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    save_epochs(store, 0.5, 0.9, 0.3)
    before = store.records
    (tmp_path / "manifest.json").unlink()
    again = new_store(tmp_path)
    assert again.records == before
    assert again.best == before[1]
    (note,) = again.load_latest().notes
    assert note.endswith("The list of checkpoints was made anew from the files.")
    again.recover()
    assert read_manifest(tmp_path / "manifest.json").records == before
    assert again.load_latest().notes == ()


def test_a_lone_best_file_can_be_loaded_and_gets_its_own_name_before_the_alias_moves(tmp_path: Path) -> None:
    save_epochs(new_store(tmp_path / "run"), 0.9, 0.5)
    lone = tmp_path / "copied"
    lone.mkdir()
    shutil.copy(tmp_path / "run" / "checkpoint_best.pt", lone)
    store = new_store(lone)
    assert store.load_best().state["number"] == 1
    save_epochs(store, 0.2, 0.95, 0.3, first=2)
    assert store.load_best().state["number"] == 3
    assert files_in(lone) == [epoch_file(epoch) for epoch in (2, 3, 4)]


def test_numbered_files_removed_by_hand_leave_what_the_aliases_hold(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    save_epochs(store, 0.9, 0.5)
    for name in files_in(tmp_path):
        (tmp_path / name).unlink()
    again = new_store(tmp_path)
    assert again.load_latest().state["number"] == 2
    assert again.load_best().state["number"] == 1
    save_epochs(again, 0.4, first=3)
    assert again.load_latest().state["number"] == 3
    assert again.load_best().state["number"] == 1


def test_a_manifest_of_a_newer_version_is_not_overwritten(tmp_path: Path) -> None:
    text = json.dumps({"format_version": 99})
    (tmp_path / "manifest.json").write_text(text)
    store = new_store(tmp_path)
    with pytest.raises(CheckpointError, match="newer Maskwright"):
        store.load_latest()
    with pytest.raises(CheckpointError, match="newer Maskwright"):
        save_epochs(store, 0.5)
    assert (tmp_path / "manifest.json").read_text() == text


def test_a_reader_follows_a_saver_that_moves_on_while_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver, reader = new_store(tmp_path, count=1), new_store(tmp_path)
    save_epochs(saver, 0.1)
    hashed = upkeep.sha256_file
    epochs = iter((2,))

    def save_first(path: Path) -> str:
        for epoch in epochs:
            save_epochs(saver, 0.2, first=epoch)
        return hashed(path)

    monkeypatch.setattr(upkeep, "sha256_file", save_first)
    loaded = reader.load_best()
    assert loaded.state["number"] == 2
    assert loaded.notes == ()


def test_a_foreign_object_in_the_state_changes_nothing(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    save_epochs(store, 0.5)
    with pytest.raises(CheckpointError, match=r"state\['bad'\] is a set"):
        store.save({"bad": {1}}, epoch=2, global_step=20)
    assert store.load_latest().state["number"] == 1
