"""The table of figures that the benchmarks write: which goals count as reached, and where each figure comes from."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """The modules ``rows`` and ``table``, found as a script finds those beside it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("rows"), importlib.import_module("table")
    for name in ("rows", "table"):
        del sys.modules[name]


@pytest.mark.parametrize(
    ("reached", "at_most", "verdict"),
    [(2.5, False, "reached"), (1.91, False, "reached"), (1.0, False, "missed by 50%"), (3.0, True, "missed by 50%")],
)
def test_what_is_missed_by_less_than_a_twentieth_is_reached(
    scripts: tuple[Any, Any], reached: float, at_most: bool, verdict: str
) -> None:
    rows, table = scripts
    row = rows.Row("a step", reached, "x", "a plain loop", "Lightning 0.9", 2.0, at_most)
    sign = "<=" if at_most else ">="
    shown = f"{reached:g}"
    assert table.line(row) == f"| a step | a plain loop | Lightning 0.9 | **{shown} x** | {sign} 2 x | {verdict} |"


def test_a_kept_figure_stands_in_the_table_with_its_command(
    scripts: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, table = scripts
    for module in scripts:
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["losses.py", "--rounds", "3", "--json", "losses"])
    rows.keep_rows("losses", [rows.Row("three losses", 7.4, "x", "MONAI")])
    rows.keep_rows(None, [rows.Row("not asked to be kept", 1.0)])
    lines = list(table.table(table.kept()))
    assert "| three losses | MONAI |  | **7.4 x** |  |  |" in lines
    assert any(line.startswith("- `python benchmarks/losses.py --rounds 3` (") for line in lines)


def test_every_script_of_the_table_is_there_and_keeps_its_rows(scripts: tuple[Any, Any]) -> None:
    for script, *_ in scripts[1].SCRIPTS.values():
        assert "keep_rows(" in (BENCHMARKS / script).read_text(encoding="utf-8"), script
