"""A bar on a terminal, silence elsewhere."""

from __future__ import annotations

import pytest

from maskwright.cli.progress import progress_bar


def test_in_a_log_file_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as step:
        for done in range(1, 4):
            step(done, 3, "scoring")
        step(1, 3, "scoring")  # the next file
        step(1, 2, "polygons")
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_each_kind_of_work_has_its_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar() as step:
        step(1, 2, "scoring")
        step(2, 2, "polygons")
    told = capsys.readouterr().err
    assert "scoring" in told
    assert "polygons" in told
    assert "1/2" in told
    with progress_bar(quiet=True) as step:
        step(1, 2, "silence")
    assert "silence" not in capsys.readouterr().err
