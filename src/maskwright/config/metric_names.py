"""Names of losses and scores in the history: the one spelling of each, and what a person may write for it.

Keys are ``part/name``: ``val/iou``, ``train/loss``, ``val/loss/dice``; a height or class may follow: ``val/iou@5m``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from maskwright.errors import ConfigError

__all__ = ["canonical_metric", "resolve_monitor"]

_PART_AND_NAME = re.compile(r"(train|val|test)[/._](.+)")
_SAME = {"total_loss": "loss"}
# Where classes are several, the mean over them is what one means; Dice and F1 are one number.
_SISTERS = {"iou": "miou", "miou": "iou", "dice": "f1", "f1": "dice"}


def canonical_metric(name: str) -> str:
    """The one spelling of a score: ``val_iou``, ``val.iou`` and ``val/iou`` are ``val/iou``.

    ``val_loss`` and ``val/total_loss`` are ``val/loss``. A height or class may follow: ``val_iou@2.5m`` is
    ``val/iou@2.5m``. Names that do not begin with train, val or test keep their place open: ``total_loss`` is ``loss``.
    """
    name = name.strip()
    parts = _PART_AND_NAME.fullmatch(name)
    if parts is None:
        return _SAME.get(name, name)
    part, score = parts.groups()
    return f"{part}/{_SAME.get(score, score)}"


def resolve_monitor(name: str, available: Iterable[str], where: str = "callbacks.monitor") -> str:
    """The key of the history meant by ``name``, before the first epoch is spent on one that never comes.

    Args:
        name: What the user wrote, in any spelling; without a part that of the validation. ``iou`` also finds ``miou``,
            ``dice`` also ``f1``, and the other way round, whichever is computed.
        available: Keys the run will compute.
        where: The setting, for the message.

    Raises:
        ConfigError: If nothing of that name is computed; lists what is.
    """
    keys = sorted(available)
    key = canonical_metric(name)
    score, at, column = key.rpartition("/")[2].partition("@")
    sister = key.removesuffix(score + at + column) + _SISTERS.get(score, score) + at + column
    for candidate in (key, f"val/{key}", sister, f"val/{sister}"):
        if candidate in keys:
            return candidate
    raise ConfigError(f'monitor "{name}" is never computed ({where}). Available: {", ".join(keys)}.')
