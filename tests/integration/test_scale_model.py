"""The model of scale: its parts by hand, and its page beside what the script prints."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "scale_model.py"
PAGE = ROOT / "docs" / "explanation" / "scale.md"


@pytest.fixture(scope="module")
def model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale_model", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["scale_model"] = found  # dataclasses look for their module there
    spec.loader.exec_module(found)
    return found


def test_a_ring_sends_nearly_twice_the_bytes_however_many_add_them(model: ModuleType) -> None:
    assert model.ring_s(1e9, 1, 1.0, 10.0) == 0.0
    assert model.ring_s(1e9, 2, 1.0, 0.0) == pytest.approx(1.0)
    assert model.ring_s(1e9, 4, 1.0, 0.0) == pytest.approx(1.5)
    assert model.ring_s(0.0, 4, 1.0, 10.0) == pytest.approx(60e-6)


def test_one_gpu_alone_loses_nothing_and_more_of_them_never_gain(model: ModuleType) -> None:
    work = model.Work("net", parameters=10_000_000, multiply_adds=5_000_000_000, images=102_400)
    steps = [model.step_of(work, model.Machine(), count) for count in (1, 2, 8, 64)]
    assert steps[0].efficiency == pytest.approx(1.0)
    assert steps[0].compute_s == pytest.approx(2 * 3 * 16 * 5e9 / 40e12)  # an operation for each half of a multiply-add
    shares = [step.efficiency for step in steps]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.slow
def test_the_page_shows_what_the_script_prints() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    command = next(line for line in lines if line.startswith("python benchmarks/scale_model.py"))
    words = [sys.executable, str(SCRIPT), *command.split()[2:]]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    first = lines.index(printed[0])
    assert lines[first : first + len(printed)] == printed
