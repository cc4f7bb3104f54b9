"""The page and the file of a check."""

from __future__ import annotations

from pathlib import Path

from maskwright.data.preflight import Finding
from maskwright.workflows.check import Checked
from maskwright.workflows.check_page import facts_of, findings_table, page_of

ERROR = Finding("error", "no_images", "", "There is no image.", "Put some there.", {"images": 0.0})
NOTE = Finding("note", "few", "a.png", "It is small.", "Nothing to do.")


def test_findings_stand_in_a_table_with_what_to_do() -> None:
    head, cells = findings_table([ERROR, NOTE])
    assert head == ["level", "where", "found", "do"]
    assert cells == [
        ["ERROR", "-", "There is no image.", "Put some there."],
        ["Note", "a.png", "It is small.", "Nothing to do."],
    ]


def test_the_file_counts_findings_by_level() -> None:
    facts = facts_of(Checked(elapsed_s={"open": 0.5}), [ERROR, NOTE], Path("data"))
    assert facts["counts"] == {"error": 1, "warning": 0, "note": 1}
    assert facts["findings"][0]["code"] == "no_images"
    assert facts["elapsed_s"] == {"open": 0.5}
    assert "data" not in facts  # it could not be opened


def test_the_page_says_first_whether_training_can_begin(tmp_path: Path) -> None:
    assert "Training would fail or be worthless: 1 error." in page_of(Checked(), [ERROR, NOTE], tmp_path)
    assert "Nothing stands in the way of training." in page_of(Checked(), [NOTE], tmp_path)
