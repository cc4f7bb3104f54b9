"""``maskwright export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder or model folder.", show_default=False)],
    format: Annotated[
        str, typer.Option("--format", metavar="onnx|torchscript|torch-export|folder", help="What to write.")
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File, or new folder, to write; unset: beside the model.", show_default=False),
    ] = None,
    heights: Annotated[
        list[float] | None,
        typer.Option(
            "--heights",
            metavar="M [M ...]",
            help="Heights in metres the file answers by default; unset: those of the model.",
            show_default=False,
        ),
    ] = None,
    with_normalisation: Annotated[
        bool,
        typer.Option(
            "--with-normalisation", help="Put the normalisation into the file: it takes raw values, NaN where none."
        ),
    ] = False,
    qgis: Annotated[
        bool,
        typer.Option("--qgis", help="An ONNX file that the QGIS plugin Deepness opens: 8-bit pixels, one tile size."),
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            help="Difference of a logit that passes, more for logits above 1; unset: 0.0001.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Write a trained model as ONNX, TorchScript, torch.export or a folder, checked against the network."""
    from maskwright.devices import prepare_process
    from maskwright.workflows.export import export as export_run

    prepare_process()
    exported = export_run(
        run,
        out,
        format=format,
        heights_m=heights,
        with_normalisation=with_normalisation,
        qgis=qgis,
        tolerance=tolerance,
        overwrite=overwrite,
    )
    for note in exported.notes:
        typer.echo(f"Note: {note}.", err=True)
    typer.echo(f"Checked {exported.parity.sentence()}.")
    typer.echo(str(exported.path))
