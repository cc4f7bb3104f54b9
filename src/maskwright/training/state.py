"""TrainState: everything a run is at a moment, and everything a checkpoint must hold to continue it exactly."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from maskwright.checkpoints import bare_model
from maskwright.errors import CheckpointError, TrainingError
from maskwright.training.averages import LossSums
from maskwright.training.monitor import Monitor

if TYPE_CHECKING:
    from maskwright.training.callback import CallbackList
    from maskwright.training.updater import StepUpdater

__all__ = ["Best", "Note", "TrainState", "random_state", "set_random_state"]

log = logging.getLogger("maskwright.training")


@dataclass(frozen=True, slots=True)
class Best:
    """The best score so far and the number of the epoch that reached it, from 1 as in the history."""

    score: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth a row in the event log: kind (``warning``, ``checkpoint``, ``lr`` ...) and its fields."""

    kind: str
    fields: dict[str, Any]


class TrainState:
    """A training run between two steps.

    Args:
        model: The network, on ``device``.
        optimizer: Its optimizer.
        schedule: Learning rate over optimizer steps.
        updater: Gradients to updates; its scaler and counters are saved with the run.
        sums: Running sums of the epoch's losses.
        device: Where batches are sent.
        epochs: Epochs the run is planned for.
        batches_per_epoch: Batches in an epoch.
        monitor: The score that decides what is best.
        loss_module: The part of the loss that is trained, on ``device``; None if nothing of it is.

    Attributes:
        epoch: Epochs completed.
        position: Batches of the current epoch behind the last update.
        global_step: Updates done.
        images: Images trained on in this epoch by this process.
        images_per_step: Images of the last update, the effective batch.
        best: Best monitored score so far.
        scores: Losses and scores of the last completed epoch.
        stop_reason: Why the run should end, once somebody asked.
        checkpoint_wanted: True once somebody asked for a checkpoint at the next update.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: LRScheduler,
        updater: StepUpdater,
        sums: LossSums,
        *,
        device: torch.device | str,
        epochs: int,
        batches_per_epoch: int,
        monitor: Monitor,
        loss_module: nn.Module | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.updater = updater
        self.sums = sums
        self.device = torch.device(device)
        self.epochs = epochs
        self.batches_per_epoch = batches_per_epoch
        self.monitor = monitor
        self.loss_module = loss_module
        self.epoch = 0
        self.position = 0
        self.global_step = 0
        self.images = 0
        self.images_per_step = 0
        self.best: Best | None = None
        self.scores: dict[str, float] = {}
        self.stop_reason: str | None = None
        self.checkpoint_wanted = False
        self.callbacks: CallbackList | None = None
        self.random: dict[str, Tensor] | None = None
        self._callback_states: dict[str, Any] = {}
        self._notes: list[Note] = []
        self._stops_finished = False
        self._in_group = False
        self._buffers: dict[torch.dtype, Tensor] = {}

    # --- what callbacks may ask ---------------------------------------------------------------------------------------

    def request_stop(self, reason: str, *, finished: bool = False) -> None:
        """End the run after the current batch; the first reason stays.

        Args:
            reason: For the log and the user.
            finished: True if the run has reached its goal early; False if it is to be resumed some time.
        """
        if self.stop_reason is None:
            self.stop_reason = reason
            self._stops_finished = finished

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do: all epochs are done, or a rule ended the run early."""
        return self.epoch >= self.epochs or (self.stop_reason is not None and self._stops_finished)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the first group now; other groups and the rest of the schedule scale with it.

        Raises:
            TrainingError: If ``lr`` is not a positive number, or the present one is 0.
        """
        now = self.lrs[0]
        if not (math.isfinite(lr) and lr > 0):
            raise TrainingError(f"lr: {lr!r} is not a positive number. Give a learning rate such as 0.001.")
        if now == 0:
            raise TrainingError("The learning rate is 0 now and cannot be scaled. Wait for the schedule to move on.")
        factor = lr / now
        for group in self.optimizer.param_groups:
            for name in ("lr", "initial_lr", "max_lr", "min_lr"):
                if name in group:
                    group[name] = group[name] * factor
        self.schedule.base_lrs = [base * factor for base in self.schedule.base_lrs]

    def note(self, kind: str, **fields: Any) -> None:
        """Tell all callbacks, now or once there are some; warnings go to Python's logging as well."""
        if kind == "warning":
            log.warning("%s", fields.get("message", fields))
        if self.callbacks is None:
            self._notes.append(Note(kind, fields))
        else:
            self.callbacks.on_note(self, Note(kind, fields))

    @property
    def lrs(self) -> list[float]:
        """Learning rate of each parameter group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    @property
    def at_boundary(self) -> bool:
        """Whether the run stands between two updates, so that its state can be saved."""
        return not self._in_group

    # --- the loop's own steps -----------------------------------------------------------------------------------------

    def begin_group(self, weights: Mapping[str, Tensor]) -> None:
        """Enter an accumulation group: training continues its own stream of random numbers.

        Whatever loaders, callbacks and validation drew in between does not move it, so a resumed run draws the same.
        """
        if self.random is None:
            self.random = random_state(self.device)
        else:
            set_random_state(self.random, self.device)
        self._buffers = _kept_buffers(self.model)
        self.sums.begin_group(weights)
        self._in_group = True

    def end_group(self, batches: int, images: int, *, stepped: bool) -> None:
        """Leave an accumulation group of so many batches and images; one without an update leaves no other trace."""
        if stepped:
            self.global_step += 1
            self.schedule.step()
            self.sums.end_group()
        else:
            self.return_to_boundary()
        self.position += batches
        self.images += images
        self.images_per_step = images
        self.random = random_state(self.device)
        self._in_group = False

    def return_to_boundary(self) -> bool:
        """Forget the batches since the last update. Returns False if the weights may be half updated."""
        if self._in_group and not self.updater.is_updating:
            self.updater.discard(self.optimizer)
            _restore_buffers(self.model, self._buffers)
            self.sums.drop_group()
            self._in_group = False
        return self.at_boundary

    def finish_epoch(self, scores: Mapping[str, float]) -> None:
        """Count the epoch as completed and note its score."""
        self.epoch += 1
        self.position = 0
        self.scores = dict(scores)
        self.sums.clear()
        score = self.scores.get(self.monitor.name)
        if score is not None and self.monitor.is_better(score, None if self.best is None else self.best.score):
            self.best = Best(float(score), self.epoch)

    # --- saving -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; complete enough to continue bit for bit.

        Raises:
            TrainingError: Between the batches of an accumulation group.
        """
        if not self.at_boundary:
            raise TrainingError("The run cannot be saved inside an accumulation group, only between two updates.")
        return {
            "model": bare_model(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "updater": self.updater.state_dict(),
            "epoch": self.epoch,
            "position": self.position,
            "global_step": self.global_step,
            "best": None if self.best is None else {"score": self.best.score, "epoch": self.best.epoch},
            "scores": dict(self.scores),
            "sums": self.sums.state_dict(),
            "random": random_state(self.device) if self.random is None else self.random,
            "callbacks": self._callback_states if self.callbacks is None else self.callbacks.state_dict(),
            "plan": self._plan(),
            **({} if self.loss_module is None else {"loss": self.loss_module.state_dict()}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            CheckpointError: If the run was planned otherwise, or the network is another one.
        """
        self._check_plan(state["plan"])
        try:
            bare_model(self.model).load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.loss_module is not None:
                self.loss_module.load_state_dict(state["loss"])
        except (KeyError, RuntimeError, ValueError) as cause:
            raise CheckpointError(
                f"The checkpoint does not fit this network: {str(cause).splitlines()[0]} "
                "Resume with the settings the run was started with."
            ) from cause
        self.schedule.load_state_dict(state["schedule"])
        self.updater.load_state_dict(state["updater"])
        self.epoch, self.position, self.global_step = state["epoch"], state["position"], state["global_step"]
        self.best = None if state["best"] is None else Best(**state["best"])
        self.scores = dict(state["scores"])
        self.sums.load_state_dict(state["sums"])
        self.random = dict(state["random"])
        self._callback_states = state["callbacks"]
        if self.callbacks is not None:
            self.callbacks.load_state_dict(self._callback_states)
        if self.device.type == "cuda" and "cuda" not in self.random:
            self.note(
                "warning", message="The checkpoint comes from a run without GPU: random numbers differ from here on."
            )

    def attach(self, callbacks: CallbackList) -> None:
        """Join the run with its watchers; they take up the state a loaded checkpoint holds for them."""
        if self.callbacks is callbacks:
            return
        self.callbacks = callbacks
        callbacks.load_state_dict(self._callback_states)
        notes, self._notes = self._notes, []
        for note in notes:
            callbacks.on_note(self, note)

    def _plan(self) -> dict[str, int]:
        return {
            "epochs": self.epochs,
            "batches_per_epoch": self.batches_per_epoch,
            "accumulate": self.updater.accumulate,
        }

    def _check_plan(self, plan: Mapping[str, int]) -> None:
        mine = self._plan()
        wrong = [f"{name} was {plan[name]} and is {mine[name]}" for name in mine if plan[name] != mine[name]]
        if wrong:
            raise CheckpointError(
                f"The checkpoint belongs to a run planned otherwise: {'; '.join(wrong)}. The schedule and the place in "
                "the epoch would be wrong. Resume with the settings the run was started with, or start a new run."
            )


def random_state(device: torch.device) -> dict[str, Tensor]:
    """States of torch's random generators that training on ``device`` draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """The inverse of :func:`random_state`; a state without GPU leaves the GPU's generator alone."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _kept_buffers(model: nn.Module) -> dict[torch.dtype, Tensor]:
    """Copies of all buffers, such as the statistics of normalisation layers; one copy per type, so it costs little."""
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for buffer in model.buffers():
        by_type.setdefault(buffer.dtype, []).append(buffer.detach().reshape(-1))
    return {dtype: torch.cat(buffers) for dtype, buffers in by_type.items()}


@torch.no_grad()
def _restore_buffers(model: nn.Module, kept: Mapping[torch.dtype, Tensor]) -> None:
    places = dict.fromkeys(kept, 0)
    for buffer in model.buffers():
        start, stop = places[buffer.dtype], places[buffer.dtype] + buffer.numel()
        buffer.copy_(kept[buffer.dtype][start:stop].view_as(buffer))
        places[buffer.dtype] = stop
