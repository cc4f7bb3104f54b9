"""What was found wrong with labels, gathered by kind so that a thousand alike make one text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from maskwright.data.sources.image_header import printable

__all__ = ["Findings", "Unusable", "shown"]

Unusable = Literal["refuse", "skip"]

_SHOWN = 5
_LEAVE_OUT = "Correct or remove them, or set data.labels.unusable: skip to leave them out with a note"


class Findings:
    """What is wrong with labels, gathered by kind so that a thousand alike make one text.

    Args:
        file: The file or folder meant, named in each text.
        unusable: ``skip`` turns what :meth:`unusable` is told from faults into notes.
    """

    def __init__(self, file: Path | str, unusable: Unusable = "refuse") -> None:
        self._file = file
        self._unusable = unusable
        self._texts: dict[str, list[str]] = defaultdict(list)
        self._faults: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._notes: dict[tuple[str, str], list[str]] = defaultdict(list)

    def fault(self, what: str, where: str, todo: str) -> None:
        """Something that must be mended: what is wrong, one place of it, what to do."""
        self._faults[what, todo].append(where)

    def unusable(self, what: str, where: str) -> None:
        """An object that cannot be painted."""
        if self._unusable == "refuse":
            self._faults[what, _LEAVE_OUT].append(where)
        else:
            self._notes[f"left out, {what}", ""].append(where)

    def told(self, fault: str, where: str = "") -> None:
        """A whole text of a fault, and one place of it where the text names none."""
        self._texts[printable(fault)] += [where] if where else []

    def note(self, what: str, where: str, todo: str = "") -> None:
        """Something a person should know."""
        self._notes[what, todo].append(where)

    @property
    def faults(self) -> tuple[str, ...]:
        """A text for each kind of fault."""
        texts = [printable(f"{shown(where)}: {text}") if where else text for text, where in self._texts.items()]
        return (*texts, *self._worded(self._faults))

    @property
    def notes(self) -> tuple[str, ...]:
        """A text for each kind of note, without a full stop."""
        return tuple(text.removesuffix(".") for text in self._worded(self._notes))

    def _worded(self, found: dict[tuple[str, str], list[str]]) -> tuple[str, ...]:
        return tuple(
            printable(f"{self._file}: {what}: {shown(where)}.") + (f" {todo}." if todo else "")
            for (what, todo), where in found.items()
        )


def shown(places: Sequence[str]) -> str:
    """The first few of many, and how many more there are."""
    more = len(places) - _SHOWN
    return ", ".join(places[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
