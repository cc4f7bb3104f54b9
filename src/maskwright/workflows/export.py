"""Write the model of a run in another format: the command ``maskwright export`` without its screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from maskwright.errors import MaskwrightError

if TYPE_CHECKING:
    from maskwright.prediction.export import Exported
    from maskwright.prediction.export_parity import Tiles

__all__ = ["export"]

_TILES = 3
_PARTS = ("val", "test", "train")  # in this order: what the weights were not fitted to comes first


def export(
    run: str | Path,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    heights_m: Sequence[float] | None = None,
    with_normalisation: bool = False,
    qgis: bool = False,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a trained model as ONNX, TorchScript, torch.export or a folder, checked against the network itself.

    The check asks with tiles of the run's data, or with invented ones where the data is not at hand; a note says so.

    Args:
        run: A run folder or a model folder.
        out: The file, or for ``folder`` a folder that is not there yet; unset: beside the model.
        format: ``onnx``, ``torchscript``, ``torch-export`` or ``folder``.
        heights_m: Heights in metres the file answers by default; unset: those of the model.
        with_normalisation: Put the normalisation into the file, which is then given raw values.
        qgis: Make an ONNX file that the QGIS plugin Deepness opens as it is.
        tolerance: Difference of a logit that passes, of logits larger than 1 as many times more; unset: 0.0001.
        overwrite: Replace a file that exists.

    Raises:
        PredictionError: If the model cannot be written this way, or what was written answers differently.
        CheckpointError: If the model folder is damaged.
    """
    from maskwright.prediction.export import TOLERANCE, export_model, settle_target

    settle_target(run, out, format=format, qgis=qgis, overwrite=overwrite)  # before the data is opened
    tiles, note = _tiles_of(Path(run))
    exported = export_model(
        run,
        out,
        format=format,
        heights_m=heights_m,
        with_normalisation=with_normalisation,
        qgis=qgis,
        tolerance=TOLERANCE if tolerance is None else tolerance,
        tiles=tiles,
        overwrite=overwrite,
    )
    return replace(exported, notes=(*note, *exported.notes))


def _tiles_of(run: Path) -> tuple[Tiles | None, tuple[str, ...]]:
    """Some tiles of the data of a run, normalised as its model says; or why there are none."""
    from maskwright.config import load_experiment
    from maskwright.data.build import build_source
    from maskwright.data.loaders import EvalLoader
    from maskwright.data.splits import read_manifest
    from maskwright.prediction.export_parity import Tiles
    from maskwright.prediction.model_card import ModelCard
    from maskwright.tracking.folder import RunFolder
    from maskwright.workflows.assemble import FORMS

    if not (run / "config.yaml").is_file():
        return None, ("a model folder does not name its data, so the check asks with invented tiles",)
    try:
        folder = RunFolder.open(run)
        experiment = load_experiment([folder.config])
        source = build_source(experiment.data, FORMS[experiment.task.kind])
        source.normaliser = ModelCard.load(folder.model).normaliser
        split = read_manifest(folder.splits)
        places = next((split.tiles[part] for part in _PARTS if split.tiles.get(part)), ())[:_TILES]
        batch = next(iter(EvalLoader(source, places, (), _TILES)), None)
    except MaskwrightError as error:
        first = str(error).split("\n", 1)[0]
        return None, (f"the data of the run cannot be read, so the check asks with invented tiles: {first}",)
    return (None, ()) if batch is None else (Tiles(batch.image, batch.valid), ())
