"""Training: the loop, its state, what watches it, and the everyday object Trainer."""

from __future__ import annotations

from maskwright.training.callback import Callback, CallbackList
from maskwright.training.callbacks import (
    BestWeights,
    Checkpointing,
    ControlCallback,
    EarlyStopping,
    EventsCallback,
    HistoryCallback,
    LossWeights,
    ProgressCallback,
)
from maskwright.training.interrupt import graceful_stop
from maskwright.training.loop import fit, train_epoch
from maskwright.training.monitor import Monitor
from maskwright.training.state import Best, TrainState
from maskwright.training.trainer import Trainer, TrainResult
from maskwright.training.updater import StepOutcome, StepUpdater
from maskwright.training.validation import validate

__all__ = [
    "Best",
    "BestWeights",
    "Callback",
    "CallbackList",
    "Checkpointing",
    "ControlCallback",
    "EarlyStopping",
    "EventsCallback",
    "HistoryCallback",
    "LossWeights",
    "Monitor",
    "ProgressCallback",
    "StepOutcome",
    "StepUpdater",
    "TrainResult",
    "TrainState",
    "Trainer",
    "fit",
    "graceful_stop",
    "train_epoch",
    "validate",
]
