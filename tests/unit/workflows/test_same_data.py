"""What has changed of the data of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maskwright.errors import RunError
from maskwright.tracking.folder import RunFolder
from maskwright.workflows.assemble import data_fingerprint
from maskwright.workflows.same_data import require_same_data


def source(**sites: dict[str, Any]) -> Any:
    return SimpleNamespace(describe=lambda: sites)


def site(sha256: str, path: str = "a.tif", **facts: Any) -> dict[str, Any]:
    return {"files": [{"path": path, "sha256": sha256}], "notes": ["noticed"], **facts}


def begun_on(tmp_path: Path, data: Any) -> RunFolder:
    folder = RunFolder.create(tmp_path, "toy")
    folder.record.update(data=data_fingerprint(data), sites=data.describe())
    return folder


def test_files_that_moved_are_the_same_data(tmp_path: Path) -> None:
    folder = begun_on(tmp_path, source(north=site("1")))
    require_same_data(source(north=site("1", "/elsewhere/b.tif")), folder)


def test_a_run_that_has_not_noted_its_data_yet_takes_any(tmp_path: Path) -> None:
    require_same_data(source(north=site("1")), RunFolder.create(tmp_path, "toy"))


def test_what_is_missing_new_or_other_is_named(tmp_path: Path) -> None:
    folder = begun_on(tmp_path, source(east=site("1"), north=site("2", bands=1), west=site("3")))
    with pytest.raises(RunError) as error:
        require_same_data(source(north=site("2", bands=4), south=site("5"), west=site("4")), folder)
    assert (
        "has changed since it was begun, so it cannot continue exactly: east is missing; north has another bands; "
        "south is new; west has another content. Put the old data back, or begin a new run from its weights with "
        f"--resume {folder.path} --experiment-name NAME."
    ) in str(error.value)


def test_of_many_differences_the_first_are_named(tmp_path: Path) -> None:
    folder = begun_on(tmp_path, source(**{f"site{number}": site("1") for number in range(9)}))
    with pytest.raises(RunError, match=r"site4 is missing; and 4 more\. Put"):
        require_same_data(source(), folder)
