"""``maskwright desktop``: the window."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from maskwright.errors import ConfigError

__all__ = ["desktop"]

_NEEDED = ("PySide6", "pyqtgraph")


def desktop(
    experiment: Annotated[
        Path | None,
        typer.Argument(
            metavar="[EXPERIMENT]",
            help="An experiment file to open in the training dialog.",
            show_default=False,
        ),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder that holds run folders.")] = Path(
        "outputs"
    ),
) -> int:
    """Train and predict in a window, without writing a line."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"The desktop window needs {' and '.join(missing)}. Install: pip install 'maskwright[desktop]'"
        )
    if experiment is not None and not experiment.is_file():
        raise ConfigError(f"{experiment}: no such file. Name an experiment file, or leave it out.")
    if runs.exists() and not runs.is_dir():
        raise ConfigError(f"{runs} is a file. Name the folder that holds the runs, for example outputs.")
    application = importlib.import_module("maskwright.desktop.app")  # by name: faces do not know each other
    return int(application.main(experiment, runs))
