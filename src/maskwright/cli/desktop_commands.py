"""``maskwright desktop``: the window."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from maskwright.errors import ConfigError

__all__ = ["desktop"]


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
    if experiment is not None and not experiment.is_file():
        raise ConfigError(f"{experiment}: no such file. Name an experiment file, or leave it out.")
    if runs.exists() and not runs.is_dir():
        raise ConfigError(f"{runs} is a file. Name the folder that holds the runs, for example outputs.")
    face = importlib.import_module("maskwright.desktop")  # by name: faces do not know each other
    return int(face.main(experiment, runs))
