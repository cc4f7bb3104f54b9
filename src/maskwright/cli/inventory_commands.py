"""``maskwright evaluate --inventory``: a list of measured trees against what a model finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table
from maskwright.errors import ConfigError

__all__ = ["show_inventory"]


def show_inventory(
    run: Path,
    raster: Path,
    inventory: Path,
    *,
    within_m: float,
    crs: str | None,
    species: Sequence[str],
    out: Path | None,
    overwrite: bool,
) -> int:
    """Compare, print the figures and the files."""
    from maskwright.devices import prepare_process
    from maskwright.metrics.canopy import band
    from maskwright.workflows.inventory import evaluate_inventory

    meant = dict(_meaning(text) for text in species)
    prepare_process()
    with progress_bar() as progress:
        result = evaluate_inventory(
            run,
            raster,
            inventory,
            within_m=within_m,
            crs=crs,
            species=meant,
            out=out,
            overwrite=overwrite,
            progress=progress,
        )
    scores = result.scores
    print_table(
        ("listed", "found", "detection rate", "precision", "F1", "mean distance", "species right"),
        [
            (
                str(scores.count.true),
                str(scores.count.called),
                _percent(scores.detection_rate),
                _percent(scores.precision),
                "-" if scores.f1 != scores.f1 else f"{scores.f1:.3f}",
                "-" if scores.error_mean_m != scores.error_mean_m else f"{scores.error_mean_m:.2f} m",
                _percent(scores.species_accuracy),
            )
        ],
    )
    shares = ", ".join(f"{_percent(share)} within {reach:g} m" for reach, share in scores.found_within.items())
    typer.echo(f"Listed trees found: {shares}. That is {band('detection_rate', scores.detection_rate)}.")
    for note in result.notes:
        typer.echo(f"Note: {note}", err=True)
    for path in result.files.values():
        typer.echo(str(path))
    return 0


def _meaning(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip() or not value.strip():
        raise ConfigError(f'--species {text}: write NAME=CLASS, for example "Theobroma cacao=cacao".')
    return name.strip(), value.strip()


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.1f}%"
