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
    scores: Mapping[str, float],
    things: str = "heights",
    lost_to: str | None = None,
    train_tiles: int,
) -> str:
    """One sentence naming what limits the model most: time, data, a height or a class.

    Args:
        history: One entry per epoch with ``train/loss``, ``val/loss`` and the monitored score.
        monitor: Key of the score that decided what is best.
        higher_is_better: Direction of the monitor.
        best_epoch: 1-based epoch of the best score.
        epochs: Epochs that were planned.
        scores: IoU on the test part by column: ``5 m``, ``crack``. Empty: nothing was scored there.
        things: What columns are: ``heights``, ``classes``, or ``metres`` where there is but one of errors.
        lost_to: The answer without training that is better than the model for all classes; None: there is none.
        train_tiles: Number of training tiles.
    """
    watched = [float(entry[monitor]) for entry in history if monitor in entry and not math.isnan(entry[monitor])]
    window = max(2, len(watched) // 5)
    longer = f"train longer, for example --set training.epochs={max(epochs + 1, round(epochs * 1.5))}."
    if len(watched) > window and best_epoch >= len(history) - 1:
        best_of = max if higher_is_better else min
        gain = abs(best_of(watched[-window:]) - best_of(watched[:-window]))
        if gain > _STILL_RISING:
            return f"Time: {monitor} still gained {gain:.3f} over the last {window} epochs; {longer}"
    if lost_to is not None:
        return (
            f'Time: after {_epochs(len(history))} the model is not better than the answer "{lost_to}" yet; train '
            f"longer, for example --set training.epochs={2 * epochs}, or set data.balance.by: class if the classes are "
            "rare."
        )
    if len(watched) <= window and best_epoch >= len(history):
        return f"Time: after {_epochs(len(history))} nothing shows yet where {monitor} ends; {longer}"
    ground, more = ("ground", "sites") if things in ("heights", "metres") else ("images", "images")
    best = next((entry for entry in history if entry.get("epoch") == best_epoch), history[-1] if history else {})
    train_loss, val_loss = best.get("train/loss"), best.get("val/loss")
    if train_loss and val_loss and val_loss > _OVERFITTED * train_loss:
        return (
            f"Data: the loss on validation {ground} is {val_loss / train_loss:.2f} times that on training {ground}; "
            f"more {more} than these {train_tiles} training tiles, or stronger data.augment, would help most."
        )
    known = {column: score for column, score in scores.items() if not math.isnan(score)}
    return _weakest(known, things, train_tiles)


def _epochs(number: int) -> str:
    return f"{number} epoch{'s' * (number != 1)}"


def _weakest(known: Mapping[str, float], things: str, train_tiles: int) -> str:
    """The column that pulls the scores down."""
    if things == "metres" or (things == "classes" and len(known) == 1):
        return (
            f"Data: neither time nor overfitting holds the model back with these {train_tiles} training tiles; more of "
            "what it gets wrong (the worst tiles on the page) would help most."
        )
    if not known:
        if things == "classes":
            return "Data: no class lies on the test images; add images that have some."
        return "Data: no gap of any listed height lies on the validation ground; add sites that have some."
    column = min(known, key=lambda name: known[name])
    if things == "classes":
        return (
            f"Class: {column} is the weakest with IoU {known[column]:.3f}; more images that hold it, or "
            "data.balance.by: class, would help most."
        )
    return (
        f"Height: {column} is the weakest with IoU {known[column]:.3f}; more ground with gaps of that height, "
        "or leaving it out if it is not needed, would help most."
    )
