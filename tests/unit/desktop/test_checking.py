from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maskwright.config import load_experiment
from maskwright.desktop import checking
from maskwright.desktop.checking import DataCheck
from maskwright.errors import DataError

FINDINGS = [
    {"level": "warning", "what": "Few images.", "do": "Add some.", "where": "", "code": "few"},
    {"level": "error", "what": "a.png is empty.", "do": "Remove it.", "where": "a.png", "code": "empty"},
    {"level": "note", "what": "All is grey.", "do": "", "where": "", "code": "grey"},
]


class Process:
    """Stands for the process of a check."""

    def __init__(self, tmp_path: Path, code: int | None, said: str = "") -> None:
        self.code, self.output = code, tmp_path / "said.txt"
        self.output.write_text(said)
        self.ended: list[str] = []
        self.process = SimpleNamespace(terminate=lambda: self.ended.append("terminate"), wait=lambda: None)

    def said(self) -> str:
        return self.output.read_text()


def started(monkeypatch: pytest.MonkeyPatch, process: Process, findings: Any = None) -> list[list[str]]:
    words: list[list[str]] = []

    def start(given: list[str]) -> Process:
        words.append(given)
        if findings is not None:
            (Path(given[-1]) / "check.json").write_text(json.dumps({"findings": findings}))
        return process

    monkeypatch.setattr(checking, "start", start)
    return words


def check(tmp_path: Path) -> DataCheck:
    return DataCheck(load_experiment(["preset:minimal"], {"data": {"folder": str(tmp_path)}}))


def test_the_gravest_findings_come_first_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = started(monkeypatch, Process(tmp_path, 1), FINDINGS)
    result = check(tmp_path).run()
    assert result is not None
    assert result.summary == "The check found 1 error, 1 warning, 1 note."
    assert result.lines == ("a.png is empty. Remove it.", "Few images. Add some.")
    assert not result.is_fit
    assert words[0][:2] == ["maskwright", "check"]
    assert load_experiment([words[0][2]]).data.folder == tmp_path  # the very experiment of the form
    assert result.page == Path(words[0][-1]) / "check.html"


def test_data_without_faults_is_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, Process(tmp_path, 0), [])
    result = check(tmp_path).run()
    assert result is not None
    assert (result.summary, result.is_fit) == ("The check found nothing wrong.", True)


def test_a_check_that_cannot_be_done_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, Process(tmp_path, 2, "Error: The disk is full."))
    with pytest.raises(DataError, match=r"^The disk is full\.$"):
        check(tmp_path).run()
    started(monkeypatch, Process(tmp_path, -9))
    with pytest.raises(DataError, match="The check ended with exit code -9"):
        check(tmp_path).run()


def test_a_check_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(tmp_path, None)
    started(monkeypatch, process)
    work = check(tmp_path)
    threading.Timer(0.05, work.stop).start()
    assert work.run() is None
    assert process.ended == ["terminate"]
    assert not process.output.exists()
