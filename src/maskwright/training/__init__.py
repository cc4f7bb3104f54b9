"""Training: the loop, its state, what watches it, and the everyday object Trainer."""

from __future__ import annotations

from maskwright.models.checkpointing import enable_gradient_checkpointing
from maskwright.training.callback import Callback, CallbackList
from maskwright.training.callbacks import (
    BestWeights,
    Checkpointing,
    ControlCallback,
    EarlyStopping,
    EventsCallback,
    HistoryCallback,
    LearningRate,
    LossWeights,
    ProgressCallback,
)
from maskwright.training.compiling import compile_model
from maskwright.training.ema import WeightAverage
from maskwright.training.interrupt import graceful_stop
from maskwright.training.loop import fit, train_epoch
from maskwright.training.lr_finder import LrFinding, find_lr
from maskwright.training.manager import TrainingManager
from maskwright.training.manager_presets import get_preset_checkpoint_config
from maskwright.training.memory import is_out_of_memory, out_of_memory_advice
from maskwright.training.monitor import Monitor
from maskwright.training.own_data import PairBatches, train_model, trainer_for
from maskwright.training.quick_setup import create_training_manager, quick_training_setup
from maskwright.training.recovery import Recovery
from maskwright.training.regularization import CompositeRegularization
from maskwright.training.state import Best, TrainState
from maskwright.training.step_objects import AMPManager, GradientAccumulator, GradientClipper, TrainingOptimizer
from maskwright.training.trainer import Trainer, TrainResult
from maskwright.training.updater import StepOutcome, StepUpdater
from maskwright.training.validation import validate

__all__ = [
    "AMPManager",
    "Best",
    "BestWeights",
    "Callback",
    "CallbackList",
    "Checkpointing",
    "CompositeRegularization",
    "ControlCallback",
    "EarlyStopping",
    "EventsCallback",
    "GradientAccumulator",
    "GradientClipper",
    "HistoryCallback",
    "LearningRate",
    "LossWeights",
    "LrFinding",
    "Monitor",
    "PairBatches",
    "ProgressCallback",
    "Recovery",
    "StepOutcome",
    "StepUpdater",
    "TrainResult",
    "TrainState",
    "Trainer",
    "TrainingManager",
    "TrainingOptimizer",
    "WeightAverage",
    "compile_model",
    "create_training_manager",
    "enable_gradient_checkpointing",
    "find_lr",
    "fit",
    "get_preset_checkpoint_config",
    "graceful_stop",
    "is_out_of_memory",
    "out_of_memory_advice",
    "quick_training_setup",
    "train_epoch",
    "train_model",
    "trainer_for",
    "validate",
]
