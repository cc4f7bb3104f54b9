"""Fixtures of every test. One thread per process: tests run side by side."""

from __future__ import annotations

import os
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402  the threads must be settled first

REPOSITORY = Path(__file__).resolve().parents[1]


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
