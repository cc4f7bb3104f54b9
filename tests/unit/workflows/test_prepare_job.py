"""A step that writes many files and goes on after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.errors import RunError
from maskwright.workflows.prepare_job import Job, file_facts


def written(job: Job, name: str, text: str = "content") -> None:
    (job.out / name).write_text(text)
    job.finish(name, {"gaps": 3})


def test_what_is_finished_is_not_made_again(tmp_path: Path) -> None:
    first = Job(tmp_path, "masks", {"heights": [5]}, ["a.tif", "b.tif"])
    written(first, "a.tif")
    again = Job(tmp_path, "masks", {"heights": [5]}, ["a.tif", "b.tif"])
    assert again.finished("a.tif") == {"gaps": 3}
    assert again.finished("b.tif") is None


def test_a_file_that_changed_since_is_made_again(tmp_path: Path) -> None:
    written(Job(tmp_path, "masks", {}, ["a.tif"]), "a.tif")
    (tmp_path / "a.tif").write_text("CONTENT")  # as long, other bytes
    assert Job(tmp_path, "masks", {}, ["a.tif"]).finished("a.tif") is None


def test_a_line_cut_by_a_kill_spoils_itself_alone(tmp_path: Path) -> None:
    job = Job(tmp_path, "masks", {}, ["a.tif", "b.tif"])
    written(job, "a.tif")
    with open(tmp_path / ".prepare_masks.jsonl", "a") as file:
        file.write('\n{"file": "b.tif", "by')
    again = Job(tmp_path, "masks", {}, ["a.tif", "b.tif"])
    assert again.finished("a.tif") == {"gaps": 3}
    assert again.finished("b.tif") is None


def test_files_of_another_job_are_replaced_only_when_asked(tmp_path: Path) -> None:
    written(Job(tmp_path, "masks", {"heights": [5]}, ["a.tif"]), "a.tif")
    with pytest.raises(RunError, match=r"holds a.tif already, and another job wrote them"):
        Job(tmp_path, "masks", {"heights": [9]}, ["a.tif"])
    assert Job(tmp_path, "masks", {"heights": [9]}, ["a.tif"], overwrite=True).finished("a.tif") is None


def test_a_source_is_known_by_path_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("12345")
    ((path, size, _),) = file_facts([tmp_path / "a.tif"])
    assert (path, size) == (str((tmp_path / "a.tif").resolve()), 5)
