"""``maskwright config``: settings resolved, checked and explained."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from maskwright.cli.options import Files, Set
from maskwright.cli.render import print_explanation, print_table
from maskwright.config import Experiment, dump_experiment, load_experiment
from maskwright.config import explain as explain_setting
from maskwright.config import presets as known_presets

__all__ = ["app", "explain", "presets", "schema", "show", "validate"]

app = typer.Typer(help="Look at settings: resolved, checked, explained.", no_args_is_help=True, add_completion=False)


@app.command()
def show(files: Files, overrides: Set = None) -> None:
    """Print the whole experiment that these files make, every setting said."""
    typer.echo(dump_experiment(load_experiment(files, overrides or ())), nl=False)


@app.command()
def validate(files: Files, overrides: Set = None) -> None:
    """Check files of settings; all faults are shown at once."""
    experiment = load_experiment(files, overrides or ())
    typer.echo(f'{", ".join(files)}: valid, experiment "{experiment.name}".')


@app.command()
def schema() -> None:
    """Print the JSON schema of an experiment, for editors that complete and check YAML."""
    typer.echo(json.dumps(Experiment.model_json_schema(), indent=2))


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="Path of a setting or section, or its last word.", show_default=False)],
) -> None:
    """Tell what a setting means: unit, range, default and neighbours."""
    print_explanation(explain_setting(name))


@app.command()
def presets() -> None:
    """List the presets that come with Maskwright."""
    print_table(("preset", "what it is for"), [(f"preset:{name}", text) for name, text in known_presets().items()])
