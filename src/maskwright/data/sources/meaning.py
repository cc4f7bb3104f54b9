"""What a category or a value in the labels means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from maskwright.data.sources.classes import ClassTable
from maskwright.data.sources.paint import UNCOUNTED

__all__ = ["BACKGROUND", "ClassList", "Meaning", "Value", "named", "only_class", "tells_too_little"]

BACKGROUND = -2
"""Meaning of values that are painted as background: left out."""

Value = int | str
ClassList = Sequence[tuple[str, Sequence[Value]]]


@dataclass(frozen=True)
class Meaning:
    """From what labels say to what is painted.

    Attributes:
        classes: The classes of the task.
        background_values: Values painted as background.
        ignore_values: Values whose pixels do not count.
    """

    classes: ClassTable
    background_values: tuple[Value, ...] = ()
    ignore_values: tuple[Value, ...] = ()

    def of(self, *values: Value) -> int | None:
        """Class id or bit of the first of several names of one thing that is known.

        A number and the text of it are the same where only one of them is known.

        Returns:
            An id, ``UNCOUNTED``, ``BACKGROUND``, or None if no name is known.
        """
        spellings = [*values, *(_other_spelling(value) for value in values)]
        if any(value in self.ignore_values for value in spellings):
            return UNCOUNTED
        if any(value in self.background_values for value in spellings):
            return BACKGROUND
        found = next((label for value in spellings if (label := self.classes.id_of(value)) is not None), None)
        unpainted = found == 0 and self.classes.form != "multilabel" and self.classes.background is not None
        return BACKGROUND if unpainted else found

    def recipe(self) -> dict[str, Any]:
        """Plain values that change what is painted."""
        return {
            "classes": self.classes.to_dict(),
            "background_values": list(self.background_values),
            "ignore_values": list(self.ignore_values),
        }


def only_class(classes: ClassTable) -> int:
    """Id of the one class of labels that tell no classes apart: the first that is not the background."""
    return 1 if classes.form == "binary" or (classes.form == "multiclass" and classes.background is not None) else 0


def tells_too_little(classes: ClassTable) -> bool:
    """True if there are several classes, so that labels must say which is meant."""
    return len(classes.names) > 1 + only_class(classes) * (classes.form == "multiclass")


def named(things: Iterable[tuple[Value, ...]], *left_out: Sequence[Value]) -> list[Value]:
    """The first name of each thing that may become a class: one with no name said to be background or ignored.

    Args:
        things: All names of each thing, for example name and number of a category.
        left_out: Values that become no class.
    """
    unwanted = {spelling for group in left_out for value in group for spelling in (value, _other_spelling(value))}
    return list(dict.fromkeys(names[0] for names in things if unwanted.isdisjoint(names)))


def _other_spelling(value: Value) -> Value:
    if isinstance(value, int):
        return str(value)
    return int(value) if value.isascii() and value.isdigit() else value
