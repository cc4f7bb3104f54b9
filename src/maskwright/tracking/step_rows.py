"""Step rows of a block of the event log as columns, parsed together instead of one by one.

A row of a training step is written by one line of code, so its names and their order are the same in millions of rows.
One of them, read as JSON, tells where each number stands between the commas; the others are then cut and converted as
arrays. A line that does not look like it is handed back for the ordinary reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwright.files import parse_json

__all__ = ["StepColumns", "read_step_rows"]

_COMMA, _NEWLINE, _DOT, _MINUS, _E = b",\n.-e"
_ZERO = ord("0")
_PADDING = 32  # bytes behind a block, so that no window over it reaches beyond
_KIND = b'"kind": "step"'

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Words = NDArray[np.uint64]  # eight characters each, the first in the lowest byte

_BYTE = np.uint64(0xFF)
_BYTES = np.uint64(0x0101010101010101)  # times a byte: that byte eight times
_ZEROS = _BYTES * np.uint64(_ZERO)
_ABOVE_NINE = _BYTES * np.uint64(0x80 - _ZERO - 10)  # added to a character above 9 it sets the top bit
_TOP_BITS = _BYTES * np.uint64(0x80)
_MASKS = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)  # the first characters of a word
_TENS = 10.0 ** np.arange(100)


@dataclass(frozen=True)
class StepColumns:
    """Rows of training steps, in the order written.

    Attributes:
        attempt: (N,) number of the attempt.
        global_step: (N,) updates done.
        values: By name (N,) float64; nan: not finite, or not there.
    """

    attempt: _Ints
    global_step: _Ints
    values: dict[str, _Floats]

    def __len__(self) -> int:
        return len(self.global_step)


def read_step_rows(block: bytes, names: Sequence[str]) -> tuple[StepColumns, list[bytes]]:
    """Take the step rows out of a block of whole lines.

    Args:
        block: Lines of JSON, each with its end.
        names: The numbers that are wanted of each row.

    Returns:
        The step rows that look alike, and all other lines in their order: other kinds, torn ones, other forms.
    """
    data = np.frombuffer(block + bytes(_PADDING), np.uint8)
    marks = np.flatnonzero((data == _COMMA) | (data == _NEWLINE))
    line_ends = np.flatnonzero(data[marks] == _NEWLINE)  # places in marks
    ends = marks[line_ends]
    starts = np.concatenate(([0], ends[:-1] + 1))
    form = _form(block, names)
    if form is None:
        return _no_rows(names), _lines(block, starts, ends)
    alike = np.flatnonzero(np.diff(line_ends, prepend=-1) == form.commas + 1)
    words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))  # the eight characters from each place on
    begins, stops, fits = _cut(words, marks, line_ends[alike], form)
    if not fits.all():
        alike, begins, stops = alike[fits], begins[:, fits], stops[:, fits]
    numbers, odd = _integers(words, begins[:2], stops[:2])
    floats, odd_floats = _numbers(words, begins[2:], stops[2:])
    for field, row in np.argwhere(odd_floats):
        floats[field, row] = _odd_number(block[begins[field + 2, row] : stops[field + 2, row]])
    good = ~odd.any(axis=0)
    other = np.ones(len(ends), bool)
    other[alike[good]] = False
    found = dict(zip((field.name for field in form.fields[2:]), floats, strict=True))
    nothing = np.full(len(alike), np.nan)
    return (
        StepColumns(numbers[0, good], numbers[1, good], {name: found.get(name, nothing)[good] for name in names}),
        _lines(block, starts[other], ends[other]),
    )


def _cut(words: _Words, marks: _Ints, line_ends: _Ints, form: _Form) -> tuple[_Ints, _Ints, NDArray[np.bool_]]:
    """Where the numbers of each line begin and end, (fields, n) each, and which lines really are of the form."""
    begins, stops = [], []
    fits = words[marks[line_ends - form.commas + form.kind_comma + 1] - 8] == _word(_KIND[-8:])
    for field in form.fields:
        comma = marks[line_ends - form.commas + field.comma]
        begin = comma + field.width
        fits &= (words[comma] == field.head) & (words[begin - 8] == field.tail)
        begins.append(begin)
        is_last = field.comma + 1 == form.commas  # it ends before the bracket
        stops.append(marks[line_ends - form.commas + field.comma + 1] - is_last)
    return np.stack(begins), np.stack(stops), fits


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a number stands: behind which comma, and after how many bytes that begin and end how."""

    name: str
    comma: int
    width: int
    head: np.uint64
    tail: np.uint64


@dataclass(frozen=True, slots=True)
class _Form:
    commas: int
    kind_comma: int
    fields: tuple[_Field, ...]


def _form(block: bytes, names: Sequence[str]) -> _Form | None:
    """The form of the first step row that can serve as the pattern of the others; None if there is none."""
    place = block.find(_KIND)
    while place >= 0:
        end = block.index(b"\n", place)
        form = _form_of(block[block.rfind(b"\n", 0, place) + 1 : end], names)
        if form is not None:
            return form
        place = block.find(_KIND, end)
    return None


def _form_of(line: bytes, names: Sequence[str]) -> _Form | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or {"kind", "attempt", "global_step"} - row.keys() or row["kind"] != "step":
        return None
    if any(isinstance(value, dict | list) for value in row.values()) or len(row) != line.count(b",") + 1:
        return None
    places = {name: index for index, name in enumerate(row)}
    fields = []
    for name in ("attempt", "global_step", *names):
        text = b', "' + name.encode() + b'": '
        if name not in places:
            continue
        if places[name] == 0 or len(text) < 8 or text not in line:
            return None
        fields.append(_Field(name, places[name] - 1, len(text), _word(text[:8]), _word(text[-8:])))
    if places["kind"] == 0:
        return None
    return _Form(len(row) - 1, places["kind"] - 1, tuple(fields))


def _word(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text, "little"))


def _integers(words: _Words, begin: _Ints, end: _Ints) -> tuple[_Ints, NDArray[np.bool_]]:
    """The whole numbers of up to eight digits between ``begin`` and ``end``, and which are something else."""
    size = end - begin
    value, plain = _digits(words[begin], size)
    return (value / _TENS[8 - np.clip(size, 0, 8)]).astype(np.int64), ~plain | (size < 1) | (size > 8)


def _numbers(words: _Words, begin: _Ints, end: _Ints) -> tuple[_Floats, NDArray[np.bool_]]:
    """The decimal numbers between ``begin`` and ``end``, to some 15 digits, and which are written in another way."""
    negative = words[begin] & _BYTE == _MINUS
    begin = begin + negative
    exponent, odd = _exponents(words, end, end - begin)
    stop = np.where(exponent != 0, end - 4, end) - begin  # characters of digits and their dot
    dot = np.minimum(_first_dot(words[begin]), stop)
    whole, plain = _digits(words[begin], dot)
    high, plain_high = _digits(words[begin + dot + 1], stop - dot - 1)
    low, plain_low = _digits(words[begin + dot + 9], stop - dot - 9)
    odd |= ~(plain & plain_high & plain_low) | (dot < 1) | (dot > 7)
    value = whole / _TENS[8 - np.clip(dot, 0, 8)] + (high * 1e8 + low) / 1e16
    scale = np.abs(exponent)
    value = np.where(exponent < 0, value / _TENS[scale], value * _TENS[scale])
    return np.where(negative, -value, value), odd


def _digits(word: _Words, count: _Ints) -> tuple[_Floats, NDArray[np.bool_]]:
    """The first ``count`` characters (0 to 8) as a number of eight digits, zeros behind; and whether all are digits."""
    kept = np.clip(count, 0, 8)
    word = (word & _MASKS[kept]) | (_ZEROS & ~_MASKS[kept])
    plain = ((word + _ABOVE_NINE) | (word - _ZEROS)) & _TOP_BITS == 0
    word = (word & _BYTES * np.uint64(0x0F)) * np.uint64(2561) >> np.uint64(8)  # pairs of digits, then of pairs
    word = (word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601) >> np.uint64(16)
    word = (word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001) >> np.uint64(32)
    return word.astype(np.float64), plain


def _first_dot(word: _Words) -> _Ints:
    """The place of the first dot among eight characters; 8 if there is none."""
    zero_at_dot = word ^ (_BYTES * np.uint64(_DOT))
    marked = (zero_at_dot - _BYTES) & ~zero_at_dot & _TOP_BITS
    lowest = (marked & (~marked + np.uint64(1))).astype(np.float64)
    return np.where(marked == 0, 8, (np.frexp(lowest)[1] - 8) // 8)


def _exponents(words: _Words, end: _Ints, length: _Ints) -> tuple[_Ints, NDArray[np.bool_]]:
    """Exponents of two digits as in 1.5e-05, 0 where there is none; and which numbers have one of three digits."""
    last = words[end - 5]  # e-123 or .e-12 in its lower five bytes
    character = [(last >> np.uint64(8 * place) & _BYTE).astype(np.int64) for place in range(5)]
    long = length > 4
    size = (character[3] - _ZERO) * 10 + character[4] - _ZERO
    signed = np.where(character[2] == _MINUS, -size, size)
    return np.where(long & (character[1] == _E), signed, 0), long & (character[0] == _E)


def _odd_number(text: bytes) -> float:
    """A value that is no plain decimal; nan for what is not finite or no number."""
    try:
        value = float(text)
    except ValueError:  # "NaN", null
        return np.nan
    return value if np.isfinite(value) else np.nan


def _no_rows(names: Sequence[str]) -> StepColumns:
    none = np.zeros(0, np.int64)
    return StepColumns(none, none, {name: np.zeros(0) for name in names})


def _lines(block: bytes, starts: _Ints, ends: _Ints) -> list[bytes]:
    return [block[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
