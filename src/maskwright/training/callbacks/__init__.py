"""Watchers of a run, one file each."""

from __future__ import annotations

from maskwright.training.callbacks.checkpointing import BestWeights, Checkpointing
from maskwright.training.callbacks.control import ControlCallback
from maskwright.training.callbacks.early_stopping import EarlyStopping
from maskwright.training.callbacks.events import EventsCallback
from maskwright.training.callbacks.history import HistoryCallback
from maskwright.training.callbacks.loss_weights import LossWeights
from maskwright.training.callbacks.progress import ProgressCallback

__all__ = [
    "BestWeights",
    "Checkpointing",
    "ControlCallback",
    "EarlyStopping",
    "EventsCallback",
    "HistoryCallback",
    "LossWeights",
    "ProgressCallback",
]
