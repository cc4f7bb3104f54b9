"""Watchers of a run, one file each."""

from __future__ import annotations

from maskwright.training.callbacks.cache_clearing import CacheClearing
from maskwright.training.callbacks.checkpointing import BestWeights, Checkpointing
from maskwright.training.callbacks.control import ControlCallback
from maskwright.training.callbacks.drop_path import DropPathSchedule
from maskwright.training.callbacks.early_stopping import EarlyStopping
from maskwright.training.callbacks.events import EventsCallback
from maskwright.training.callbacks.history import HistoryCallback
from maskwright.training.callbacks.learning_rate import LearningRate
from maskwright.training.callbacks.loss_weights import LossWeights
from maskwright.training.callbacks.profiler import Profiler
from maskwright.training.callbacks.progress import ProgressCallback
from maskwright.training.callbacks.pruning import Pruning
from maskwright.training.callbacks.save_predictions import SavePredictions
from maskwright.training.callbacks.thawing import Thawing

__all__ = [
    "BestWeights",
    "CacheClearing",
    "Checkpointing",
    "ControlCallback",
    "DropPathSchedule",
    "EarlyStopping",
    "EventsCallback",
    "HistoryCallback",
    "LearningRate",
    "LossWeights",
    "Profiler",
    "ProgressCallback",
    "Pruning",
    "SavePredictions",
    "Thawing",
]
