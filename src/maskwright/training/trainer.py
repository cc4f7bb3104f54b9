"""Trainer: the everyday object. Takes a task, a model and loaders, wires the parts of a run together, and runs it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from maskwright.checkpoints import CheckpointStore, DividedStore, Loaded, bare_model, load_state, save_state
from maskwright.config.callbacks import CallbacksConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.optim import OptimConfig
from maskwright.config.training import EmaConfig, TrainingConfig, UnfreezeConfig
from maskwright.devices import available_devices, choose_device, choose_precision, prepare_model
from maskwright.distributed import from_main, is_main, own_device, require_joined, world_size
from maskwright.errors import CheckpointError, ConfigError, TrainingError
from maskwright.models import as_predicting, enable_gradient_checkpointing
from maskwright.optim import build_optimizer, build_schedule
from maskwright.optim.schedules import constant
from maskwright.tasks.interface import Task
from maskwright.tracking import CheckpointRecord, History, RunFolder
from maskwright.tracking.environment import package_versions
from maskwright.training.averages import LossSums
from maskwright.training.callback import Callback, CallbackList
from maskwright.training.callbacks import BestWeights, Checkpointing, HistoryCallback, ProgressCallback
from maskwright.training.compiling import compile_model
from maskwright.training.determinism import deterministic
from maskwright.training.dividing import blank_copy, build_together, divided_state, filled_copy, require_divisible
from maskwright.training.ema import WeightAverage
from maskwright.training.interrupt import graceful_stop
from maskwright.training.loop import EvalBatches, TrainBatches, fit
from maskwright.training.recovery import Recovery
from maskwright.training.state import TrainState
from maskwright.training.together import divided, with_sync_batch_norm
from maskwright.training.updater import StepUpdater
from maskwright.training.validation import evaluation_mode, validate
from maskwright.training.watchers import (
    early_stopping,
    folder_watchers,
    prediction_watchers,
    run_monitor,
    score_watchers,
    step_watchers,
)
from maskwright.types import Batch, Prediction

__all__ = ["TrainResult", "Trainer"]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came of a run.

    Attributes:
        history: One entry per epoch: ``epoch`` from 1, ``train/loss``, ``val/iou``, ``lr/0``, ``elapsed_s`` ...
        best_score: Best value of the monitored score; None if it never had one.
        best_epoch: Number of that epoch, from 1 as in the history; None if there is none.
        stop_reason: Why the run ended before its last epoch; None if it did not.
        stopped: True if the run is unfinished and can be resumed; a run that stopped early by its own rule is finished.
        skipped_steps: Updates that were not taken because a number was not finite.
        restored: Times the state was restored for that.
    """

    history: tuple[dict[str, Any], ...]
    best_score: float | None
    best_epoch: int | None
    stop_reason: str | None
    stopped: bool
    skipped_steps: int = 0
    restored: int = 0


class Trainer:
    """Trains a model for a task.

    Args:
        task: What outputs mean: loss, scores, decoding.
        model: The network; moved to the device.
        train_loader: Batches as a function of epoch and position.
        val_loader: Batches that steer the run; None: the training loss does.
        training: Length, accumulation, clipping, precision, device.
        optim: Optimizer and schedule; the schedule counts optimizer steps.
        monitoring: The monitored score and early stopping.
        checkpoints: When the state is saved; needs ``run_folder``.
        run_folder: Where history, events and checkpoints go; None: nothing is written.
        callbacks: Further watchers, called after the built-in ones and before the checkpoint is saved.
        log_every_steps: Updates from one step row of the event log to the next.
        quiet: True: nothing on the screen.
        description: Plain values saved in each checkpoint beside the package versions: what rebuilds the model.
        test_loader: What :meth:`test` takes where it is given nothing.
        optimizer: One of your own instead of that of ``optim``; its schedule is then ``schedule``, or none.
        schedule: A schedule of that optimizer, stepped once after each update.

    Raises:
        ConfigError: If the monitor is never computed, or the device cannot do what is asked.
        TrainingError: If a loader is empty, or a launcher started several processes that have not joined.

    Of several processes that have joined (:func:`maskwright.distributed.joined`) each has a Trainer of the same parts;
    the first one writes, and callbacks of your own are called in all of them. ``divides`` says whether they divide the
    network (``training.strategy: fsdp``); what computes with it must then do so in all of them.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        train_loader: TrainBatches,
        val_loader: EvalBatches | None = None,
        *,
        training: TrainingConfig | None = None,
        optim: OptimConfig | None = None,
        monitoring: CallbacksConfig | None = None,
        checkpoints: CheckpointsConfig | None = None,
        run_folder: RunFolder | None = None,
        callbacks: Sequence[Callback] = (),
        log_every_steps: int = 10,
        quiet: bool = False,
        description: Mapping[str, Any] | None = None,
        test_loader: EvalBatches | None = None,
        optimizer: Optimizer | None = None,
        schedule: LRScheduler | None = None,
    ) -> None:
        require_joined()
        _require_batches(train_loader, val_loader)
        run_folder = run_folder if is_main() else None  # the others write nothing
        self.task = task
        self.train_loader = divided(train_loader)
        self.val_loader = val_loader
        self.test_loader = test_loader
        self.training = training or TrainingConfig()
        self.description = {"versions": package_versions()} | dict(description or {})
        monitoring = monitoring or CallbacksConfig()
        self.monitor = run_monitor(monitoring, task, has_validation=val_loader is not None)
        self.divides = world_size() > 1 and self.training.strategy == "fsdp"
        if self.divides:
            require_divisible(self.training, monitoring, optimizer, self.train_loader)
        self._blank = blank_copy(model) if self.divides else None
        self.state = self._build_state(model, optim or OptimConfig(), optimizer, schedule)
        self.updater = self.state.updater
        self.store = None if run_folder is None else self._build_store(run_folder, checkpoints or CheckpointsConfig())
        self._history = HistoryCallback(None if run_folder is None else History(run_folder.history))
        self._best_weights = BestWeights()
        self.callbacks = CallbackList(
            [
                *step_watchers(self.training if is_main() else _without_profile(self.training), run_folder),
                *early_stopping(monitoring),
                self._history,
                *folder_watchers(run_folder, log_every_steps),
                *(prediction_watchers(monitoring, task, val_loader, run_folder) if is_main() else ()),
                *callbacks,
                *score_watchers(self.state, task, has_validation=val_loader is not None),
                *self._saving(checkpoints or CheckpointsConfig()),
                ProgressCallback(quiet=quiet or not is_main()),
            ]
        )

    @property
    def model(self) -> nn.Module:
        """The network as it is now."""
        return self.state.model

    def train(self) -> TrainResult:
        """Train to the last epoch, or until somebody asks to stop, from wherever the run stands.

        The first SIGTERM or Ctrl-C stops after the current batch and saves, a second one ends the process at once.

        Raises:
            TrainingError: If loss or gradient are not finite, or a callback fails.
        """
        self.state.begin_anew()
        if self.state.random is None:  # a fresh run: dropout must not depend on what the process did before
            torch.manual_seed(self.training.seed)
        with graceful_stop(self.state), deterministic(self.training.deterministic):
            fit(
                self.state,
                self.task,
                self.train_loader,
                self.val_loader,
                self.updater,
                self.callbacks,
                epochs=self.training.epochs,
                validate_every=self.training.validate_every,
            )
        return self._result()

    def resume(self) -> CheckpointRecord | None:
        """Take up the newest good checkpoint of the run folder; :meth:`train` then continues from there.

        Returns:
            What the manifest says of it; None if the run has saved none yet and begins anew.

        Raises:
            CheckpointError: If there is no run folder, no checkpoint is whole, or the run was planned otherwise.
        """
        loaded = self._latest_share() if self.divides else from_main(self._latest)
        if loaded is None:
            self.state.note("warning", message="The run has no checkpoint yet and begins anew.")
            return None
        self.state.load_state_dict(loaded.state)
        for note in loaded.notes:
            self.state.note("warning", message=note)
        return loaded.record

    def _latest(self) -> Loaded | None:
        if self.store is None:
            raise CheckpointError("There is nothing to resume: this Trainer has no run folder. Give run_folder.")
        return self.store.load_latest() if self.store.records else None

    def _latest_share(self) -> Loaded | None:
        """As :meth:`_latest`, where each process reads its share."""
        shards = self.state.shards
        assert shards is not None
        loaded = DividedStore(self.store).load_latest(shards.room_for)
        return (
            None if loaded is None else loaded._replace(state=divided_state(loaded.state, shards, self.state.optimizer))
        )

    def test(self, loader: Iterable[Batch] | None = None) -> dict[str, float]:
        """Losses and scores on ``loader``, unset: on ``test_loader``, with keys ``test/loss``, ``test/iou`` ...

        Raises:
            TrainingError: If there is neither.
        """
        loader = self.test_loader if loader is None else loader
        if loader is None:
            raise TrainingError("There is nothing to test on: give test() a loader, or the Trainer a test_loader.")
        with self.state.predicting():
            scores = validate(
                self.model, self.task, loader, device=self.state.device, part="test", autocast=self.updater.autocast
            )
        assert scores is not None  # nothing ends it early
        return scores

    def predict(self, inputs: Tensor, heights_m: Sequence[float] = ()) -> Prediction:
        """Probabilities of normalised images.

        Args:
            inputs: (B, C, H, W) float32, normalised as in training.
            heights_m: The K heights in metres, ascending; of no meaning to tasks that are not asked for heights.

        Returns:
            Probabilities (B, K, H, W) on the device of the model.
        """
        inputs = inputs.to(self.state.device)
        condition = inputs.new_tensor(list(heights_m)).expand(len(inputs), -1) if heights_m else None
        with self.state.predicting(), evaluation_mode(self.model), torch.no_grad(), self.updater.autocast():
            return self.task.decode(self.model(inputs, condition), heights_m or None)

    def best_model(self) -> nn.Module:
        """A copy of the model with the weights of the best epoch, on the CPU, in evaluation mode, as it predicts.

        Raises:
            CheckpointError: If no epoch was completed.
        """
        loaded = self._best_on_disk()
        if loaded is not None:
            weights = loaded.state["ema"]["weights"] if "ema" in loaded.state else loaded.state["model"]
            for note in loaded.notes:
                self.state.note("warning", message=note)
        elif self._best_weights.weights is not None:
            weights = self._best_weights.weights
        else:
            raise CheckpointError(
                "There is no best model yet: no epoch was completed with a score. Call train() first."
            )
        return self._copy_with(weights)

    def last_model(self) -> nn.Module:
        """As :meth:`best_model`, with the weights as they are now; where they are divided, all processes must ask."""
        if not self.divides:
            return self._copy_with(self.state.weights())
        from maskwright.distributed.shards import whole

        return self._copy_with(whole(self.state.weights()))

    def blank_model(self) -> nn.Module:
        """As :meth:`best_model`, with weights of no meaning: for those of another process."""
        return self._copy_with(None)

    def _copy_with(self, weights: Mapping[str, Tensor] | None) -> nn.Module:
        model = bare_model(copy.deepcopy(self.model)).cpu() if self._blank is None else filled_copy(self._blank)
        if weights is not None:
            model.load_state_dict(weights)
        return as_predicting(model).eval()

    def _best_on_disk(self) -> Loaded | None:
        """The best checkpoint; None if there is no run folder, or none on disk where this process still has its own."""
        if self.store is None:
            return None
        try:
            return self.store.load_best()
        except CheckpointError as error:
            if self._best_weights.weights is None:
                raise
            self.state.note("warning", message=f"The best weights are taken from memory: {error}")
            return None

    def save_checkpoint(self, path: str | Path) -> None:
        """Write the whole state of the run to ``path``, durably.

        Raises:
            CheckpointError: If the disk refuses, or each process holds a share of the state only.
        """
        if self.divides:
            raise CheckpointError(
                "The state is divided among the processes (training.strategy: fsdp) and is saved in a run folder only. "
                "Give run_folder."
            )
        save_state(Path(path), self.state.state_dict() | {"description": self.description})

    def load_checkpoint(self, path: str | Path) -> None:
        """Take up the state written by :meth:`save_checkpoint` or found in a run folder.

        Raises:
            CheckpointError: If the file is damaged, or belongs to another network or a run planned otherwise.
        """
        state, shards = load_state(Path(path)), self.state.shards
        self.state.load_state_dict(state if shards is None else divided_state(state, shards, self.state.optimizer))

    # --- parts --------------------------------------------------------------------------------------------------------

    def _build_state(
        self,
        model: nn.Module,
        optim: OptimConfig,
        optimizer: Optimizer | None,
        schedule: LRScheduler | None,
    ) -> TrainState:
        settings = self.training
        device = choose_device(own_device(settings.device, available_devices()))
        if not self.divides:  # else it may not fit there
            model = prepare_model(model, device, channels_last=settings.channels_last)
        if settings.sync_batch_norm and world_size() > 1:
            model = with_sync_batch_norm(model, device, settings, self.train_loader)
        if settings.gradient_checkpointing:
            enable_gradient_checkpointing(bare_model(model))
        if settings.compile != "off":
            compile_model(model, settings.compile)
        loss_module = self.task.loss_module
        if loss_module is not None:
            loss_module.to(device)
        # Before the optimizer, which is to hold the shares where the network is divided.
        together = None if world_size() == 1 else build_together(model, loss_module, settings, device)
        # Together, so that a parameter of the loss is in one group too: the one without weight decay.
        trained = model if loss_module is None else nn.ModuleList([model, loss_module])
        batches = len(self.train_loader)
        if optimizer is None:
            optimizer = build_optimizer(optim, trained, groups=_rates(settings.unfreeze, optim.optimizer.lr))
            schedule = build_schedule(optim, optimizer, math.ceil(batches / settings.accumulate), settings.epochs)
        elif loss_module is not None:
            raise ConfigError(
                "The loss of this task is trained too: leave optimizer out, so that it gets a place in it."
            )
        updater = StepUpdater(
            trained.parameters(),
            precision=choose_precision(settings.precision, device),
            accumulate=settings.accumulate,
            clip_norm=settings.clip_norm,
            clip_value=settings.clip_value,
            clip_adaptive=settings.clip_adaptive,
            device=device,
        )
        return TrainState(
            model,
            optimizer,
            constant(optimizer) if schedule is None else schedule,
            updater,
            LossSums(self.task.loss_terms),
            device=device,
            epochs=settings.epochs,
            batches_per_epoch=batches,
            monitor=self.monitor,
            loss_module=loss_module,
            average=_average(model, settings.ema),
            recovery=Recovery(
                settings.on_nonfinite, settings.restore_times, settings.restore_lr_factor, settings.out_of_memory
            ),
            together=together,
        )

    def _build_store(self, folder: RunFolder, settings: CheckpointsConfig) -> CheckpointStore:
        return CheckpointStore(
            folder,
            max_checkpoints=settings.max_checkpoints,
            monitor=self.monitor.name,
            mode=self.monitor.mode,
            strategy=settings.strategy,
            interval=settings.interval_epochs,
        )

    def _saving(self, settings: CheckpointsConfig) -> list[Callback]:
        in_memory = [self._best_weights] if is_main() and not self.divides else []
        store: CheckpointStore | DividedStore | None = self.store
        if self.divides and from_main(lambda: self.store is not None):
            store = DividedStore(self.store)
        if store is None:
            return [*in_memory]
        saving: Callback = Checkpointing(
            store,
            background=settings.background,
            every_epochs=settings.every_epochs,
            every_steps=settings.every_steps,
            every_minutes=settings.every_minutes,
            description=self.description,
        )
        return [*in_memory, saving]  # in memory too: a disk that was full must not cost the model

    def _result(self) -> TrainResult:
        best = self.state.best
        return TrainResult(
            history=tuple(self._history.entries),
            best_score=None if best is None else best.score,
            best_epoch=None if best is None else best.epoch,
            stop_reason=self.state.stop_reason,
            stopped=not self.state.is_finished,
            skipped_steps=self.updater.skipped,
            restored=self.state.restored,
        )


def _without_profile(settings: TrainingConfig) -> TrainingConfig:
    return settings.model_copy(update={"profile": False})


def _rates(settings: UnfreezeConfig, lr: float) -> dict[str, dict[str, float]] | None:
    """Parts that thaw one after another, each slower than the one before; None where all learn at once."""
    return {part: {"lr": lr * settings.fall**place} for place, part in enumerate(settings.parts)} or None


def _average(model: nn.Module, settings: EmaConfig) -> WeightAverage | None:
    return WeightAverage(model, settings.decay, settings.warmup_steps) if settings.enabled else None


def _require_batches(train_loader: TrainBatches, val_loader: EvalBatches | None) -> None:
    if len(train_loader) == 0:
        raise TrainingError(
            "There is nothing to train on: the training part holds no tile. Lower data.tiles.min_valid."
        )
    if val_loader is not None and len(val_loader) == 0:
        raise TrainingError(
            "The validation part holds no tile, so nothing can steer the run. Give it ground in data.split.shares."
        )
