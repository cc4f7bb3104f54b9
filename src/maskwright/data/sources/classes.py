"""The classes of a task and what in the labels means them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from maskwright.errors import DataError
from maskwright.pixels import IGNORE_INDEX

__all__ = ["IGNORE_BITS", "MOST_LABELS", "ClassTable", "Form", "label_dtype", "not_counted"]

Form = Literal["binary", "multiclass", "multilabel"]
Value = int | str

IGNORE_BITS = 65535
"""Set of bits of pixels that do not count, in labels that may overlap."""

MOST_LABELS = 15
"""Labels that may overlap in one data set: bit 15 is left to the mark of pixels that do not count."""

_MOST_CLASSES = 255  # ids 0 to 254; 255 marks pixels that do not count
_FOREGROUND = "foreground"


@dataclass(frozen=True)
class ClassTable:
    """What the ids of a label mean.

    Attributes:
        names: What the task scores. binary: one name. multiclass: id 0, the background unless there is none, then the
            other classes. multilabel: the labels, no background.
        form: ``binary``, ``multiclass`` or ``multilabel``.
        background: Name of the background; None if every pixel belongs to a named class.
        values: For each name the values in the labels that mean it; of the background, only those given.
    """

    names: tuple[str, ...]
    form: Form
    background: str | None
    values: tuple[tuple[Value, ...], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.values) or not self.names:
            raise DataError(f"{len(self.names)} classes have {len(self.values)} lists of values. Give one for each.")
        most = MOST_LABELS if self.form == "multilabel" else _MOST_CLASSES
        if len(self.names) > most:
            raise DataError(
                f"data.labels.classes: {len(self.names)} are too many for a {self.form} task, which takes up to "
                f"{most}. Join some of them, or leave out the rare ones."
            )

    @classmethod
    def from_config(
        cls,
        classes: Iterable[tuple[str, Sequence[Value]]],
        background: str | None,
        form: Form,
        found: Iterable[Value] = (),
        *,
        numbered: bool = False,
    ) -> ClassTable:
        """The table the settings ask for.

        Args:
            classes: Name and values of each class, in order; empty: those of ``found``. Values left empty are found by
                the class's own name.
            background: Name of class 0, for classes that exclude each other; None: there is none.
            form: What the task makes of the classes.
            found: What the labels themselves name (categories, values of an attribute), in order.
            numbered: Classes without values are also found by their number: from 1, or from 0 if there is no
                background.

        Raises:
            DataError: If there are no classes, or too many.
        """
        listed = [(str(name), tuple(values)) for name, values in classes]
        if not listed:
            listed = [(str(value), (value,)) for value in dict.fromkeys(found) if str(value) != background]
        elif numbered:
            first = 0 if background is None and form == "multiclass" else 1
            listed = [(name, values or (first + place,)) for place, (name, values) in enumerate(listed)]
        if form == "binary":
            name = listed[0][0] if len(listed) == 1 else _FOREGROUND
            values = tuple(value for own_name, own in listed for value in (own or (own_name,)))
            return cls((name,), form, background, (values,))
        if not listed:
            raise DataError(
                f"A {form} task needs classes, and the labels name none. List them in data.labels.classes, for example "
                "[{name: crack, values: [1]}, {name: stain, values: [2]}]."
            )
        if form == "multiclass" and background is not None:
            listed.insert(0, (background, ()))
        names, values_of = zip(*listed, strict=True)
        return cls(names, form, background if form == "multiclass" else None, values_of)

    @property
    def num_classes(self) -> int:
        """What the task scores; 1 for binary tasks."""
        return len(self.names)

    @property
    def num_ids(self) -> int:
        """Different ids a pixel of a label may have: binary 2; multilabel the number of labels."""
        return 2 if self.form == "binary" else len(self.names)

    def id_of(self, value: Value) -> int | None:
        """The id of a value found in labels: class id (binary 0 or 1), or the number of the bit of labels that overlap.

        Values are looked up first, then names, as they are written. None for what is neither.
        """
        return self._ids.get(value)

    def name_of(self, class_id: int) -> str:
        """The name of an id; for binary tasks 0 is the background."""
        if self.form == "binary":
            return self.names[0] if class_id else (self.background or "background")
        return self.names[class_id]

    def listed(self) -> str:
        """One line for messages: each name and the values that mean it."""
        return ", ".join(
            f"{name} ({', '.join(map(str, values))})" if values else name
            for name, values in zip(self.names, self.values, strict=True)
        )

    @cached_property
    def _ids(self) -> dict[Value, int]:
        offset = 1 if self.form == "binary" else 0
        ids: dict[Value, int] = {}
        for place, values in enumerate(self.values):
            ids.update(dict.fromkeys(values, place + offset))
        for place, name in enumerate(self.names):
            ids.setdefault(name, place + offset)
        if self.form == "binary" and self.background is not None:
            ids.setdefault(self.background, 0)
        return ids

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a run's record and the model file."""
        return {
            "names": list(self.names),
            "form": self.form,
            "background": self.background,
            "values": [list(values) for values in self.values],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassTable:
        """What :meth:`to_dict` gave."""
        return cls(
            names=tuple(values["names"]),
            form=values["form"],
            background=values["background"],
            values=tuple(tuple(entry) for entry in values["values"]),
        )


def label_dtype(form: Form) -> np.dtype[Any]:
    """The type of label arrays: uint8 ids, or uint16 sets of bits."""
    return np.dtype(np.uint16 if form == "multilabel" else np.uint8)


def not_counted(form: Form) -> int:
    """What a label array holds where pixels do not count."""
    return IGNORE_BITS if form == "multilabel" else IGNORE_INDEX
