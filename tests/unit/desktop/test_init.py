from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import maskwright.desktop
from maskwright.errors import ConfigError


def test_everything_listed_is_there() -> None:
    for name in maskwright.desktop.__all__:
        assert getattr(maskwright.desktop, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Window'"):
        maskwright.desktop.Window  # noqa: B018


def test_the_package_alone_brings_no_qt() -> None:
    command = "import sys; import maskwright.desktop; print('PySide6' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("package", ["PySide6", "pyqtgraph"])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{package}'", name=f"{package}.QtCore")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=rf"needs {package}\. Install: pip install 'maskwright\[desktop\]'"):
        maskwright.desktop.TrainConfigDialog  # noqa: B018


def test_a_defect_is_not_taken_for_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'maskwright.nothing'", name="maskwright.nothing")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        maskwright.desktop.TrainConfigDialog  # noqa: B018
