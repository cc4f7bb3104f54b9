"""Maskwright trains image-segmentation models people can trust, and puts them to work.

The everyday calls are loaded when first used, so ``import maskwright`` is quick::

    import maskwright

    experiment = maskwright.load_experiment(["experiment.yaml"])
    outcome = maskwright.train(experiment)
    maskwright.predict(outcome.folder.path, "area.tif", "maps", heights_m=(5, 10, 15))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskwright.checkpoints import CheckpointManager
    from maskwright.config import load_experiment
    from maskwright.data.foreign import create_dataloaders
    from maskwright.models import build_model
    from maskwright.optim import create_scheduler
    from maskwright.tracking.reader import open_run
    from maskwright.training import (
        AMPManager,
        Callback,
        CallbackList,
        EarlyStopping,
        GradientAccumulator,
        GradientClipper,
        Trainer,
        TrainingManager,
        TrainingOptimizer,
        compile_model,
        create_training_manager,
        enable_gradient_checkpointing,
        quick_training_setup,
        train_model,
        trainer_for,
    )
    from maskwright.workflows.evaluate_run import evaluate_run as evaluate
    from maskwright.workflows.export import export
    from maskwright.workflows.predict import predict
    from maskwright.workflows.shape import resume_shaped as resume
    from maskwright.workflows.shape import train_shaped as train

__all__ = [
    "AMPManager",
    "Callback",
    "CallbackList",
    "CheckpointManager",
    "EarlyStopping",
    "GradientAccumulator",
    "GradientClipper",
    "Trainer",
    "TrainingManager",
    "TrainingOptimizer",
    "__version__",
    "build_model",
    "compile_model",
    "create_dataloaders",
    "create_scheduler",
    "create_training_manager",
    "enable_gradient_checkpointing",
    "evaluate",
    "export",
    "load_experiment",
    "open_run",
    "predict",
    "quick_training_setup",
    "resume",
    "train",
    "train_model",
    "trainer_for",
]

__version__ = "0.1.0"

_HOMES = {
    # name: (module, its name there)
    "AMPManager": ("maskwright.training", "AMPManager"),
    "Callback": ("maskwright.training", "Callback"),
    "CallbackList": ("maskwright.training", "CallbackList"),
    "CheckpointManager": ("maskwright.checkpoints", "CheckpointManager"),
    "EarlyStopping": ("maskwright.training", "EarlyStopping"),
    "GradientAccumulator": ("maskwright.training", "GradientAccumulator"),
    "GradientClipper": ("maskwright.training", "GradientClipper"),
    "Trainer": ("maskwright.training", "Trainer"),
    "TrainingManager": ("maskwright.training", "TrainingManager"),
    "TrainingOptimizer": ("maskwright.training", "TrainingOptimizer"),
    "build_model": ("maskwright.models", "build_model"),
    "compile_model": ("maskwright.training", "compile_model"),
    "create_dataloaders": ("maskwright.data.foreign", "create_dataloaders"),
    "create_scheduler": ("maskwright.optim", "create_scheduler"),
    "create_training_manager": ("maskwright.training", "create_training_manager"),
    "enable_gradient_checkpointing": ("maskwright.training", "enable_gradient_checkpointing"),
    "evaluate": ("maskwright.workflows.evaluate_run", "evaluate_run"),
    "export": ("maskwright.workflows.export", "export"),
    "load_experiment": ("maskwright.config", "load_experiment"),
    "open_run": ("maskwright.tracking.reader", "open_run"),
    "predict": ("maskwright.workflows.predict", "predict"),
    "quick_training_setup": ("maskwright.training", "quick_training_setup"),
    "resume": ("maskwright.workflows.shape", "resume_shaped"),
    "train": ("maskwright.workflows.shape", "train_shaped"),
    "train_model": ("maskwright.training", "train_model"),
    "trainer_for": ("maskwright.training", "trainer_for"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
