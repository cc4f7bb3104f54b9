"""What starting up must not load: help and dashboards open without torch, and help without the settings."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("cv2", "matplotlib", "pyogrio", "rasterio", "scipy", "shapely", "torch", "torchvision")


def loaded_by(code: str) -> set[str]:
    """The top-level packages (and our own modules) in a fresh process after ``code``; what it printed is dropped."""
    script = f"""
import contextlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    {code}
print(json.dumps([name for name in sys.modules if "." not in name or name.startswith("maskwright.")]))
"""
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(outcome.stdout))


@pytest.mark.parametrize(
    "module",
    [
        "maskwright",
        "maskwright.config",
        "maskwright.devices",
        "maskwright.errors",
        "maskwright.types",
        "maskwright.tracking",
        "maskwright.files",
    ],
)
def test_light_packages_load_nothing_heavy(module: str) -> None:
    assert not loaded_by(f"import {module}") & set(HEAVY)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["config", "presets"], ["config", "show", "missing.yaml"]]
)
def test_light_commands_load_nothing_heavy(words: list[str]) -> None:
    assert not loaded_by(f"from maskwright.cli.main import main; main({words!r})") & set(HEAVY)


def test_help_loads_neither_settings_nor_workflows() -> None:
    loaded = loaded_by("from maskwright.cli.main import main; main(['--help'])")
    assert not {"pydantic", "yaml", "numpy"} & loaded
    assert {name for name in loaded if name.startswith("maskwright.")} <= {
        "maskwright.cli",
        "maskwright.cli.main",
        "maskwright.devices",
        "maskwright.errors",
    }


def test_training_starts_without_what_only_maps_need() -> None:
    loaded = loaded_by("import maskwright.training, maskwright.workflows.train")
    assert not loaded & {"maskwright.prediction", "matplotlib", "pandas", "pyogrio"}
