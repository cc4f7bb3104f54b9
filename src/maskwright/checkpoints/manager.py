"""CheckpointManager: the checkpoints of a training loop of one's own, on top of the store that runs use."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from maskwright.checkpoints.format import bare_model, load_state
from maskwright.checkpoints.retention import PASSING, STRATEGIES, Strategy
from maskwright.checkpoints.store import LATEST, CheckpointStore
from maskwright.config.metric_names import canonical_metric
from maskwright.errors import CheckpointError, ConfigError
from maskwright.tracking import CheckpointRecord

__all__ = ["CheckpointManager"]

log = logging.getLogger("maskwright.checkpoints")


class CheckpointManager:
    """Saves a model when its strategy says so, keeps as many files as asked, and finds the best again.

    The best checkpoint is never deleted, and what was handed over last always lies in ``checkpoint_latest.pt``, so that
    a loop that was killed can go on. All that is known is on disk: a manager made anew on the same folder knows what
    the one before knew.

    Args:
        checkpoint_dir: The folder; made when first needed. One folder holds the checkpoints of one model.
        model_name: Saved in every checkpoint.
        save_strategy: best, epoch, interval, all, adaptive, performance_based or time_based: which epochs are kept, by
            the table of :mod:`maskwright.checkpoints.retention`.
        max_checkpoints: Files kept beside the best and the latest, newest first; at least 1.
        monitor_metric: The score that decides which is best, as it is called in ``metrics``; ``val_dice`` is
            ``val/dice``.
        mode: ``max`` if a larger score is better, else ``min``.
        save_interval: Epochs from one kept checkpoint to the next, for the strategy ``interval``.
        save_optimizer: Whether the optimizer's state is saved; without it a file is smaller and training cannot go on.
        save_scheduler: Whether the schedule's state is saved.
        metadata: Plain values saved in every checkpoint, for example what rebuilds the model.

    Raises:
        ConfigError: If a setting makes no sense.
        CheckpointError: If the folder holds the checkpoints of another model.
    """

    def __init__(
        self,
        checkpoint_dir: str | Path,
        model_name: str,
        save_strategy: Strategy = "best",
        max_checkpoints: int = 5,
        monitor_metric: str = "val_loss",
        mode: Literal["min", "max"] = "min",
        *,
        save_interval: int = 5,
        save_optimizer: bool = True,
        save_scheduler: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        _check_settings(save_strategy, max_checkpoints, mode, save_interval)
        self.model_name = model_name
        self.monitor = canonical_metric(monitor_metric)
        self.save_optimizer = save_optimizer
        self.save_scheduler = save_scheduler
        self.metadata = dict(metadata or {})
        self.store = CheckpointStore(
            Path(checkpoint_dir),
            max_checkpoints=max_checkpoints,
            monitor=self.monitor,
            mode=mode,
            strategy=save_strategy,
            interval=save_interval,
        )
        self._require_same_model()
        self._warned = False

    # --- saving -------------------------------------------------------------------------------------------------------

    def save_checkpoint(
        self,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        scheduler: LRScheduler | None = None,
        epoch: int = 0,
        metrics: Mapping[str, float] | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
    ) -> Path | None:
        """Hand over the state after an epoch.

        Args:
            model: The network; the wrapper of ``torch.compile`` is left out of the names of its weights.
            optimizer: Saved unless ``save_optimizer`` is off.
            scheduler: Saved unless ``save_scheduler`` is off.
            epoch: The epoch that ended, from 0.
            metrics: Its scores. Without the monitored one the epoch is kept by the strategies epoch, interval and all
                only.
            extra: Further plain values and tensors to save; found under ``extra`` in what ``load_checkpoint`` returns.

        Returns:
            The file, if the strategy keeps this epoch; None if it does not and the state is in
            ``checkpoint_latest.pt`` only.

        Raises:
            ConfigError: If the epoch is no whole number from 0, or a score is no number.
            CheckpointError: If something cannot be saved or the disk refuses; the files before are untouched.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise ConfigError(f"epoch is {epoch!r}, but must be a whole number from 0: the epoch that has ended.")
        given = _numbers(metrics or {})
        scores = {canonical_metric(name): value for name, value in given.items()}
        self._tell_if_missing(scores)
        content: dict[str, Any] = {
            "model": bare_model(model).state_dict(),
            "model_name": self.model_name,
            "epoch": epoch + 1,
            "metrics": given,
            "monitor": self.monitor,
            "mode": self.store.mode,
            "torch_version": str(torch.__version__),
            "metadata": self.metadata,
            "extra": dict(extra or {}),
        }
        if optimizer is not None and self.save_optimizer:
            content["optimizer"] = optimizer.state_dict()
        if scheduler is not None and self.save_scheduler:
            content["scheduler"] = scheduler.state_dict()
        record = self.store.save(content, epoch=epoch + 1, global_step=epoch + 1, scores=scores)
        return None if record.tag == PASSING else self.store.path_of(record)

    def _tell_if_missing(self, scores: Mapping[str, float]) -> None:
        if self._warned or self.store.strategy in ("epoch", "interval", "all"):
            return
        if not math.isfinite(scores.get(self.monitor, math.nan)):
            self._warned = True
            log.warning(
                "Checkpoints are kept by %s, which is not among the metrics (%s): the strategy %s does not keep such "
                "an epoch; its state is in %s until the next one.",
                self.monitor,
                ", ".join(sorted(scores)) or "none were given",
                self.store.strategy,
                LATEST,
            )

    # --- loading ------------------------------------------------------------------------------------------------------

    def load_checkpoint(
        self,
        checkpoint_path: str | Path | None = None,
        model: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        scheduler: LRScheduler | None = None,
        *,
        map_location: str | torch.device = "cpu",
    ) -> dict[str, Any]:
        """Take up a saved state.

        Args:
            checkpoint_path: The file; None: the newest whole checkpoint of this folder.
            model: Receives the weights, if given.
            optimizer: Receives its state, if given.
            scheduler: Receives its state, if given.
            map_location: Device of the tensors while they are read.

        Returns:
            ``epoch``: epochs done, so that a loop goes on with ``range(info["epoch"], epochs)``; ``metrics``,
            ``best_metric``, ``monitor``, ``model_name``, ``metadata``, ``extra``, and ``notes``, a sentence for each
            damaged file that was passed over.

        Raises:
            CheckpointError: If there is none, the file is damaged, of another network, or lacks what is asked for.
        """
        if checkpoint_path is None:
            state, record, notes = self.store.load_latest(map_location=map_location)
            path = self.store.path_of(record)
        else:
            path, notes = Path(checkpoint_path), ()
            state = load_state(path, self._hash_of(path), map_location=map_location)
        schedule = state.get("scheduler", state.get("schedule"))  # the second is the name in a run folder
        _take(path, "model", model if model is None else bare_model(model), state.get("model"))
        _take(path, "optimizer", optimizer, state.get("optimizer"))
        _take(path, "scheduler", scheduler, schedule)
        told = {name: state.get(name) for name in ("epoch", "model_name", "monitor", "torch_version")}
        best = self._best
        return {
            **told,
            "path": str(path),
            "metrics": dict(state.get("metrics", state.get("scores", {}))),
            "best_metric": None if best is None else best.scores[self.monitor],
            "metadata": dict(state.get("metadata", state.get("description", {}))),
            "extra": dict(state.get("extra", {})),
            "notes": notes,
        }

    def list_checkpoints(self) -> list[dict[str, Any]]:
        """The checkpoints the strategy keeps, oldest first.

        Each with ``path``, ``epoch`` (from 1), ``type`` (see the table of strategies), ``metrics`` under their
        canonical names such as ``val/dice``, ``is_best``, ``time`` (UTC) and ``bytes``.
        """
        best = self._best
        return [self._told(record, record == best) for record in self._kept]

    def get_best_checkpoint_path(self) -> Path | None:
        """The checkpoint with the best monitored score; None if none was scored."""
        best = self._best
        return None if best is None else self.store.path_of(best)

    def get_latest_checkpoint_path(self) -> Path | None:
        """The newest checkpoint, to go on from; None if there is none."""
        records = self.store.records
        return self.store.path_of(records[-1]) if records else None

    def get_checkpoint_summary(self) -> dict[str, Any]:
        """All in one, plain values: how many, which is best, which newest, from which epochs, of which types."""
        best, latest, kept = self._best, self.get_latest_checkpoint_path(), self._kept
        return {
            "model_name": self.model_name,
            "strategy": self.store.strategy,
            "monitor_metric": self.monitor,
            "mode": self.store.mode,
            "max_checkpoints": self.store.max_checkpoints,
            "total_checkpoints": len(kept),
            "best_checkpoint": None if best is None else str(self.store.path_of(best)),
            "best_metric": None if best is None else best.scores[self.monitor],
            "best_epoch": None if best is None else best.epoch,
            "latest_checkpoint": None if latest is None else str(latest),
            "epoch_range": [kept[0].epoch, kept[-1].epoch] if kept else None,
            "types": dict(sorted(Counter(record.tag or record.kind for record in kept).items())),
            "checkpoints": self.list_checkpoints(),
        }

    @property
    def _best(self) -> CheckpointRecord | None:
        return self.store.best

    @property
    def _kept(self) -> list[CheckpointRecord]:
        return [record for record in self.store.records if record.tag != PASSING]

    def _told(self, record: CheckpointRecord, is_best: bool) -> dict[str, Any]:
        return {
            "path": str(self.store.path_of(record)),
            "epoch": record.epoch,
            "type": record.tag or record.kind,
            "metrics": dict(record.scores),
            "is_best": is_best,
            "time": record.time,
            "bytes": record.bytes,
        }

    def _hash_of(self, path: Path) -> str | None:
        """What the manifest says of a file of this folder; None for any other."""
        if path.parent.resolve() != self.store.folder.resolve():
            return None
        return next((record.sha256 for record in self.store.records if record.file == path.name), None)

    def _require_same_model(self) -> None:
        records = self.store.records
        if not records:
            return
        try:
            name = load_state(self.store.path_of(records[-1]), mmap=True).get("model_name", self.model_name)
        except CheckpointError:
            return  # damaged or deleted: found out, with its name, by whoever loads it
        if name != self.model_name:
            raise CheckpointError(
                f"{self.store.folder} holds the checkpoints of {name!r}, and this manager saves {self.model_name!r}. "
                "Give each model a folder of its own."
            )


def _check_settings(strategy: str, max_checkpoints: int, mode: str, interval: int) -> None:
    if strategy not in STRATEGIES:
        raise ConfigError(f"checkpoint strategy {strategy!r} is unknown. Available: {', '.join(STRATEGIES)}.")
    if mode not in ("min", "max"):
        raise ConfigError(f"checkpoint mode {mode!r} is unknown. Use min or max.")
    for name, value in (("max_checkpoints", max_checkpoints), ("save_interval", interval)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} is {value!r}, but must be a whole number from 1.")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    numbers = {}
    for name, value in metrics.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError) as cause:
            raise ConfigError(f"metrics: {name} is {value!r}, but must be a number.") from cause
    return numbers


def _take(path: Path, what: str, part: Any, state: Any) -> None:
    """Load a part's state, where the part was given."""
    if part is None:
        return
    if state is None:
        raise CheckpointError(
            f"{path} holds no state of the {what}: it was saved without. Leave {what} out to load the rest."
        )
    try:
        part.load_state_dict(state)
    except (KeyError, RuntimeError, ValueError, TypeError) as cause:
        raise CheckpointError(
            f"{path} does not fit this {what}: {str(cause).splitlines()[0]} Build it as it was when it was saved."
        ) from cause
