"""A learning-rate range test of an experiment: the curve as a picture, and rates to set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskwright.config import Experiment
from maskwright.devices import choose_device, seed_everything, settle_process
from maskwright.errors import RunError
from maskwright.workflows.assemble import assemble
from maskwright.workflows.evaluate import Progress
from maskwright.workflows.train import build_trainer

if TYPE_CHECKING:
    from maskwright.training.lr_finder import LrFinding

__all__ = ["LrSearch", "lr_find"]


@dataclass(frozen=True)
class LrSearch:
    """What a range test came to.

    Attributes:
        finding: The curve and its readings.
        picture: The file with the curve; None if none was asked for.
        lines: The result in words.
    """

    finding: LrFinding
    picture: Path | None
    lines: tuple[str, ...]


def lr_find(
    experiment: Experiment,
    *,
    start_lr: float = 1e-7,
    end_lr: float = 1.0,
    steps: int = 100,
    out: Path | None = None,
    progress: Progress | None = None,
    own_process: bool = False,
) -> LrSearch:
    """Train a fresh network of the experiment for a few updates while the learning rate rises; nothing is kept.

    Args:
        experiment: The whole run.
        start_lr: First rate.
        end_lr: Last rate.
        steps: Updates.
        out: Where the curve goes, as PNG.
        progress: Called with (done, total, what).
        own_process: True if the process exists for this alone, so that its threads and memory may be settled.

    Raises:
        MaskwrightError: If the data cannot be used, or the loss falls at no rate.
    """
    from maskwright.training.lr_finder import find_lr

    parts = assemble(experiment)
    settle_process(experiment.training.threads, own_process, experiment.training.keep_memory)
    device = choose_device(experiment.training.device)
    seed_everything(experiment.training.seed)
    trainer, (train_loader, _) = build_trainer(parts, None, device)

    def after_step(done: int, lr: float, loss: float) -> None:
        if progress is not None:
            progress(done, steps, "range test")

    finding = find_lr(
        trainer.state,
        parts.task,
        train_loader,
        start_lr=start_lr,
        end_lr=end_lr,
        steps=steps,
        seed=experiment.training.seed,
        after_step=after_step,
    )
    if out is not None:
        _draw(finding, experiment.name, out)
    return LrSearch(finding, out, _lines(finding, experiment, out))


def _draw(finding: LrFinding, name: str, out: Path) -> None:
    from maskwright.pictures import line_chart

    marks = {"steepest": finding.steepest_lr, "lowest": finding.minimum_lr, "lowest / 10": finding.tenth_of_minimum_lr}
    picture = line_chart(
        finding.lrs,
        {"loss": finding.losses, "smoothed": finding.smoothed},
        x="learning rate",
        y="loss",
        title=f"Learning-rate range test of {name}",
        log_x=True,
        marks=marks,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        picture.save(out)
    except (OSError, ValueError) as cause:
        raise RunError(
            f"{out}: the picture cannot be written: {cause}. Choose another file, ending in .png."
        ) from cause


def _lines(finding: LrFinding, experiment: Experiment, out: Path | None) -> tuple[str, ...]:
    end = f"the loss rose beyond {finding.lrs[-1]:.1e}"
    if not finding.diverged:
        end = f"the loss had not yet risen at the highest rate, {finding.lrs[-1]:.1e}; a higher --end may show more"
    lines = [
        f"{len(finding.lrs)} updates from {finding.lrs[0]:.1e}: {end}.",
        f"Steepest fall at {finding.steepest_lr:.1e}; lowest loss at {finding.minimum_lr:.1e}, a tenth of which is "
        f"{finding.tenth_of_minimum_lr:.1e}.",
        f"Suggestion: --set optim.optimizer.lr={finding.suggestion:.1e} (now {experiment.optim.optimizer.lr:.1e}).",
    ]
    return (*lines, *([] if out is None else [f"Curve: {out}"]))
