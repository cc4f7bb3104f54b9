"""What came of a training with TrainingManager, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maskwright.losses import LoopLoss

if TYPE_CHECKING:
    from maskwright.training.manager import TrainingManager

__all__ = ["training_summary"]


def training_summary(manager: TrainingManager) -> dict[str, Any]:
    """See :meth:`TrainingManager.get_training_summary`."""
    entries, best = manager.history.entries, manager.best_entry
    monitor = manager.checkpoint_manager.monitor
    loss, schedule = manager.loss_function, manager.loss_schedule
    return {
        "model_info": {
            "model_name": manager.model_name,
            "model_dir": str(manager.folder.path),
            "monitor_metric": monitor,
            "mode": manager.checkpoint_manager.store.mode,
            "best_metric": None if best is None else best[monitor],
            "best_epoch": None if best is None else best["epoch"],
        },
        "training_progress": {
            "total_epochs": len(entries),
            "global_step": manager.global_step,
            "skipped_steps": manager.skipped_steps,
            "elapsed_s": round(sum(entry.get("elapsed_s", 0.0) for entry in entries), 3),
            "last_epoch": dict(entries[-1]) if entries else None,
        },
        "loss_info": {
            "weights": loss.weights if isinstance(loss, LoopLoss) else {},
            "schedule": None if schedule is None else schedule.kind,
            "schedule_history": [] if schedule is None else schedule.state_dict()["history"],
        },
        "checkpoint_info": manager.get_checkpoint_summary(),
    }
