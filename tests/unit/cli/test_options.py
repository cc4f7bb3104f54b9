from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from maskwright.cli.options import Files, Set, given, setting
from maskwright.config import Override
from maskwright.errors import ConfigError


def test_a_flag_takes_its_help_from_the_setting_it_stands_for() -> None:
    assert setting("training.epochs", "--epochs").help == (
        "Passes over the training tiles (a whole number from 1 to 100000 epochs). Same as --set training.epochs=..."
    )
    assert setting("tracking.quiet", "--quiet").help == "No progress on the screen. Same as --set tracking.quiet=..."


def test_a_flag_and_set_reach_the_command() -> None:
    app = typer.Typer()

    @app.command()
    def run(
        files: Files,
        overrides: Set = None,
        epochs: Annotated[int | None, setting("training.epochs", "--epochs")] = None,
    ) -> None:
        typer.echo(f"{files} {overrides} {given({'training.epochs': ('--epochs', epochs)})}")

    runner = CliRunner()
    assert runner.invoke(app, ["a", "b", "--set", "x=1", "--set", "y=2", "--epochs", "3"]).stdout == (
        "['a', 'b'] ['x=1', 'y=2'] [Override(path='training.epochs', value=3, said='--epochs 3')]\n"
    )
    assert runner.invoke(app, ["a"]).stdout == "['a'] None []\n"


def test_a_flag_for_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown setting"):
        setting("training.epoch", "--epochs")


def test_only_flags_that_were_given_become_overrides() -> None:
    flags = {
        "training.epochs": ("--epochs", 0),
        "optim.optimizer.lr": ("--lr", None),
        "tracking.quiet": ("--quiet", True),
    }
    assert given(flags) == [
        Override("training.epochs", 0, "--epochs 0"),
        Override("tracking.quiet", True, "--quiet"),
    ]
