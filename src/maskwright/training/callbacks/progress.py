"""ProgressCallback: what a person sees of a run; a live bar on a terminal, a live line in a notebook, else lines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from maskwright.training.callback import Callback
from maskwright.training.state import TrainState
from maskwright.training.updater import StepOutcome

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["ProgressCallback"]

log = logging.getLogger("maskwright.training")

_SMOOTHING = 0.9  # of the loss shown inside an epoch
_BAR_EVERY_S = 0.1
_LINE_EVERY_S = 0.5  # a notebook keeps what was written


class ProgressCallback(Callback):
    """Epoch, batch, loss, learning rate, validation score, images per second, time left.

    Args:
        stream: Where to write; unset: standard error. A terminal gets a live bar, a notebook a line that changes,
            anything else lines.
        quiet: True: say nothing.
        line_every_s: Seconds from one line to the next inside an epoch, where there is no bar.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False, line_every_s: float = 30.0) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.quiet = quiet
        self.line_every_s = line_every_s
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._loss: float | None = None
        self._images_per_s = 0.0
        self._began_s = self._epoch_began_s = self._line_s = time.monotonic()
        self._batches = 0
        self._is_notebook = not quiet and _is_notebook(self.stream)
        self._live_letters = 0  # of the line that changes
        self._due_s = 0.0

    def on_train_begin(self, state: TrainState) -> None:
        self._began_s = time.monotonic()
        self._batches = 0
        if not self.quiet and self.stream.isatty():
            self._bar, self._task = _open_bar(self.stream)

    def on_epoch_begin(self, state: TrainState) -> None:
        self._epoch_began_s = self._line_s = time.monotonic()
        self._loss = None
        self._due_s = 0.0
        self._show(state)

    def on_step_end(self, state: TrainState, outcome: StepOutcome) -> None:
        self._batches += state.updater.accumulate
        self._images_per_s = state.images / max(time.monotonic() - self._epoch_began_s, 1e-9)
        if outcome.stepped:
            self._loss = outcome.loss if self._loss is None else _smoothed(self._loss, outcome.loss)
        self._show(state)
        if self._bar is None and not self._is_notebook and time.monotonic() - self._line_s >= self.line_every_s:
            self._line_s = time.monotonic()
            self._say(self._inside(state))

    def on_validation_begin(self, state: TrainState) -> None:
        self._due_s = 0.0
        self._show(state, doing="validation")

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self._say(self._summary(state, scores))

    def on_train_end(self, state: TrainState) -> None:
        self._close()
        reason = state.stop_reason or f"all {state.epochs} epochs are done"
        best = (
            ""
            if state.best is None
            else f"; best {state.monitor.name} {state.best.score:.4f} in epoch {state.best.epoch}"
        )
        self._say(f"Training ended: {reason}{best}")

    def on_exception(self, state: TrainState, error: BaseException) -> None:
        self._close()

    # --- words --------------------------------------------------------------------------------------------------------

    def _summary(self, state: TrainState, scores: Mapping[str, float]) -> str:
        shown = dict.fromkeys(("train/loss", "val/loss", state.monitor.name))
        parts = [f"{name} {scores[name]:.4f}" for name in shown if name in scores]
        if state.best is not None:
            parts.append(f"best {state.best.score:.4f} (epoch {state.best.epoch})")
        return "  ".join([f"epoch {state.epoch}/{state.epochs}", *parts, *self._pace(state)])

    def _inside(self, state: TrainState) -> str:
        loss = [] if self._loss is None else [f"loss {self._loss:.4f}"]
        place = f"epoch {state.epoch + 1}/{state.epochs}  batch {state.position}/{state.batches_per_epoch}"
        return "  ".join([place, *loss, *self._pace(state)])

    def _pace(self, state: TrainState) -> list[str]:
        """Learning rate, images per second in this epoch, time left."""
        parts = [f"lr {state.lrs[0]:.2e}", f"{self._images_per_s:.1f} images/s"]
        left = (state.epochs - state.epoch) * state.batches_per_epoch - state.position
        if self._batches and left > 0:
            parts.append(f"{_clock((time.monotonic() - self._began_s) / self._batches * left)} left")
        return parts

    # --- screen -------------------------------------------------------------------------------------------------------

    def _show(self, state: TrainState, doing: str = "training") -> None:
        now_s = time.monotonic()
        if now_s < self._due_s:  # nobody reads faster, and words cost time
            return
        self._due_s = now_s + (_LINE_EVERY_S if self._is_notebook else _BAR_EVERY_S)
        if self._is_notebook:
            self._rewrite(self._inside(state) if doing == "training" else f"epoch {state.epoch + 1}: {doing}")
        if self._bar is None or self._task is None:
            return
        score = state.scores.get(state.monitor.name)
        parts = [] if self._loss is None else [f"loss {self._loss:.4f}"]
        parts += [] if score is None else [f"{state.monitor.name} {score:.4f}"]
        self._bar.update(
            self._task,
            completed=state.position,
            total=state.batches_per_epoch,
            description=f"epoch {state.epoch + 1}/{state.epochs} {doing}",
            facts="  ".join([*parts, *self._pace(state)]),
        )

    def _say(self, line: str) -> None:
        log.info("%s", line)
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, soft_wrap=True)
        elif self._is_notebook:
            self._rewrite(line)
            self.stream.write("\n")
            self._live_letters = 0
        else:
            self.stream.write(line + "\n")
            self.stream.flush()

    def _rewrite(self, line: str) -> None:
        """Put a line in the place of the one that changes."""
        self.stream.write("\r" + line.ljust(self._live_letters))
        self.stream.flush()
        self._live_letters = len(line)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None


def _is_notebook(stream: TextIO) -> bool:
    return type(stream).__module__.startswith("ipykernel")


def _open_bar(stream: TextIO) -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        console=Console(file=stream),
        transient=True,
    )
    task = bar.add_task("", facts="")
    bar.start()
    return bar, task


def _smoothed(before: float, value: float) -> float:
    return _SMOOTHING * before + (1 - _SMOOTHING) * value


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
