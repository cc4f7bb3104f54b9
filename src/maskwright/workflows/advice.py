"""The last lines of a run: how good it is, what would help most, what to type next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = ["what_would_help"]

_STILL_RISING = 0.005
_OVERFITTED = 1.25


def what_would_help(
    history: Sequence[Mapping[str, float]],
    *,
    monitor: str,
    higher_is_better: bool,
    best_epoch: int,
    epochs: int,
    per_height: Mapping[float, float],
    train_tiles: int,
) -> str:
    """One sentence naming what limits the model most: time, data or a height.

    Args:
        history: One entry per epoch with ``train/loss``, ``val/loss`` and the monitored score.
        monitor: Key of the score that decided what is best.
        higher_is_better: Direction of the monitor.
        best_epoch: 1-based epoch of the best score.
        epochs: Epochs that were planned.
        per_height: IoU by height in metres.
        train_tiles: Number of training tiles.
    """
    scores = [float(entry[monitor]) for entry in history if monitor in entry and not math.isnan(entry[monitor])]
    window = max(2, len(scores) // 5)
    if len(scores) > window and best_epoch >= len(history) - 1:
        best_of = max if higher_is_better else min
        gain = abs(best_of(scores[-window:]) - best_of(scores[:-window]))
        if gain > _STILL_RISING:
            return (
                f"Time: {monitor} still gained {gain:.3f} over the last {window} epochs; "
                f"train longer, for example --set training.epochs={max(epochs + 1, round(epochs * 1.5))}."
            )
    best = next((entry for entry in history if entry.get("epoch") == best_epoch), history[-1] if history else {})
    train_loss, val_loss = best.get("train/loss"), best.get("val/loss")
    if train_loss and val_loss and val_loss > _OVERFITTED * train_loss:
        return (
            f"Data: the loss on validation ground is {val_loss / train_loss:.2f} times that on training ground; "
            f"more sites than these {train_tiles} training tiles, or stronger data.augment, would help most."
        )
    known = {height: score for height, score in per_height.items() if not math.isnan(score)}
    if known:
        height = min(known, key=lambda h: known[h])
        return (
            f"Height: {height:g} m is the weakest with IoU {known[height]:.3f}; more ground with gaps of that height, "
            "or leaving it out if it is not needed, would help most."
        )
    return "Data: no gap of any listed height lies on the validation ground; add sites that have some."
