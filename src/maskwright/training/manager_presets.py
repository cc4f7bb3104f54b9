"""Ready-made checkpoint settings of a TrainingManager, and its settings from plain values."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from typing import Any

from maskwright.errors import ConfigError

__all__ = ["CHECKPOINT_PRESETS", "checkpoint_settings", "get_preset_checkpoint_config"]

CHECKPOINT_PRESETS: dict[str, dict[str, Any]] = {
    "standard": {"save_strategy": "best", "max_checkpoints": 5},
    "frequent": {"save_strategy": "epoch", "max_checkpoints": 10},
    "adaptive": {"save_strategy": "adaptive", "max_checkpoints": 5},
    "performance": {"save_strategy": "performance_based", "max_checkpoints": 5},
    "time_based": {"save_strategy": "time_based", "max_checkpoints": 10},
}
_DEFAULTS: dict[str, Any] = {
    "save_strategy": "best",
    "max_checkpoints": 5,
    "monitor_metric": "val_dice",
    "mode": "max",
    "save_interval": 5,
    "save_optimizer": True,
    "save_scheduler": True,
}
_AUTO = ("adaptive", "performance_based", "time_based")


def get_preset_checkpoint_config(name: str) -> dict[str, Any]:
    """Settings of a preset for ``TrainingManager.setup_checkpointing``, a copy of one's own.

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in CHECKPOINT_PRESETS:
        raise ConfigError(f"checkpoint preset {name!r} is unknown. Available: {', '.join(CHECKPOINT_PRESETS)}.")
    return copy.deepcopy(CHECKPOINT_PRESETS[name])


def checkpoint_settings(config: Mapping[str, Any] | str) -> dict[str, Any]:
    """Arguments of a CheckpointManager from a preset's name or plain settings.

    Args:
        config: See ``TrainingManager.setup_checkpointing``. ``manager_type`` is ``standard`` (the default) or ``auto``;
            ``auto`` takes its strategy from ``auto_strategy``, ``adaptive`` if there is none.

    Raises:
        ConfigError: If a setting is unknown, or two contradict one another.
    """
    given = get_preset_checkpoint_config(config) if isinstance(config, str) else dict(config)
    kind, auto = given.pop("manager_type", None), given.pop("auto_strategy", None)
    known = (*_DEFAULTS, "manager_type", "auto_strategy")
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Available: {', '.join(known)}."
            raise ConfigError(f"checkpointing: unknown setting {name!r}. {hint}")
    if kind not in (None, "standard", "auto"):
        raise ConfigError(f"checkpointing: manager_type {kind!r} is unknown. Available: standard, auto.")
    if kind == "auto" or (kind is None and auto is not None):
        if "save_strategy" in given:
            raise ConfigError("checkpointing: save_strategy and auto_strategy say the same thing; give one of them.")
        auto = "adaptive" if auto is None else auto
        if auto not in _AUTO:
            raise ConfigError(f"checkpointing: auto_strategy {auto!r} is unknown. Available: {', '.join(_AUTO)}.")
        given["save_strategy"] = auto
    elif auto is not None:
        raise ConfigError("checkpointing: auto_strategy needs manager_type auto.")
    return _DEFAULTS | given
