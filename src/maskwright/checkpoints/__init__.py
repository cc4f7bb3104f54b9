"""Checkpoints that survive: durable files, a store that always has a good one, and the portable model folder."""

from __future__ import annotations

from maskwright.checkpoints.background import Writing
from maskwright.checkpoints.divided import check_divided
from maskwright.checkpoints.divided_store import DividedStore
from maskwright.checkpoints.format import bare_model, check_plain, load_state, read_about, save_state, snapshot
from maskwright.checkpoints.manager import CheckpointManager
from maskwright.checkpoints.portable import load_description, load_weights, save_model
from maskwright.checkpoints.retention import STRATEGIES, Strategy, best_of, checkpoint_tag, files_to_keep, is_better
from maskwright.checkpoints.store import CheckpointStore, Loaded, checkpoint_name

__all__ = [
    "STRATEGIES",
    "CheckpointManager",
    "CheckpointStore",
    "DividedStore",
    "Loaded",
    "Strategy",
    "Writing",
    "bare_model",
    "best_of",
    "check_divided",
    "check_plain",
    "checkpoint_name",
    "checkpoint_tag",
    "files_to_keep",
    "is_better",
    "load_description",
    "load_state",
    "load_weights",
    "read_about",
    "save_model",
    "save_state",
    "snapshot",
]
