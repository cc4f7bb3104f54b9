"""TrainState: everything a run is at a moment, and everything a checkpoint must hold to continue it exactly."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from maskwright.checkpoints import bare_model, snapshot
from maskwright.errors import CheckpointError, TrainingError
from maskwright.training.averages import LossSums
from maskwright.training.ema import WeightAverage
from maskwright.training.fitting import lay_out_anew, require_same_plan, require_same_weights
from maskwright.training.monitor import Monitor
from maskwright.training.recovery import Recovery
from maskwright.training.rewinding import Statistics, random_state, set_random_state
from maskwright.training.together import Wish

if TYPE_CHECKING:
    from maskwright.distributed.shards import Shards
    from maskwright.tasks.interface import Meter
    from maskwright.training.callback import CallbackList
    from maskwright.training.together import Together
    from maskwright.training.updater import StepUpdater
    from maskwright.types import Batch

__all__ = ["Best", "Note", "TrainState"]

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
        average: The running average of the weights, which validates and predicts in their place; None: none is kept.
        recovery: What is done when numbers are not finite or memory is short.
        together: What the processes of a run do together; None for a run of one.

    Attributes:
        epoch: Epochs completed.
        position: Batches of the current epoch behind the last update.
        global_step: Updates done.
        images: Images trained on in this epoch by this process.
        images_per_step: Images of the last update, the effective batch.
        best: Best monitored score so far.
        scores: Losses and scores of the last completed epoch.
        meter: The counts behind the scores of the last validation; None before the first.
        validation_batches: Batches of the validation at hand or of the last one; 0 before the first.
        stop_reason: Why the run should end, once somebody asked.
        checkpoint_wanted: True once somebody asked for a checkpoint at the next update.
        checkpoint_agreed: True once all processes that divide the network know of it.
        restored: Times the state was restored because a number was not finite.
        micro_batch: Images that are computed at once since memory ran short; None: whole batches.
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
        average: WeightAverage | None = None,
        recovery: Recovery | None = None,
        together: Together | None = None,
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
        self.average = average
        self.recovery = recovery or Recovery()
        self.together = together
        self.epoch = 0
        self.position = 0
        self.global_step = 0
        self.images = 0
        self.images_per_step = 0
        self.best: Best | None = None
        self.scores: dict[str, float] = {}
        self.meter: Meter | None = None
        self.validation_batches = 0
        self.stop_reason: str | None = None
        self.checkpoint_wanted = False
        self.checkpoint_agreed = False
        self.restored = 0
        self.micro_batch: int | None = None
        self.callbacks: CallbackList | None = None
        self.random: dict[str, Tensor] | None = None
        self._callback_states: dict[str, Any] = {}
        self._notes: list[Note] = []
        self._stops_finished = False
        self._in_group = False
        self._averaged = False
        self._asked = Wish()
        self._good: dict[str, Any] | None = None
        self._statistics: Statistics | None = None

    # --- what callbacks may ask ---------------------------------------------------------------------------------------

    def request_stop(self, reason: str, *, finished: bool = False) -> None:
        """End the run after the current batch; the first reason stays.

        Of several processes any may ask; all end after the current update.

        Args:
            reason: For the log and the user.
            finished: True if the run has reached its goal early; False if it is to be resumed some time.
        """
        if self.together is not None:
            self._asked = replace(self._asked, stop=self._asked.stop or (reason, finished))
        elif self.stop_reason is None:
            self.stop_reason = reason
            self._stops_finished = finished

    def begin_anew(self) -> None:
        """Forget that the run was asked to stop."""
        self.stop_reason, self._asked = None, Wish()

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether this process was asked to end the run, whether or not the others know of it yet."""
        return self.stop_reason is not None or self._asked.stop is not None

    def must_stop(self) -> bool:
        """Whether the run ends here; several processes agree on it, and must ask at the same point."""
        if self.together is not None and self.stop_reason is None:
            self._agree(self.together)
        return self.stop_reason is not None

    def _agree(self, together: Together) -> None:
        is_wanted = self.shards is not None and self.checkpoint_wanted
        agreed = together.agreed(replace(self._asked, checkpoint=is_wanted))
        self._asked = Wish()
        if agreed.stop is not None:
            self.stop_reason, self._stops_finished = agreed.stop
        if agreed.lr is not None:
            self._scale_lr(agreed.lr / self.lrs[0])
            self.checkpoint_wanted = True  # a crash must not undo what the user asked for
        self.checkpoint_agreed = self.checkpoint_agreed or agreed.checkpoint

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do: all epochs are done, or a rule ended the run early."""
        return self.epoch >= self.epochs or (self.stop_reason is not None and self._stops_finished)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the first group now; other groups and the rest of the schedule scale with it.

        Of several processes any may ask; all have it from the next update on.

        Raises:
            TrainingError: If ``lr`` is not a positive number, or the present one is 0.
        """
        now = self.lrs[0]
        if not (math.isfinite(lr) and lr > 0):
            raise TrainingError(f"lr: {lr!r} is not a positive number. Give a learning rate such as 0.001.")
        if now == 0:
            raise TrainingError("The learning rate is 0 now and cannot be scaled. Wait for the schedule to move on.")
        if self.together is not None:
            self._asked = replace(self._asked, lr=lr)
        else:
            self._scale_lr(lr / now)

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
    def shards(self) -> Shards | None:
        """The network where processes divide it; None where this one has it whole."""
        return None if self.together is None else self.together.shards

    @property
    def at_boundary(self) -> bool:
        """Whether the run stands between two updates with its own weights, so that its state can be saved."""
        return not self._in_group and not self._averaged

    # --- what predicts ------------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """The weights to predict with, by name: the running average where there is one, else those of the network."""
        return bare_model(self.model).state_dict() if self.average is None else self.average.weights()

    @contextlib.contextmanager
    def predicting(self) -> Iterator[None]:
        """Inside, the network has the weights to predict with; afterwards those that are trained, bit for bit."""
        if self.average is None or self._averaged:
            yield
            return
        with self.average.applied():
            self._averaged = True
            try:
                yield
            finally:
                self._averaged = False

    # --- the loop's own steps -----------------------------------------------------------------------------------------

    @property
    def network(self) -> Callable[..., Any]:
        """What computes the pass at hand of the training: the network, with what exchanges its gradients around it."""
        return self.model if self.together is None else self.together.network

    @contextlib.contextmanager
    def passing(self, *, last: bool) -> Iterator[None]:
        """Around a pass of the training; ``last``: no other one of this update follows."""
        with contextlib.nullcontext() if self.together is None else self.together.passing(last=last):
            yield

    def weights_of_all(self, weights: dict[str, Tensor], group: Sequence[Batch]) -> dict[str, Tensor]:
        """What the terms of an update are divided by, of all processes."""
        return weights if self.together is None else self.together.add_weights(weights, group)

    def images_of(self, group: Sequence[Batch]) -> int:
        """Images of the update at hand, of all processes."""
        return sum(len(batch) for batch in group) if self.together is None else self.together.images

    def meet(self) -> None:
        """After the passes of an update: gradients, loss and sums become those of all processes.

        Raises:
            ShortElsewhereError: If memory was short in another process.
        """
        if self.together is not None:
            self.together.meet(self.updater, self.sums)

    def begin_group(self, weights: Mapping[str, Tensor]) -> None:
        """Enter an accumulation group: training continues its own stream of random numbers.

        Whatever loaders, callbacks and validation drew in between does not move it, so a resumed run draws the same.
        """
        if self.random is None:
            self.random = random_state(self.device)
        else:
            set_random_state(self.random, self.device)
        if self.together is not None:
            torch.manual_seed(self.together.seed_for(self.epoch, self.position))
        if self._statistics is None:
            self._statistics = Statistics(self.model)
        self._statistics.keep()
        self.sums.begin_group(weights)
        self._in_group = True

    def end_group(self, batches: int, images: int, *, stepped: bool) -> None:
        """Leave an accumulation group of so many batches and images; one without an update leaves no other trace."""
        if stepped:
            self.global_step += 1
            self.schedule.step()
            self.sums.end_group()
            if self.average is not None:
                self.average.update()
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
            assert self._statistics is not None  # they are kept when a group begins
            self._statistics.restore()
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
            **self._progress(),
            "best": None if self.best is None else {"score": self.best.score, "epoch": self.best.epoch},
            "scores": dict(self.scores),
            "callbacks": self._callback_states if self.callbacks is None else self.callbacks.state_dict(),
            "plan": self._plan(),
            "restored": self.restored,
            "micro_batch": self.micro_batch,
            # At the beginning of an epoch it is the state itself.
            "good": self._good if self.position > 0 else None,
        }

    def _progress(self) -> dict[str, Any]:
        """What every update moves."""
        return {
            "model": bare_model(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "updater": self.updater.state_dict(),
            "epoch": self.epoch,
            "position": self.position,
            "global_step": self.global_step,
            "sums": self.sums.state_dict(),
            "random": random_state(self.device) if self.random is None else self.random,
            **({} if self.loss_module is None else {"loss": self.loss_module.state_dict()}),
            **({} if self.average is None else {"ema": self.average.state_dict()}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            CheckpointError: If the run was planned otherwise, or the network is another one.
        """
        require_same_plan(state["plan"], self._plan(), epochs_done=state["epoch"])
        require_same_weights(state["model"], bare_model(self.model).state_dict())
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
        self._load_moved(state)
        if state["plan"]["epochs"] != self.epochs:
            self.note("warning", message=lay_out_anew(self.schedule, state["plan"]["epochs"], self.epochs))
        self.best = None if state["best"] is None else Best(**state["best"])
        self.scores = dict(state["scores"])
        # Checkpoints of earlier versions know nothing of these.
        self.restored, self.micro_batch = state.get("restored", 0), state.get("micro_batch")
        self._good = state.get("good")
        self._callback_states = state["callbacks"]
        if self.callbacks is not None:
            self.callbacks.load_state_dict(self._callback_states)
        if self.device.type == "cuda" and "cuda" not in state["random"]:
            self.note(
                "warning", message="The checkpoint comes from a run without GPU: random numbers differ from here on."
            )

    def _load_moved(self, state: Mapping[str, Any]) -> None:
        """What every update moves beside the weights and the optimizer."""
        self.schedule.load_state_dict(state["schedule"])
        self.updater.load_state_dict(state["updater"])
        self.epoch, self.position, self.global_step = state["epoch"], state["position"], state["global_step"]
        self.sums.load_state_dict(state["sums"])
        self.random = dict(state["random"])
        if self.average is not None and "ema" in state:
            self.average.load_state_dict(state["ema"])
        elif self.average is not None:
            self.average.restart()
            self.note("warning", message="The checkpoint holds no average of the weights: it begins with these.")
        elif "ema" in state:
            self.note("warning", message="The average of the weights in the checkpoint is left: training.ema is off.")

    # --- going back ---------------------------------------------------------------------------------------------------

    def remember(self) -> None:
        """At the beginning of an epoch: keep a copy of the state to go back to, where that may be asked for."""
        self._statistics = None  # modules may have come or gone since the last epoch
        if self.recovery.on_nonfinite == "restore" and (self.position == 0 or self._good is None):
            self._good = snapshot(self._progress())

    def go_back(self) -> None:
        """Restore the state of the beginning of the epoch, with the learning rate times ``restore_lr_factor``.

        The copy to go back to is lowered as well, so a second time goes further down.

        Raises:
            TrainingError: If the run has done so as often as it may, or there is no such state.
        """
        if self._good is None or self.restored >= self.recovery.restore_times:
            raise TrainingError(
                f"The state was restored {self.restored} times, and again a number is not finite. Look for bad values "
                "in the data, or lower optim.optimizer.lr."
            )
        bare_model(self.model).load_state_dict(self._good["model"])
        self.optimizer.load_state_dict(self._good["optimizer"])
        if self.loss_module is not None:
            self.loss_module.load_state_dict(self._good["loss"])
        self._load_moved(self._good)
        self.images = 0
        self.restored += 1
        self._scale_lr(self.recovery.restore_lr_factor)
        self._good = snapshot(self._progress())

    def _scale_lr(self, factor: float) -> None:
        """Multiply the learning rate of every group, now and for the rest of the schedule."""
        for group in self.optimizer.param_groups:
            for name in ("lr", "initial_lr", "max_lr", "min_lr"):
                if name in group:
                    group[name] = group[name] * factor
        self.schedule.base_lrs = [base * factor for base in self.schedule.base_lrs]

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
