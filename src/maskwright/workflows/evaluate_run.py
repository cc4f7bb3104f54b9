"""Score the model of a run again: another part of the split, other heights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from maskwright.checkpoints import load_description, load_weights
from maskwright.config import load_experiment
from maskwright.data.loaders import EvalLoader
from maskwright.data.splits import Split, read_manifest
from maskwright.devices import available_devices, choose_device, settle_process
from maskwright.distributed import is_main, own_device
from maskwright.errors import ConfigError
from maskwright.files import write_json
from maskwright.tasks.build import task_from_dict
from maskwright.tracking.folder import RunFolder
from maskwright.types import Place
from maskwright.workflows.assemble import AnySource, Parts, require_gaps
from maskwright.workflows.assemble_together import assemble_together
from maskwright.workflows.evaluate import Evaluation, Progress, evaluate_part
from maskwright.workflows.operating_point import OperatingPoint
from maskwright.workflows.tally import Watch

__all__ = ["Scored", "evaluate_run", "open_scored"]


def evaluate_run(
    run: str | Path,
    *,
    part: str = "test",
    heights_m: Sequence[float] | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    own_process: bool = False,
) -> Evaluation:
    """The numbers of a run's model on its own split; several processes divide the work, and each has all numbers.

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
    settle_process(experiment.training.threads, own_process, experiment.training.keep_memory)
    parts = assemble_together(experiment, split=read_manifest(folder.splits))
    evaluation = open_scored(folder, parts, part, heights_m).evaluate(progress=progress)
    if out is not None and is_main():
        write_json(out, evaluation.to_dict())
    return evaluation


@dataclass(frozen=True)
class Scored:
    """The model of a run, ready to be scored on a part of some data.

    Attributes:
        model: The network on its device, in evaluation mode.
        parts: The data, its split, and the task at the heights the network answers.
        part: The part of the split.
        point: Where probabilities are cut.
        asked_m: Heights asked, metres; some of those the network answers.
    """

    model: nn.Module
    parts: Parts
    part: str
    point: OperatingPoint
    asked_m: tuple[float, ...]

    def loader(self, places: Sequence[Place] | None = None) -> EvalLoader:
        """Tiles, by default all of the part, each asking all heights."""
        options = self.parts.experiment.data.loader
        shown = self.parts.split.tiles[self.part] if places is None else places
        batch_size = options.eval_batch_size or options.batch_size
        return EvalLoader(self.parts.source, shown, self.parts.heights_m, batch_size, painter=self.parts.painter)

    def evaluate(
        self,
        *,
        tuned_on: tuple[AnySource, Split] | None = None,
        watch: Watch | None = None,
        progress: Progress | None = None,
    ) -> Evaluation:
        """The numbers; arguments as of ``evaluate_part``."""
        parts = self.parts
        evaluation = evaluate_part(
            self.model,
            parts.task,
            self.loader(),
            parts.source,
            parts.split,
            part=self.part,
            heights_m=parts.heights_m,
            metrics=parts.experiment.metrics,
            point=self.point,
            tuned_on=tuned_on,
            watch=watch,
            progress=progress,
        )
        return evaluation.at_heights(self.asked_m) if self.asked_m else evaluation


def open_scored(folder: RunFolder, parts: Parts, part: str, heights_m: Sequence[float] | None = None) -> Scored:
    """Load the model of a run for some data.

    Args:
        folder: The run.
        parts: The data it is to be scored on.
        part: The part of its split.
        heights_m: Heights in metres, for a model of gaps; unset: those of the run.

    Raises:
        ConfigError: If the heights cannot be scored.
    """
    experiment, description = parts.experiment, load_description(folder.model)
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
    model = task.build_model(experiment.model.bare(), parts.source.in_channels, experiment.data.loader.batch_size)
    load_weights(folder.model, model)
    point = OperatingPoint.of_model(description, task)
    device = choose_device(own_device(experiment.training.device, available_devices()))
    return Scored(model.eval().to(device), replace(parts, task=task), part, point, asked)
