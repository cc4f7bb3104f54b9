"""Fixtures of every test. One thread per process: tests run side by side."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402  the threads must be settled first

REPOSITORY = Path(__file__).resolve().parents[1]


def _why_no_window() -> str:
    """What keeps Qt from being loaded here; empty if nothing does."""
    missing = [name for name in ("PySide6", "pyqtgraph", "pytestqt") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (extra desktop, package pytest-qt)"
    try:
        for module in ("PySide6.QtWidgets", "PySide6.QtTest"):
            importlib.import_module(module)
    except ImportError as error:
        return f"Qt cannot be loaded: {error} (apt install libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1)"
    return ""


NO_WINDOW = _why_no_window()
# pytest-qt ends the whole run where Qt cannot be loaded; pyproject.toml keeps it from loading itself
pytest_plugins = [] if NO_WINDOW or "pytestqt.plugin" in sys.modules else ["pytestqt.plugin"]


class _Unseen(pytest.Module):
    """A module of tests that need Qt where there is none."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        pytest.skip(NO_WINDOW, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Tests of the desktop window are skipped, with the reason, where Qt cannot be loaded."""
    needs_qt = module_path.parent.name == "desktop" or module_path.match("integration/test_desktop_*")
    return _Unseen.from_parent(parent, path=module_path) if NO_WINDOW and needs_qt else None


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded rasters go to a folder of the test run, never to the user's cache."""
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many faults the tests in ``tests/faults`` tried, and how many were survived."""
    reports = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, [])]
    faults = [value for report in reports for name, value in report.user_properties if name == "fault"]
    if faults:
        terminalreporter.section("faults")
        for name in [*dict.fromkeys(what for what, *_ in faults), "all"]:
            tried, survived, seeds = zip(*[fault[1:] for fault in faults if name in (fault[0], "all")], strict=True)
            told = ", ".join(str(seed) for seed in seeds if seed is not None and name != "all")
            line = f"{name}: {sum(tried)} tried, {sum(survived)} survived"
            terminalreporter.write_line(f"{line} (seed {told})" if told else line)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, or a skip that says how to name it."""
    folder = Path(os.environ.get("MASKWRIGHT_DATA", REPOSITORY / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MASKWRIGHT_DATA to the folder that holds them")
    return folder
