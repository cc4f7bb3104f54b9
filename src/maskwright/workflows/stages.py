"""Stages: one training after another, each from the best weights of the one before, on one split of the data.

The split is made once, for the largest tiles of all stages, and kept by each stage, so that ground held out in one is
held out in all. What all stages must share is checked before the first begins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.config import Experiment
from maskwright.config.stages import stage_experiment
from maskwright.errors import DataError
from maskwright.files import write_bytes
from maskwright.workflows.dry_run import dry_run
from maskwright.workflows.outer_run import How, InnerRun, OuterRun
from maskwright.workflows.train import TrainOutcome

if TYPE_CHECKING:
    from maskwright.data.splits import Split
    from maskwright.workflows.parent import Parent

__all__ = ["dry_run_stages", "resume_stages", "train_stages"]

_SHARED_SPLIT = "shared_split.geojson"


def train_stages(experiment: Experiment, how: How, parent: Parent | None = None) -> TrainOutcome:
    """Train the stages of an experiment in a new run folder that holds a run folder for each.

    The model, the page and the numbers of the last stage are those of the run.

    Args:
        experiment: The whole run.
        how: What each training is told.
        parent: The weights the first stage starts from; None: those of the settings.

    Raises:
        MaskwrightError: Whatever stands in the way; what all stages need is known before any folder is made.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _SHARED_SPLIT
        _share_split(experiment, file)
        _check_alike(_stages(experiment, file))
        split = file.read_bytes()
    with OuterRun.begun(experiment, how) as outer:
        write_bytes(outer.folder.path / _SHARED_SPLIT, split)
        return _run(outer, parent)


def resume_stages(path: Path, how: How, experiment: Experiment | None = None) -> TrainOutcome:
    """Continue a run of stages: stages that had finished stay as they are, the one at work continues exactly.

    Raises:
        RunError: If it is no run folder, has finished, or is still at work.
        ConfigError: If a setting differs that cannot change.
    """
    with OuterRun.opened(path, how, experiment) as outer:
        file = outer.folder.path / _SHARED_SPLIT
        if not file.is_file():  # killed before the first stage
            _share_split(outer.experiment, file)
        return _run(outer, None)


def dry_run_stages(experiment: Experiment, out: Path, *, own_process: bool = False) -> tuple[str, ...]:
    """The plan of every stage, in lines; see :func:`maskwright.workflows.dry_run.dry_run`."""
    lines = [f"{experiment.name}: {len(experiment.stages)} stages, each from the best weights of the one before"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _SHARED_SPLIT
        _share_split(experiment, file)
        stages = _stages(experiment, file)
        _check_alike(stages)
        for index, stage in enumerate(stages):
            name = experiment.stages[index].name
            plan = dry_run(stage, out / name, own_process=own_process)
            lines += ["", _introduction(experiment, index, stage), *plan.lines[1:-1]]
    return (*lines, "Nothing was trained.")


def _run(outer: OuterRun, parent: Parent | None) -> TrainOutcome:
    """All stages that are still to do; ``parent`` is that of the first, where it begins in this attempt."""
    from maskwright.workflows.parent import parent_of

    experiment, ended, lines = outer.experiment, list[InnerRun](), list[str]()
    for index, stage in enumerate(_stages(experiment, outer.folder.path / _SHARED_SPLIT)):
        where = _where(experiment, index)
        outer.how.say(_introduction(experiment, index, stage))
        inner = outer.train(
            f"stage_{index + 1}_{experiment.stages[index].name}",
            stage,
            where=where,
            parent=parent_of(ended[-1].folder.model) if ended else parent,
        )
        if not inner.finished:
            return outer.stopped(inner, where)
        ended.append(inner)
        lines.append(f"{where}: {inner.score_text}{_held_out(inner)}.")
        outer.how.say(lines[-1])
    return outer.finish(ended[-1], lines, extra={"stages": [_record(one) for one in ended]})


# --- settings of the stages -------------------------------------------------------------------------------------------


def _stages(experiment: Experiment, split: Path) -> list[Experiment]:
    """The whole run of each stage; all keep one split and one kind of norm."""
    from maskwright.models.build import settle_norm

    stages = [stage_experiment(experiment, index) for index in range(len(experiment.stages))]
    smallest = min(stage.data.loader.batch_size for stage in stages)
    model = settle_norm(experiment.model, smallest)  # norm: auto would give stages networks that do not fit together
    norm = {} if getattr(model, "norm", None) is None else {"norm": getattr(model, "norm", None)}
    return [_keeping(stage, split, stage.model.model_copy(update=norm)) for stage in stages]


def _keeping(stage: Experiment, split: Path, model: Any) -> Experiment:
    kept = stage.data.split.model_copy(update={"keep": split})
    return stage.model_copy(update={"data": stage.data.model_copy(update={"split": kept}), "model": model})


# --- what all stages share --------------------------------------------------------------------------------------------


def _share_split(experiment: Experiment, file: Path) -> None:
    """Divide the data for the largest tiles of all stages, so that every stage can keep the division."""
    from maskwright.data.splits import write_manifest
    from maskwright.workflows.assemble import assemble

    stages = [stage_experiment(experiment, index) for index in range(len(experiment.stages))]
    parts = assemble(max(stages, key=lambda stage: stage.data.tiles.size_px))
    write_manifest(parts.split, parts.source.scenes, file)


def _check_alike(stages: Sequence[Experiment]) -> None:
    """Refuse stages that would hold out other ground, or see other numbers for the same pixel.

    Raises:
        DataError: Saying which, and what to set.
    """
    from maskwright.workflows.assemble import assemble

    first = assemble(stages[0])
    held, normaliser = _held(first.split), _plain(first.source.normaliser)
    for index, stage in enumerate(stages[1:], 1):
        parts = assemble(stage)
        if _held(parts.split) != held:
            raise DataError(
                f"stages[{index}]: its tiles or image size would put other ground into training, validation and test "
                "than stages[0]. Name the sites or images of all three parts (data.split.by: lists), or use one size."
            )
        if _plain(parts.source.normaliser) != normaliser:
            raise DataError(
                f"stages[{index}]: data.normalise measures other numbers with its tiles or image size than with those "
                "of stages[0], so carried weights would mean something else. Set a kind that measures nothing: metres "
                "for heights, imagenet or unit for images."
            )


def _held(split: Split) -> set[tuple[object, ...]]:
    """Which ground belongs to which part; whole scenes whatever their size in pixels."""
    return {
        (region.scene, region.part, None if region.window == split.grids[region.scene].window else region.window)
        for region in split.regions
    }


def _plain(normaliser: Any) -> Any:
    return normaliser.to_dict()


# --- words ------------------------------------------------------------------------------------------------------------


def _where(experiment: Experiment, index: int) -> str:
    return f"Stage {index + 1} of {len(experiment.stages)}, {experiment.stages[index].name}"


def _introduction(experiment: Experiment, index: int, stage: Experiment) -> str:
    own = stage.model.initial_weights
    weights = "the best weights of the stage before" if index else "new weights" if own is None else str(own)
    return (
        f"{_where(experiment, index)}: tiles of {stage.data.tiles.size_px} px, batches of "
        f"{stage.data.loader.batch_size}, {stage.training.epochs} epochs, lr {stage.optim.optimizer.lr:g}, "
        f"from {weights}."
    )


def _held_out(inner: InnerRun) -> str:
    """The deciding score on the test part with its interval."""
    numbers = inner.numbers()
    mean, interval = numbers.get("mean"), numbers.get("mean_interval") or (None, None)
    if mean is None:
        return ""
    between = "" if None in interval else f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return f"; test {numbers['score']} {mean:.3f}{between}"


def _record(inner: InnerRun) -> dict[str, Any]:
    return {"folder": inner.folder.path.name, inner.monitor: inner.best_score, "best_epoch": inner.best_epoch}
