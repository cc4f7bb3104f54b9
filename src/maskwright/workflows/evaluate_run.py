"""Score the model of a run again: another part of the split, other heights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskwright.config import load_experiment
from maskwright.data.loaders import EvalLoader
from maskwright.data.splits import read_manifest
from maskwright.devices import settle_process
from maskwright.errors import ConfigError
from maskwright.files import write_json
from maskwright.tasks.build import task_from_dict
from maskwright.tracking.folder import RunFolder
from maskwright.workflows.assemble import assemble, require_gaps
from maskwright.workflows.evaluate import Evaluation, Progress, evaluate_part

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
        heights_m: Heights in metres; unset: those of the run.
        out: A JSON file for the numbers.
        progress: Called with (done, total, what).
        own_process: As for ``train``.

    Raises:
        ConfigError: If the part or the heights cannot be scored.
        RunError: If ``run`` is no run folder.
    """
    from maskwright.prediction import Predictor

    if part not in ("val", "test"):
        raise ConfigError(f"{part!r} is no part to score; choose test or val.")
    folder = RunFolder.open(Path(run))
    experiment = load_experiment([folder.config])
    settle_process(experiment.training.threads, own_process)
    parts = assemble(experiment, split=read_manifest(folder.splits))
    predictor = Predictor.load(folder.path, device=experiment.training.device)
    asked = predictor.card.heights(heights_m)
    require_gaps(asked, parts.source)
    # A network without condition gives all its heights in one pass, and nothing else.
    heights = predictor.card.task.heights_m if predictor.card.task.fixed else asked
    options = experiment.data.loader
    evaluation = evaluate_part(
        predictor.model,
        task_from_dict(parts.task.to_dict() | {"heights_m": list(heights)}),
        EvalLoader(parts.source, parts.split.tiles[part], heights, options.eval_batch_size or options.batch_size),
        parts.source,
        parts.split,
        part=part,
        heights_m=heights,
        metrics=experiment.metrics,
        progress=progress,
    )
    evaluation = evaluation.at_heights(asked)
    if out is not None:
        write_json(out, evaluation.to_dict())
    return evaluation
