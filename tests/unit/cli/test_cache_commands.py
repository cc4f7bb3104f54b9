from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from maskwright.cli.cache_commands import app
from maskwright.data.cache import Cache, recipe_key
from maskwright.errors import DataError


def _fill(array: np.ndarray) -> None:
    array[...] = 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cache = Cache(tmp_path)
    for name, size, days in (("old", 10**6, 50), ("new", 2 * 10**6, 0)):
        key = recipe_key({"name": name})
        cache.array(key, (size,), np.uint8, _fill, note=f"site {name}")
        used = time.time() - days * 86400
        os.utime(tmp_path / f"{key}.json", (used, used))
    return tmp_path


def test_show_lists_sizes_last_use_and_what_it_is(folder: Path) -> None:
    text = CliRunner().invoke(app, ["show", "--folder", str(folder)]).output
    assert text.index("site new") < text.index("site old")
    assert "50 days ago" in text
    assert "2 entries, 0.003 GB" in text
    assert "... and 1 more" in CliRunner().invoke(app, ["show", "--folder", str(folder), "--rows", "1"]).output


@pytest.mark.parametrize(
    ("options", "freed", "left"),
    [(["--older-than", "30"], "0.001", "0.002"), (["--to", "0.0025"], "0.001", "0.002"), (["--all"], "0.003", "0.000")],
)
def test_clean_removes_what_is_asked_for(folder: Path, options: list[str], freed: str, left: str) -> None:
    text = CliRunner().invoke(app, ["clean", "--folder", str(folder), *options]).output
    assert f"{freed} GB freed, {left} GB left" in text


def test_clean_without_saying_what_removes_nothing(folder: Path) -> None:
    result = CliRunner().invoke(app, ["clean", "--folder", str(folder)])
    assert isinstance(result.exception, DataError)
    assert "--older-than DAYS, --to GB, or --all" in str(result.exception)
    assert len(Cache(folder).entries()) == 2
