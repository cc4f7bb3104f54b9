"""TrainingManager: loss, steps, scores, checkpoints and history for people who keep their own loop.

::

    manager = quick_training_setup("out", "vessels")
    for epoch in range(manager.resume(model, optimizer), epochs):
        for batch in train_loader:
            step = manager.train_step(model, batch, optimizer, device)
        val = manager.validation_step(model, val_loader, device)
        manager.save_checkpoint(model, optimizer, scheduler, epoch, val)
        manager.end_epoch(epoch, step, val)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from maskwright.checkpoints import CheckpointManager, is_better
from maskwright.config.metric_names import canonical_metric
from maskwright.errors import ConfigError, RunError, TrainingError
from maskwright.files import write_json
from maskwright.losses import LoopLoss, LossManager, LossScheduler, get_preset_loss_config
from maskwright.tracking import EventLog, History, RunFolder
from maskwright.training.loop_scores import LoopScores, measure
from maskwright.training.manager_presets import checkpoint_settings
from maskwright.training.manager_summary import training_summary
from maskwright.training.rewinding import random_state, set_random_state
from maskwright.training.step_objects import Amp, TrainingOptimizer
from maskwright.training.validation import evaluation_mode

__all__ = ["TrainingManager"]

log = logging.getLogger("maskwright.training")


class TrainingManager:
    """Keeps the parts of a training together for a loop that is someone else's.

    ``model_dir`` becomes a run folder: history, events and checkpoints lie in it, and a manager made anew on it goes on
    with :meth:`resume`. An epoch is one entry of the history, written by :meth:`end_epoch`.

    Args:
        model_dir: The folder; made if missing.
        model_name: Name of the model and of the run.
        use_amp: Precision, see :func:`~maskwright.training.step_objects.choose_amp`.
        accumulate: Batches whose gradients are added before an update; each counts alike.
        clip_norm: Largest norm of the gradient; None: no limit.
        clip_value: Largest value of a gradient's entry; None: no limit.
        metadata: Plain values saved in every checkpoint, for example what rebuilds the model.

    Attributes:
        loss_function: The loss, see :meth:`setup_loss_function`; ``default_segmentation`` at first.
        loss_schedule: Moves the factors of the loss at the end of epochs; None: they stay.
        checkpoint_manager: See :meth:`setup_checkpointing`; ``standard`` at first.
        folder: The run folder.
        global_step: Updates done.

    Raises:
        RunError: If the disk refuses, or another living process trains in the folder.
        CheckpointError: If the folder holds the checkpoints of another model.
    """

    def __init__(
        self,
        model_dir: str | Path,
        model_name: str,
        *,
        use_amp: Amp = "auto",
        accumulate: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.model_name = model_name
        self.metadata = dict(metadata or {})
        self.folder = RunFolder.adopt(Path(model_dir), model_name)
        self.history = History(self.folder.history)
        self.events = EventLog(self.folder.events, attempt=int(self.folder.record.load().get("attempt", 1)))
        self.loss_schedule: LossScheduler | None = None
        self.loss_function: nn.Module = self.setup_loss_function("default_segmentation")
        self.checkpoint_manager = self.setup_checkpointing("standard")
        self.global_step = 0
        self._step_options: dict[str, Any] = {
            "use_amp": use_amp,
            "accumulate_grad_batches": accumulate,
            "gradient_clip_norm": clip_norm,
            "gradient_clip_value": clip_value,
        }
        self._steps: TrainingOptimizer | None = None
        self._steps_state: dict[str, Any] | None = None
        self._optimizer: Optimizer | None = None
        self._pending: dict[str, Any] | None = None
        self._seen: set[str] = set()
        self._began_s = time.monotonic()

    # --- setting up ---------------------------------------------------------------------------------------------------

    def setup_loss_function(self, config: Mapping[str, Any] | str | nn.Module) -> nn.Module:
        """Choose the loss.

        Args:
            config: The name of a preset; settings of ``LossManager.create_loss_function``, which may hold the
                ``scheduler`` that moves the factors; or a module from (logits, targets) to a scalar, or to a scalar and
                its parts.

        Raises:
            ConfigError: If something is unknown or makes no sense.
        """
        self._scores = LoopScores()
        if isinstance(config, nn.Module):
            self.loss_function, self.loss_schedule = config, None
            return config
        settings = get_preset_loss_config(config) if isinstance(config, str) else config
        loss = LossManager.create_loss_function(settings)
        schedule = settings.get("scheduler")
        self.loss_schedule = LossManager.create_loss_scheduler(loss, schedule) if schedule else None
        self.loss_function = loss
        return loss

    def setup_checkpointing(self, config: Mapping[str, Any] | str) -> CheckpointManager:
        """Choose what is saved and kept.

        Args:
            config: The name of a preset (``standard``, ``frequent``, ``adaptive``, ``performance``, ``time_based``), or
                settings: ``save_strategy`` (or ``manager_type: auto`` with ``auto_strategy``), ``max_checkpoints``,
                ``monitor_metric`` (val_dice), ``mode`` (max), ``save_interval``, ``save_optimizer``,
                ``save_scheduler``.

        Raises:
            ConfigError: If something is unknown or makes no sense.
            CheckpointError: If the folder holds the checkpoints of another model.
        """
        self.checkpoint_manager = CheckpointManager(
            self.folder.checkpoints, self.model_name, metadata=self.metadata, **checkpoint_settings(config)
        )
        return self.checkpoint_manager

    # --- inside an epoch ----------------------------------------------------------------------------------------------

    def train_step(
        self,
        model: nn.Module,
        batch: Sequence[Tensor],
        optimizer: Optimizer,
        device: torch.device | str | None = None,
        *,
        is_last: bool = False,
    ) -> dict[str, float]:
        """One batch: one forward pass, backward, and the update when its group is complete.

        Args:
            model: The network. In evaluation mode it is put to training mode, with a warning.
            batch: Inputs (B, C, H, W) and targets as the loss takes them, 255 where a pixel does not count.
            optimizer: Updated and zeroed.
            device: Where the batch is sent; None: where the model is.
            is_last: True for the last batch of an epoch: a shorter accumulation group is then complete. Otherwise it is
                completed by ``validation_step``, ``save_checkpoint`` or ``end_epoch``.

        Returns:
            ``loss``, ``<term>_loss`` for each term, ``dice`` and ``accuracy`` of this batch, and after an update
            ``grad_norm`` before clipping.

        Raises:
            TrainingError: If the loss or the gradient is not finite, or the batch is no pair.
        """
        device = _device_of(model) if device is None else torch.device(device)
        if self._scores.batches == 0:
            self._begin_epoch()
        if not model.training:
            log.warning("The model was in evaluation mode at a training step, and is put to training mode.")
            model.train()
        steps = self._steps_on(device, optimizer)
        with steps.forward_context():
            inputs, targets = _pair(batch, device)
            measured = measure(self.loss_function, model(inputs), targets)
        info = steps.backward_step(measured.output.total, optimizer, is_last=is_last)
        scores = self._scores.add(measured)
        if info.stepped:
            self.global_step += 1
        elif not info.finite:
            raise TrainingError(
                f"Loss or gradient is not finite in step {self.global_step + 1} "
                f"({', '.join(f'{name} {value:g}' for name, value in scores.items() if 'loss' in name)}, gradient norm "
                f"{info.grad_norm:g}); the weights are as they were. Lower the learning rate, set clip_norm, or look "
                "for bad values in the data."
            )
        return scores if info.grad_norm is None else {**scores, "grad_norm": info.grad_norm}

    def validation_step(
        self, model: nn.Module, loader: Iterable[Sequence[Tensor]], device: torch.device | str | None = None
    ) -> dict[str, float]:
        """Losses and scores over a whole loader, from sums and counts; each module is back in its former mode after.

        Returns:
            ``val_loss``, ``val_<term>_loss`` for each term, ``val_dice`` and ``val_accuracy``.

        Raises:
            TrainingError: If the loader gives no batch.
        """
        self._flush()
        device = _device_of(model) if device is None else torch.device(device)
        scores = LoopScores()
        steps = self._steps or TrainingOptimizer(**self._step_options, device=device)
        with evaluation_mode(model), torch.no_grad(), steps.forward_context():
            for batch in loader:
                inputs, targets = _pair(batch, device)
                scores.add(measure(self.loss_function, model(inputs), targets))
        if scores.batches == 0:
            raise TrainingError(
                "The validation loader gave no batch, so there is nothing to score. Check its data set, and drop_last "
                "where it holds less than a batch."
            )
        return {f"val_{name}": value for name, value in scores.scores().items()}

    # --- at its end ---------------------------------------------------------------------------------------------------

    def save_checkpoint(
        self,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        scheduler: LRScheduler | None = None,
        epoch: int = 0,
        metrics: Mapping[str, float] | None = None,
    ) -> Path | None:
        """Hand over the state after an epoch, before or after :meth:`end_epoch`; both are continued alike.

        Args:
            model: The network.
            optimizer: Its optimizer.
            scheduler: Its schedule, if any.
            epoch: The epoch that ended, from 0.
            metrics: Its scores: what ``validation_step`` gave, or your own such as ``val_iou``. What ``train_step``
                gave may be among them; the averages of the epoch take its place.

        Returns:
            The file, if the strategy keeps this epoch; None if the state is in ``checkpoint_latest.pt`` only.

        Raises:
            ConfigError: If epochs are scored, and the monitored score is never among the scores.
            CheckpointError: If something cannot be saved or the disk refuses.
        """
        self._flush()
        scores = self._epoch_scores(epoch, "val", metrics or {})
        self._require(self.checkpoint_manager.monitor, scores, "checkpointing.monitor_metric")
        if self._ended_epoch != epoch:
            self._pending = {"epoch": epoch, "scores": scores}
        extra = {"manager": self._state_dict(), "random": random_state(_device_of(model))}
        return self.checkpoint_manager.save_checkpoint(model, optimizer, scheduler, epoch, scores, extra=extra)

    def end_epoch(
        self,
        epoch: int,
        train_metrics: Mapping[str, float] | None = None,
        val_metrics: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Enter the epoch in the history, and step the loss schedule. A second call for an epoch replaces its entry.

        Args:
            epoch: The epoch that ended, from 0.
            train_metrics: What ``train_step`` gave last, or your own averages; what the manager counted over the whole
                epoch takes its place.
            val_metrics: What ``validation_step`` gave, or your own.

        Returns:
            The entry: ``epoch`` from 1, ``global_step``, ``train/loss``, ``val/dice`` ..., ``train/loss_weight/dice``
            (the factors the epoch was trained with), ``lr/0``, ``elapsed_s``; and ``is_best``.

        Raises:
            TrainingError: If nothing was trained in this epoch.
            ConfigError: If the score that a loss schedule follows is never among the scores.
        """
        self._flush()
        if not self._scores.batches and not train_metrics and not self._pending and self._ended_epoch != epoch:
            raise TrainingError(
                f"Nothing was trained in epoch {epoch + 1}: the train loader gave no batch. Check its data set, and "
                "drop_last where it holds less than a batch."
            )
        scores = self._epoch_scores(epoch, "train", train_metrics or {}, val_metrics or {})
        weights = self.loss_function.weights if isinstance(self.loss_function, LoopLoss) else {}
        entry: dict[str, Any] = {
            "epoch": epoch + 1,
            "global_step": self.global_step,
            **scores,
            **{f"train/loss_weight/{name}": weight for name, weight in weights.items()},
            **{f"lr/{index}": float(lr) for index, lr in enumerate(self._lrs)},
            "elapsed_s": round(time.monotonic() - self._began_s, 3),
        }
        if self._ended_epoch == epoch:
            entry = {**self.history.entries[-1], **scores}
        else:
            self._step_schedule(epoch, scores)
        self._write(entry)
        self._scores, self._pending = LoopScores(), None
        best = self.best_entry
        return {**entry, "is_best": best is not None and best["epoch"] == epoch + 1}

    def resume(self, model: nn.Module, optimizer: Optimizer | None = None, scheduler: LRScheduler | None = None) -> int:
        """Go on from the newest checkpoint of the folder: weights, optimizer, schedules, history, random numbers.

        Returns:
            Epochs done: the loop goes on with ``range(done, epochs)``. 0 if there is no checkpoint yet.

        Raises:
            CheckpointError: If the checkpoints are damaged, of another network, or were saved without what is asked.
        """
        if not self.checkpoint_manager.store.records:
            return 0
        info = self.checkpoint_manager.load_checkpoint(None, model, optimizer, scheduler)
        for note in info["notes"]:
            log.warning("%s", note)
        self._load_state_dict(info["extra"]["manager"], int(info["epoch"]))
        self._optimizer = optimizer
        if self._pending is not None:
            self.end_epoch(self._pending["epoch"])
        set_random_state(info["extra"]["random"], _device_of(model))
        return int(info["epoch"])

    # --- telling ------------------------------------------------------------------------------------------------------

    @property
    def best_entry(self) -> dict[str, Any] | None:
        """The entry of the history with the best monitored score, the first of equals; None if none was scored."""
        best: dict[str, Any] | None = None
        name, mode = self.checkpoint_manager.monitor, self.checkpoint_manager.store.mode
        for entry in self.history.entries:
            if is_better(entry.get(name), None if best is None else best[name], mode):
                best = entry
        return best

    def get_checkpoint_summary(self) -> dict[str, Any]:
        """See :meth:`CheckpointManager.get_checkpoint_summary`."""
        return self.checkpoint_manager.get_checkpoint_summary()

    def get_training_summary(self) -> dict[str, Any]:
        """What came of the training so far, plain values.

        ``model_info`` (``best_metric``, ``best_epoch``, ``monitor_metric`` ...), ``training_progress``
        (``total_epochs``, ``global_step`` ...), ``loss_info``, ``checkpoint_info``.
        """
        return training_summary(self)

    def export_training_data(self, path: str | Path | None = None) -> Path:
        """Write summary and history as JSON, and mark the run as finished.

        Args:
            path: The file; None: ``training_summary_{YYYYmmdd_HHMMSS}.json`` in the folder.

        Raises:
            RunError: If the disk refuses.
        """
        file = (
            self.folder.path / f"training_summary_{time.strftime('%Y%m%d_%H%M%S')}.json" if path is None else Path(path)
        )
        write_json(file, {**self.get_training_summary(), "training_history": list(self.history.entries)})
        self.folder.record.update(status="finished")
        return file

    # --- inside -------------------------------------------------------------------------------------------------------

    def _begin_epoch(self) -> None:
        self._began_s = time.monotonic()
        if self.folder.record.load().get("status") != "running":
            self.folder.record.update(status="running")

    def _steps_on(self, device: torch.device, optimizer: Optimizer) -> TrainingOptimizer:
        if self._steps is None or self._steps.updater.device != device:
            self._steps = TrainingOptimizer(**self._step_options, device=device)
            if self._steps_state is not None:
                self._steps.load_state_dict(self._steps_state)
        if self._optimizer is not optimizer:
            self._flush()
            self._optimizer = optimizer
        return self._steps

    def _flush(self) -> None:
        """Complete a shorter last group."""
        if self._steps is not None and self._steps.is_pending and self._optimizer is not None:
            self.global_step += self._steps.flush(self._optimizer).stepped

    @property
    def skipped_steps(self) -> int:
        """Updates that were not taken because a number was not finite."""
        return 0 if self._steps is None else self._steps.updater.skipped

    @property
    def _lrs(self) -> list[float]:
        return [] if self._optimizer is None else [group["lr"] for group in self._optimizer.param_groups]

    @property
    def _ended_epoch(self) -> int | None:
        """The last epoch in the history, from 0."""
        entries = self.history.entries
        return int(entries[-1]["epoch"]) - 1 if entries else None

    def _epoch_scores(self, epoch: int, first: str, *given: Mapping[str, float]) -> dict[str, float]:
        """Scores by their keys in the history; averages over the epoch win over values of its last batch.

        Args:
            epoch: From 0.
            first: What names without a part in the first of ``given`` belong to; in the others to ``val``.
            given: What the loop handed over.
        """
        counted = {self._key("train", name): value for name, value in self._scores.scores().items()}
        known = counted | self._known(epoch)
        told: dict[str, float] = {}
        for index, scores in enumerate(given):
            for name, value in scores.items():
                if name == "grad_norm":  # of the last batch only
                    continue
                is_step = self._key("train", name) in known  # handed on from train_step
                told[self._key("train" if is_step else first if index == 0 else "val", name)] = float(value)
        told = {key: value for key, value in told.items() if not (key.startswith("train/") and key in known)}
        return known | told

    def _known(self, epoch: int) -> dict[str, float]:
        """The scores of an epoch that was handed over or ended before."""
        if self._pending is not None and self._pending["epoch"] == epoch:
            return dict(self._pending["scores"])
        if self._ended_epoch != epoch or self._scores.batches:
            return {}
        entry = self.history.entries[-1]
        others = ("lr/", "train/loss_weight/")
        return {key: value for key, value in entry.items() if "/" in key and not key.startswith(others)}

    def _key(self, part: str, name: str) -> str:
        key = canonical_metric(name)
        part, _, rest = key.partition("/") if key.startswith(("train/", "val/", "test/")) else (part, "", key)
        term = rest.removesuffix("_loss")
        is_term = (
            rest != term and isinstance(self.loss_function, LoopLoss) and term in self.loss_function.loss.functions
        )
        return f"{part}/loss/{term}" if is_term else f"{part}/{rest}"

    def _require(self, name: str, scores: Mapping[str, float], where: str) -> None:
        """Raise if epochs are scored and this score was never among theirs; one that was not validated is passed."""
        self._seen |= set(scores)
        part = name.partition("/")[0]
        if name not in self._seen and any(key.startswith(f"{part}/") for key in scores):
            raise ConfigError(f'monitor "{name}" is never computed ({where}). Available: {", ".join(sorted(scores))}.')

    def _step_schedule(self, epoch: int, scores: Mapping[str, float]) -> None:
        if self.loss_schedule is None:
            return
        if self.loss_schedule.kind in ("adaptive", "performance"):
            self._require(canonical_metric(self.loss_schedule.monitor), scores, "loss.scheduler.monitor")
        self.loss_schedule.step(epoch, scores)

    def _write(self, entry: Mapping[str, Any]) -> None:
        try:
            self.history.append(entry)
        except RunError as error:  # it is kept in memory and written with the next one
            log.warning("The history was not written in epoch %d: %s", entry["epoch"], error)
        scores = {name: value for name, value in entry.items() if "/" in name}
        self.events.write("epoch", global_step=self.global_step, epoch=entry["epoch"], scores=scores)

    def _state_dict(self) -> dict[str, Any]:
        return {
            "history": [dict(entry) for entry in self.history.entries],
            "loss_schedule": None if self.loss_schedule is None else self.loss_schedule.state_dict(),
            "steps": self._steps_state if self._steps is None else self._steps.state_dict(),
            "global_step": self.global_step,
            "pending": self._pending,
        }

    def _load_state_dict(self, state: Mapping[str, Any], epochs: int) -> None:
        if self.loss_schedule is not None and state["loss_schedule"] is not None:
            self.loss_schedule.load_state_dict(state["loss_schedule"])
        self._steps, self._steps_state = None, state["steps"]
        self.global_step = int(state["global_step"])
        self._pending = state["pending"]
        self._scores = LoopScores()
        entries = [entry for entry in state["history"] if entry["epoch"] <= epochs]
        self.history.truncate(len(entries))
        for entry in entries[len(self.history.entries) :]:
            self._write(entry)


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _pair(batch: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        raise TrainingError(
            f"A batch is a {type(batch).__name__} and not a pair of inputs and targets. Let the loader yield "
            "(inputs, targets)."
        )
    inputs, targets = batch
    return inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
