from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from maskwright.cli import json_lines
from maskwright.cli.json_lines import JsonLines
from maskwright.prediction import RasterResult


def _said(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_progress_comes_seldom_and_its_last_step_always(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.05, 0.11, 0.12, 0.13])
    monkeypatch.setattr(json_lines.time, "monotonic", lambda: next(now))
    stream = io.StringIO()
    lines = JsonLines(stream)
    for done in (0, 1, 2, 4):
        lines.progress(done, 4, "windows")
    lines.progress(0, 1, "polygons")
    assert [(row["done"], row["what"]) for row in _said(stream)] == [
        (0, "windows"),
        (2, "windows"),
        (4, "windows"),
        (0, "polygons"),
    ]


def test_a_result_is_told_with_its_files_and_numbers() -> None:
    stream = io.StringIO()
    result = RasterResult(
        Path("a.png"),
        {"mask": Path("out/a_mask.png")},
        (),
        (),
        (),
        6,
        0.5,
        ("a.png: small",),
        (2, 3),
        ({"class": "é"},),
    )
    lines = JsonLines(stream)
    lines.result(result)
    lines.end(inputs=1, failed=0)
    lines.failed("No such raster: b.png.")
    told, end, failed = _said(stream)
    assert told == {
        "kind": "result",
        "input": "a.png",
        "files": {"mask": str(Path("out/a_mask.png"))},
        "error": "",
        "notes": ["a.png: small"],
        "seconds": 0.5,
        "size": [2, 3],
        "heights_m": [],
        "per_height": [],
        "per_class": [{"class": "é"}],
    }
    assert end == {"kind": "end", "inputs": 1, "failed": 0}
    assert failed == {"kind": "failed", "message": "No such raster: b.png."}
