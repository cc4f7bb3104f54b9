"""``maskwright evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.launch_options import Devices, MaxRestarts, launch_this, must_launch
from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table
from maskwright.distributed import is_main, joined, require_single_process
from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from maskwright.workflows.evaluation import Evaluation

__all__ = ["evaluate", "print_evaluation"]


def evaluate(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)],
    part: Annotated[
        str | None,
        typer.Option("--part", help="Part of the split to score, test or val; unset: test.", show_default=False),
    ] = None,
    heights: Annotated[
        list[float] | None,
        typer.Option(
            "--heights",
            metavar="M [M ...]",
            help="Heights in metres, for a model of gaps; unset: those of the run.",
            show_default=False,
        ),
    ] = None,
    on: Annotated[
        Path | None,
        typer.Option(
            "--on",
            metavar="DATA",
            help="Score other data: a folder of the kind trained on, or a file with a section data.",
            show_default=False,
        ),
    ] = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="With --on, score files too that were seen in the training.")
    ] = False,
    inventory: Annotated[
        Path | None,
        typer.Option(
            "--inventory",
            metavar="FILE",
            help="With --on RASTER, hold the trees found there against this list: GeoJSON, JSON or CSV.",
            show_default=False,
        ),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            "--within", metavar="M", help="With --inventory, distance of a pair; unset: 2.", show_default=False
        ),
    ] = None,
    inventory_crs: Annotated[
        str | None,
        typer.Option("--inventory-crs", metavar="EPSG:N", help="CRS of the list, if not its own.", show_default=False),
    ] = None,
    species: Annotated[
        list[str] | None,
        typer.Option(
            "--species", metavar="NAME=CLASS", help="What a name in the list means; again for more.", show_default=False
        ),
    ] = None,
    suspects: Annotated[
        int | None,
        typer.Option(
            "--suspects",
            metavar="N",
            help="List the N labels of training and validation that the model contradicts most.",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            metavar="K",
            help="With --suspects, train K models, so that each label is judged by one that has not seen it.",
            show_default=False,
        ),
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(
            "--unlabelled",
            metavar="PATH",
            help="With --suspects, rasters or images without labels: where labels would teach most; again for more.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="File for the numbers, as JSON; with --on and --suspects a folder, unset: one inside the run.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --on and --suspects, replace earlier results.")
    ] = False,
    devices: Devices = 1,
    max_restarts: MaxRestarts = 0,
) -> int:
    """Score the model of a run beside naive baselines, on its own or other data; find doubtful labels."""
    if on is not None and suspects is not None:
        raise ConfigError("--on scores other data and --suspects looks at the labels of the run. Give one of them.")
    _refuse_alone(on is not None, "--on", {"--allow-seen": allow_seen, "--inventory": inventory})
    listed: dict[str, object] = {"--within": within, "--inventory-crs": inventory_crs, "--species": species}
    _refuse_alone(inventory is not None, "--inventory", listed)
    _refuse_alone(suspects is not None, "--suspects", {"--folds": folds, "--unlabelled": unlabelled})
    _refuse_alone(on is not None or suspects is not None, "--on or --suspects", {"--overwrite": overwrite})
    if part is not None and (on is not None or suspects is not None):
        raise ConfigError("--part names a part of the run's own split; leave it out with --on and --suspects.")
    if on is not None or suspects is not None:
        require_single_process("--on" if on is not None else "--suspects")
        if devices > 1:
            raise ConfigError(
                "--devices divides the numbers of the run's own data; leave it out with --on and --suspects."
            )
    if must_launch(devices):
        return launch_this(context, devices, max_restarts)
    if suspects is not None:
        from maskwright.cli.suspect_commands import show_suspects

        return show_suspects(
            run, suspects, heights=heights, folds=folds, unlabelled=unlabelled or (), out=out, overwrite=overwrite
        )
    if on is not None and inventory is not None:
        from maskwright.cli.inventory_commands import show_inventory

        return show_inventory(
            run,
            on,
            inventory,
            within_m=2.0 if within is None else within,
            crs=inventory_crs,
            species=species or (),
            out=out,
            overwrite=overwrite,
        )
    if on is not None:
        return _evaluate_on(run, on, heights, out, allow_seen=allow_seen, overwrite=overwrite)

    from maskwright.workflows.evaluate_run import evaluate_run

    with joined(), progress_bar(quiet=not is_main()) as progress:
        evaluation = evaluate_run(
            run, part=part or "test", heights_m=heights, out=out, progress=progress, own_process=True
        )
        if is_main():
            print_evaluation(evaluation)
    return 0


def print_evaluation(evaluation: Evaluation) -> None:
    """The table by height or class, the baselines and the verdict in plain words, on standard output."""
    from maskwright.workflows.report_tables import baseline_table, object_baseline_table, sample_table, score_table

    where = "ground" if evaluation.heights_m or evaluation.score == "rmse" else "images"
    typer.echo(
        f"\n{evaluation.part} {where}, {evaluation.tiles} tiles, {evaluation.valid_pixels / 1e6:.2f} million pixels:"
    )
    print_table(*score_table(evaluation))
    if evaluation.samples:
        typer.echo("\nWhole images, right or wrong:")
        print_table(*sample_table(evaluation))
    typer.echo(f"\n{'RMSE' if evaluation.score == 'rmse' else 'IoU'} beside answers that need no training:")
    print_table(*baseline_table(evaluation))
    if evaluation.objects:
        typer.echo("\nObjects found one by one, and by answers that need no training:")
        print_table(*object_baseline_table(evaluation))
    typer.echo("")
    for sentence in evaluation.sentences:
        typer.echo(sentence)
    typer.echo("")


def _evaluate_on(
    run: Path, data: Path, heights: list[float] | None, out: Path | None, *, allow_seen: bool, overwrite: bool
) -> int:
    from maskwright.workflows.evaluate_on import evaluate_on
    from maskwright.workflows.report_tables import site_table

    with progress_bar() as progress:
        result = evaluate_on(
            run,
            data,
            heights_m=heights,
            out=out,
            allow_seen=allow_seen,
            overwrite=overwrite,
            progress=progress,
            own_process=True,
        )
    print_evaluation(result.evaluation)
    if len(result.evaluation.sites) > 1:
        print_table(*site_table(result.evaluation))
        typer.echo("")
    for note in result.notes:
        typer.echo(f"Note: {note}", err=True)
    for path in (*result.files.values(), result.folder / "errors"):
        typer.echo(str(path))
    return 0


def _refuse_alone(given: bool, needed: str, options: dict[str, object]) -> None:
    alone = [name for name, value in options.items() if value]
    if alone and not given:
        raise ConfigError(f"{', '.join(alone)} goes with {needed} alone.")
