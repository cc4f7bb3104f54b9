"""Score the model of a run again: another part of the split, other heights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from maskwright.checkpoints import load_description, load_weights
from maskwright.config import load_experiment
from maskwright.data.loaders import EvalLoader
from maskwright.data.splits import read_manifest
from maskwright.devices import choose_device, settle_process
from maskwright.errors import ConfigError
from maskwright.files import write_json
from maskwright.tasks.build import AnyTask, task_from_dict
from maskwright.tracking.folder import RunFolder
from maskwright.workflows.assemble import Parts, assemble, require_gaps
from maskwright.workflows.evaluate import Evaluation, Progress, evaluate_part
from maskwright.workflows.operating_point import OperatingPoint

__all__ = ["evaluate_run"]


def evaluate_run(
    run: str | Path,
    *,
    part: str = "test",
    heights_m: Sequence[float] | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    own_process: bool = False,
) -> Evaluation:
    """The numbers of a run's model on its own split.

    Args:
        run: The run folder.
        part: ``test`` or ``val``.
        heights_m: Heights in metres, for a model of gaps; unset: those of the run.
        out: A JSON file for the numbers.
        progress: Called with (done, total, what).
        own_process: As for ``train``.

    Raises:
        ConfigError: If the part or the heights cannot be scored.
        RunError: If ``run`` is no run folder.
    """
    if part not in ("val", "test"):
        raise ConfigError(f"{part!r} is no part to score; choose test or val.")
    folder = RunFolder.open(Path(run))
    experiment = load_experiment([folder.config])
    settle_process(experiment.training.threads, own_process)
    parts = assemble(experiment, split=read_manifest(folder.splits))
    description = load_description(folder.model)
    asked: tuple[float, ...] = ()
    heights: tuple[float, ...] = ()
    if parts.heights_m:
        from maskwright.prediction import ModelCard

        asked = ModelCard.load(folder.model).heights(heights_m)
        require_gaps(asked, parts.rasters)
        # A network without condition gives all its heights in one pass, and nothing else.
        heights = asked if experiment.model.conditioned else parts.heights_m
    elif heights_m is not None:
        raise ConfigError(f"--heights: the task of this run is {experiment.task.kind}, which is asked for no heights.")
    described = parts.task.to_dict()
    task = task_from_dict(described | {"heights_m": list(heights)}) if heights else task_from_dict(described)
    options = experiment.data.loader
    device = choose_device(experiment.training.device)
    evaluation = evaluate_part(
        _load_model(folder, parts, task).to(device),
        task,
        EvalLoader(parts.source, parts.split.tiles[part], heights, options.eval_batch_size or options.batch_size),
        parts.source,
        parts.split,
        part=part,
        heights_m=heights,
        metrics=experiment.metrics,
        point=OperatingPoint.of_model(description, task),
        progress=progress,
    )
    if heights:
        evaluation = evaluation.at_heights(asked)
    if out is not None:
        write_json(out, evaluation.to_dict())
    return evaluation


def _load_model(folder: RunFolder, parts: Parts, task: AnyTask) -> nn.Module:
    experiment = parts.experiment
    model = task.build_model(experiment.model.bare(), parts.source.in_channels, experiment.data.loader.batch_size)
    load_weights(folder.model, model)
    return model.eval()
