from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import maskwright.desktop
from maskwright.errors import ConfigError

LOST = "libEGL.so.1: cannot open shared object file: No such file or directory"


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


def test_a_missing_library_of_the_system_is_named_with_the_packages_that_bring_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ImportError(LOST)

    monkeypatch.setattr(importlib, "import_module", missing)
    for ask in (lambda: maskwright.desktop.TrainConfigDialog, maskwright.desktop.main):
        with pytest.raises(
            ConfigError, match=r"needs libEGL\.so\.1, a library of the system.*apt install libegl1 libgl1"
        ):
            ask()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_computer_without_a_screen_is_told_of_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"no screen for the desktop window.*maskwright monitor"):
        maskwright.desktop.main()


def test_the_window_is_started_with_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[object, ...]] = []
    application = SimpleNamespace(main=lambda *given: seen.append(given) or 3)
    monkeypatch.setattr(importlib, "import_module", lambda name: application)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert maskwright.desktop.main(tmp_path / "a.yaml", tmp_path) == 3
    assert seen == [(tmp_path / "a.yaml", tmp_path)]


def test_a_defect_is_not_taken_for_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'maskwright.nothing'", name="maskwright.nothing")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        maskwright.desktop.TrainConfigDialog  # noqa: B018
