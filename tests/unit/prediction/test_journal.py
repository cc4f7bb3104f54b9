from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.errors import DataError, PredictionError
from maskwright.prediction import journal as journal_module
from maskwright.prediction.journal import Journal
from maskwright.prediction.outputs import staging

IDENTITY = {"model": ["abc"], "tile_px": 64, "heights": (5.0, 10.0), "nodata": float("nan")}


class _File:
    def __init__(self) -> None:
        self.synced = 0

    def sync(self) -> None:
        self.synced += 1


def test_what_was_noted_is_found_by_the_same_work_alone(tmp_path: Path) -> None:
    file = _File()
    Journal(tmp_path, IDENTITY).note(128, {"valid_px": 7}, [file])
    assert file.synced == 1
    found = Journal(tmp_path, IDENTITY)
    assert (found.row, found.facts, found.changed) == (128, {"valid_px": 7}, ())
    other = Journal(tmp_path, IDENTITY | {"tile_px": 96, "tta": 2})
    assert (other.row, other.facts, other.changed) == (0, {}, ("tile_px", "tta"))


def test_a_damaged_journal_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / journal_module.NAME).write_text('{"row": 128')
    found = Journal(tmp_path, IDENTITY)
    assert (found.row, found.changed) == (0, ("journal",))


def test_entries_are_seconds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: now[0])
    journal = Journal(tmp_path, IDENTITY)
    now[0] += journal_module.EVERY_S - 1
    assert not journal.is_due
    now[0] += 1
    assert journal.is_due
    journal.note(1, {}, [])
    assert not journal.is_due


def _begun(out: Path, error: BaseException, *, noted: bool = True) -> None:
    with staging(out, "north", 0, IDENTITY) as staged:
        (staged.folder / "mask.part.vrt").write_text("rows")
        if noted:
            staged.journal.note(128, {}, [])
        raise error


def _interrupted(out: Path, error: BaseException, *, noted: bool = True) -> None:
    with pytest.raises(type(error)):
        _begun(out, error, noted=noted)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), PredictionError("disk full")])
def test_finished_rows_outlive_an_interruption(error: BaseException, tmp_path: Path) -> None:
    _interrupted(tmp_path / "maps", error)
    with staging(tmp_path / "maps", "north", 0, IDENTITY) as staged:
        assert staged.journal.row == 128
        assert (staged.folder / "mask.part.vrt").exists()
    assert not (tmp_path / "maps").exists() or list((tmp_path / "maps").iterdir()) == []


def test_an_error_tells_that_the_same_command_goes_on(tmp_path: Path) -> None:
    hidden = tmp_path / ".north.part" / "x"
    with pytest.raises(PredictionError, match=rf"^{tmp_path}/x is full\. What is finished is kept: the same command"):
        _begun(tmp_path, PredictionError(f"{hidden} is full."))


@pytest.mark.parametrize(("error", "noted"), [(DataError("torn"), True), (PredictionError("full"), False)])
def test_nothing_is_left_of_a_damaged_input_or_of_work_hardly_begun(
    error: BaseException, noted: bool, tmp_path: Path
) -> None:
    _interrupted(tmp_path / "maps", error, noted=noted)
    assert not (tmp_path / "maps").exists()


def test_other_work_begins_anew_and_says_so(tmp_path: Path) -> None:
    _interrupted(tmp_path, KeyboardInterrupt())
    with staging(tmp_path, "north", 0, IDENTITY | {"tile_px": 96}) as staged:
        assert staged.notes == ("an unfinished prediction was begun anew: changed since then: tile_px",)
        assert [path.name for path in staged.folder.iterdir()] == ["lock"]


def test_two_processes_do_not_share_one_folder(tmp_path: Path) -> None:
    with staging(tmp_path, "north", 0, IDENTITY) as first:
        with pytest.raises(PredictionError, match="Another process is predicting north"):
            staging(tmp_path, "north", 0, IDENTITY).__enter__()
        assert first.folder.is_dir()
