"""What the tests of this folder share: a tally for the end of the run, and small file systems that can be filled."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Tells the end of the test run how many faults were tried and survived; see ``tests/conftest.py``."""

    def tell(what: str, tried: int, survived: int | None = None, seed: int | None = None) -> None:
        record_property("fault", [what, tried, tried if survived is None else survived, seed])

    return tell


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts small file systems in memory: ``mounted(size_kib)``; a skip where this is not permitted."""
    made: list[Path] = []

    def mount(size_kib: int, **options: Any) -> Path:
        place = tmp_path / f"disk{len(made)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k,mode=0777", "tmpfs", str(place)]
        if shutil.which("mount") is None or os.geteuid() != 0:
            pytest.skip("only root may mount a small file system; the injected writer stands in for it")
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting is not permitted here; the injected writer stands in for it")
        made.append(place)
        return place

    yield mount
    for place in made:
        with contextlib.suppress(OSError):
            subprocess.run(["umount", "-l", str(place)], capture_output=True)
