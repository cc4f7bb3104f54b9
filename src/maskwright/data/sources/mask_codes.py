"""From the values of a mask to class ids: numbers, ranges of numbers and colours, each said by the settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from maskwright.data.sources.classes import ClassTable, Form, label_dtype, not_counted
from maskwright.data.sources.folders import some
from maskwright.errors import DataError

__all__ = ["MaskCodes", "Value", "codes_for", "shown_value"]

Value = int | str

_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_TABLE = 65536  # values below are looked up, larger ones searched
_SHOWN = 12


@dataclass(frozen=True)
class MaskCodes:
    """What the values of masks mean.

    Attributes:
        classes: The classes of the task.
        numbers: First value, last value and code of each range that has a meaning.
        colours: Colour as 0xRRGGBB and its code; empty if masks hold numbers.
        is_auto: True if nothing is said about values: masks hold 0 and 255, or 0 and 1.
    """

    classes: ClassTable
    numbers: tuple[tuple[int, int, int], ...]
    colours: tuple[tuple[int, int], ...] = ()
    is_auto: bool = False

    @classmethod
    def automatic(cls, classes: ClassTable) -> MaskCodes:
        """Codes of masks whose foreground is 1 or 255, told by each mask."""
        return cls(classes, ((0, 0, 0),), is_auto=True)

    @property
    def form(self) -> Form:
        return self.classes.form

    @property
    def has_colours(self) -> bool:
        return bool(self.colours)

    @property
    def foreground(self) -> int:
        """Code of the one class of binary tasks."""
        return 1

    def code(self, class_id: int) -> int:
        """What is painted for a class: its id, or its bit."""
        return 1 << class_id if self.form == "multilabel" else class_id

    def recipe(self) -> dict[str, Any]:
        """Plain values that change what is painted."""
        return {
            "form": self.form,
            "numbers": [list(entry) for entry in self.numbers],
            "colours": [list(entry) for entry in self.colours],
            "auto": self.is_auto,
        }

    def with_number(self, value: int, code: int) -> MaskCodes:
        """The same and one more number."""
        return replace(self, numbers=(*self.numbers, (value, value, code)))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """(H, W) codes of values that are all known."""
        if self.colours or values.dtype.itemsize > 2 or values.dtype.kind != "u":
            return self._searched(values)
        return np.asarray(self._table[values])

    def require_known(self, found: Mapping[int, int], where: str) -> None:
        """Make sure that every value has a meaning.

        Args:
            found: Value to its number of pixels.
            where: What holds them, for the message.

        Raises:
            DataError: Naming the values without one and what to set.
        """
        unknown = {value: count for value, count in found.items() if not self._is_known(value)}
        if unknown:
            raise DataError(self._unknown_text(unknown, found, where))

    def auto_value(self, found: Mapping[int, int], where: str) -> int | None:
        """The value that means foreground in a mask of 0 and 255 or 0 and 1; None if it holds 0 alone.

        Raises:
            DataError: If it holds anything else.
        """
        painted = sorted(set(found) - {0})
        if not painted:
            return None
        if painted in ([1], [255]):
            return painted[0]
        name = self.classes.names[0]
        if len(painted) > _SHOWN or (painted[-1] > 200 and len(painted) > 3):
            advice = (
                "Its edges are grey, as JPEG or smoothing leave them. Save masks as PNG without smoothing, or say from "
                f'where on a pixel is foreground: data.labels.classes: [{{name: {name}, values: ["128-255"]}}] with '
                'background_values: ["0-127"]'
            )
        elif painted == [1, 255]:
            advice = (
                "255 may mean foreground or pixels that do not count. Say it: data.labels.classes: "
                f"[{{name: {name}, values: [1]}}] with ignore_values: [255], or values: [1, 255]"
            )
        else:
            advice = (
                "Say which values are foreground: "
                f"data.labels.classes: [{{name: {name}, values: [{', '.join(map(str, painted))}]}}], or which do not "
                "count: ignore_values"
            )
        raise DataError(
            f"{_capital(where)} holds {_listing(found)}, and a mask of one class holds 0 and 255, or 0 and 1. {advice}."
        )

    @cached_property
    def _table(self) -> np.ndarray:
        table = np.full(_TABLE, not_counted(self.form), label_dtype(self.form))
        for first, last, code in self.numbers:
            table[first : last + 1] = code
        return table

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First values ascending, last values, codes."""
        entries = [(colour, colour, code) for colour, code in self.colours] or list(self.numbers)
        first, last, code = np.array(sorted(entries), dtype=np.int64).reshape(-1, 3).T
        return first, last, code.astype(label_dtype(self.form))

    def _searched(self, values: np.ndarray) -> np.ndarray:
        first, _, code = self._sorted
        return np.asarray(code[np.clip(np.searchsorted(first, values, side="right") - 1, 0, len(first) - 1)])

    def _is_known(self, value: int) -> bool:
        if self.colours:
            return any(value == colour for colour, _ in self.colours)
        return any(first <= value <= last for first, last, _ in self.numbers)

    def _unknown_text(self, unknown: Mapping[int, int], found: Mapping[int, int], where: str) -> str:
        coloured = self.has_colours
        head = f"{_capital(where)} holds {_listing(unknown, coloured)}, which no class means"
        known = f"Classes: {self._meanings()}."
        if not coloured and set(found) <= {0, 255} and 255 in unknown:
            name = self.classes.names[-1]
            return (
                f"{head}: it is a mask of 0 and 255, read as class numbers. {known} If 255 is {name}, set its values: "
                "[255]; if it marks pixels that do not count, set data.labels.ignore_values: [255]."
            )
        example = shown_value(next(iter(unknown)), coloured)
        example = f'"{example}"' if coloured else example
        return (
            f"{head}. {known} Give each value to a class (data.labels.classes, values: [{example}]), to "
            "background_values, or to ignore_values."
        )

    def _meanings(self) -> str:
        names = {self.code(place + (self.form == "binary")): name for place, name in enumerate(self.classes.names)}
        if self.form != "multiclass" or self.classes.background is not None:
            names[0] = self.classes.background or "background"
        names[not_counted(self.form)] = "does not count"
        entries = self.numbers if not self.colours else [(colour, colour, code) for colour, code in self.colours]
        shown = []
        for first, last, code in entries:
            value = shown_value(first, self.has_colours)
            shown.append(f"{names.get(code, code)} = {value if first == last else f'{first}-{last}'}")
        return ", ".join(shown)


def codes_for(
    classes_config: Sequence[tuple[str, Sequence[Value]]],
    background: str | None,
    form: Form,
    background_values: Sequence[Value],
    ignore_values: Sequence[Value],
    found: Callable[[], Mapping[str, int]],
) -> MaskCodes:
    """The codes that the settings ask for.

    Args:
        classes_config: Name and values of each class.
        background: Name of class 0, or None.
        form: What the task makes of the classes.
        background_values: Values that mean background; of no use where there is none.
        ignore_values: Values that do not count.
        found: What some masks hold, for a message; asked only if classes are needed and none are listed.

    Raises:
        DataError: If classes are needed and not listed, or a value is no value of masks or has two meanings.
    """
    if form == "binary" and not any(values for _, values in classes_config) and len(classes_config) < 2:
        classes = ClassTable.from_config(classes_config, background, form)
        if tuple(background_values) == (0,) and not ignore_values:
            return MaskCodes.automatic(classes)
        raise DataError(_needs_values_text(classes.names[0]))
    if not classes_config:
        raise DataError(_needs_classes_text(form, found()))
    classes = ClassTable.from_config(classes_config, background, form, numbered=True)
    has_background = form != "multiclass" or background is not None
    entries: list[tuple[int, int, bool, int]] = []
    for place, values in enumerate(classes.values):
        code = 1 << place if form == "multilabel" else place + (form == "binary")
        entries += [(*_span(value), code) for value in values]
    if has_background:
        entries += [(*_span(value), 0) for value in background_values]
    entries += [(*_span(value), not_counted(form)) for value in ignore_values]
    return _coded(classes, entries, background_values)


def _coded(
    classes: ClassTable, entries: Sequence[tuple[int, int, bool, int]], background_values: Sequence[Value]
) -> MaskCodes:
    colours = [(first, code) for first, _, is_colour, code in entries if is_colour]
    numbers = [(first, last, code) for first, last, is_colour, code in entries if not is_colour]
    if colours:
        plain = [entry for entry in numbers if entry != (0, 0, 0)]
        if plain:
            raise DataError(
                "data.labels: some values are colours (#rrggbb) and others numbers. Masks hold one or the other: give "
                "all values as colours, or all as numbers."
            )
        if tuple(background_values) == (0,) and all(colour != 0 for colour, _ in colours) and numbers:
            colours.append((0, 0))  # black, unless it is a class
        numbers = []
    spans = sorted([(colour, colour, code) for colour, code in colours] or numbers)
    for (_, last, code), (again, _, other) in pairwise(spans):
        if again <= last and code != other:
            raise DataError(
                f"data.labels: the value {shown_value(again, bool(colours))} has two meanings. Name it once among the "
                "values of the classes, background_values and ignore_values (background_values is [0] if unset)."
            )
    return MaskCodes(classes, tuple(numbers), tuple(colours))


def _span(value: Value) -> tuple[int, int, bool]:
    """First and last number a value stands for, and whether it is a colour."""
    text = str(value).strip()
    if text.lstrip("-").isdecimal():
        return int(text), int(text), False
    if _COLOUR.fullmatch(text):
        return int(text[1:], 16), int(text[1:], 16), True
    found = _RANGE.fullmatch(text)
    if found and int(found[1]) <= int(found[2]):
        return int(found[1]), int(found[2]), False
    raise DataError(
        f"data.labels: {value!r} is no value of a mask. Give a whole number (1), a range (128-255) or a colour "
        "(#ff0000)."
    )


def shown_value(value: int, is_colour: bool) -> str:
    """A value as the settings write it."""
    return f"#{value:06x}" if is_colour else str(value)


def _listing(found: Mapping[int, int], coloured: bool = False) -> str:
    """Values and their pixels, the first few of them."""
    shown = [f"{shown_value(value, coloured)} ({count} px)" for value, count in sorted(found.items())]
    return f"the value{'s' if len(shown) > 1 else ''} {some(shown, _SHOWN)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _needs_values_text(name: str) -> str:
    return (
        "data.labels: background_values or ignore_values are set, so the values of the foreground must be said as "
        f"well: data.labels.classes: [{{name: {name}, values: [255]}}]."
    )


def _needs_classes_text(form: Form, found: Mapping[str, int]) -> str:
    values = sorted((value for value in found if value not in ("0", "#000000")), key=lambda value: (len(value), value))
    quoted = [f'"{value}"' if value.startswith("#") else value for value in values[:3]]
    example = ", ".join(f"{{name: class_{place}, values: [{value}]}}" for place, value in enumerate(quoted or ["1"], 1))
    total = some((f"{value} ({found[value]} px)" for value in values), _SHOWN)
    return (
        f"A {form} task needs its classes: masks do not name them. Some masks hold besides 0: {total or 'nothing'}. "
        f"List the classes, for example data.labels.classes: [{example}]."
    )
