"""A TrainingManager in one line: with defaults, or from presets by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskwright.errors import ConfigError
from maskwright.losses import get_preset_loss_config
from maskwright.training.manager import TrainingManager
from maskwright.training.manager_presets import checkpoint_settings

__all__ = ["create_training_manager", "quick_training_setup"]


def quick_training_setup(model_dir: str | Path, model_name: str, **options: Any) -> TrainingManager:
    """A manager with defaults: Dice 0.7 and cross entropy 0.3, the best five checkpoints by ``val_dice``.

    Args:
        model_dir: The folder of the run.
        model_name: Name of the model and of the run.
        options: Further arguments of :class:`TrainingManager`, for example ``accumulate=4``.

    Raises:
        RunError: If the disk refuses, or another living process trains in the folder.
        CheckpointError: If the folder holds the checkpoints of another model.
    """
    return create_training_manager(model_dir, model_name, **options)


def create_training_manager(
    model_dir: str | Path,
    model_name: str,
    loss_preset: str | Mapping[str, Any] = "default_segmentation",
    checkpoint_preset: str | Mapping[str, Any] = "standard",
    enhanced: bool = False,
    **options: Any,
) -> TrainingManager:
    """A manager from presets.

    Args:
        model_dir: The folder of the run.
        model_name: Name of the model and of the run.
        loss_preset: A name, see ``get_preset_loss_config``, or settings.
        checkpoint_preset: ``standard``, ``frequent``, ``adaptive``, ``performance``, ``time_based``, or settings.
        enhanced: Must be False: asks for experiment tracking by MLflow.
        options: Further arguments of :class:`TrainingManager`, for example ``use_amp="bf16"``.

    Raises:
        ConfigError: If a preset or setting is unknown, or ``enhanced`` is asked for.
        RunError: If the disk refuses, or another living process trains in the folder.
        CheckpointError: If the folder holds the checkpoints of another model.
    """
    if enhanced:
        raise ConfigError(
            "enhanced=True asks for tracking by MLflow, which this version does not have. Leave it out: scores, "
            "events and checkpoints lie in the run folder."
        )
    if isinstance(loss_preset, str):
        loss_preset = get_preset_loss_config(loss_preset)
    checkpoint_settings(checkpoint_preset)  # a wrong word must be known before there is a folder
    manager = TrainingManager(model_dir, model_name, **options)
    manager.setup_loss_function(loss_preset)
    manager.setup_checkpointing(checkpoint_preset)
    return manager
