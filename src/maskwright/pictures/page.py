"""One self-contained HTML page: text, tables, pictures and commands in a file that opens anywhere, without a network.

::

    page("Gaps in Cauaxi", [("Result", [paragraph("..."), table(["height", "IoU"], [["5 m", 0.71]])])])
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ShapeError

if TYPE_CHECKING:
    from jinja2 import Template
    from PIL.Image import Image

__all__ = ["Block", "Column", "code", "figure", "page", "paragraph", "sentences", "table"]

_MISSING = "-"
_PAGE_DPI = 96  # pixels of a page per inch, as browsers count
_LARGE_PNG = 300_000  # bytes from which a picture, a relief usually, is tried as JPEG
_WORD_OF_NUMBER = re.compile(r"[(\[]?[+\-\u2212]?\d[\d.,]*([eE][+-]?\d+)?%?[,;)\]]?")
_WORDS_BETWEEN = {"to", "of", "/", "m", "m2", "m²", "ha", "km", "px", "s", "min", "h", "MB", "MiB", "GB", "GiB", "Mpx"}


@dataclass(frozen=True, slots=True)
class Column:
    """Head of a column of a table. ``number``: its cells are numbers and stand to the right."""

    name: str
    unit: str = ""
    number: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a page; made by the functions below."""

    kind: str
    text: str = ""
    texts: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    caption: str = ""
    uri: str = ""
    width: int | None = None


def paragraph(text: str) -> Block:
    """A paragraph of plain text."""
    return Block("paragraph", text=text)


def sentences(texts: Sequence[str]) -> Block:
    """A list of plain sentences."""
    return Block("sentences", texts=tuple(texts))


def code(command: str) -> Block:
    """A command; one click marks all of it for copying."""
    return Block("code", text=command)


def figure(image: Image | NDArray[np.uint8], caption: str = "", *, width_px: int | None = None) -> Block:
    """A picture inside the page.

    Args:
        image: PIL image, or (H, W, 3) uint8.
        caption: Said below it, and to people who cannot see it.
        width_px: Width on the page; unset: from the image's dpi, else its own width; at most that of the text.
    """
    import PIL.Image

    picture = PIL.Image.fromarray(image) if isinstance(image, np.ndarray) else image
    return Block(
        "figure", caption=caption, uri=_data_uri(picture.convert("RGB")), width=width_px or _shown_width(picture)
    )


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    units: Mapping[str, str] | None = None,
    caption: str = "",
) -> Block:
    """A table; columns that hold only numbers stand to the right, the first column names the rows.

    Args:
        columns: Names of the columns.
        rows: Cells; text as it is, floats with three digits, None and NaN as a dash.
        units: Unit of a column, by its name.
        caption: Said above the table.

    Raises:
        ShapeError: If a row does not have one cell for each column.
    """
    for row in rows:
        if len(row) != len(columns):
            raise ShapeError(f"A row of {len(row)} cells does not fit {len(columns)} columns: {list(row)}.")
    cells = tuple(tuple(_text(value) for value in row) for row in rows)
    heads = tuple(
        Column(name, (units or {}).get(name, ""), index > 0 and _is_number([row[index] for row in cells]))
        for index, name in enumerate(columns)
    )
    return Block("table", columns=heads, rows=cells, caption=caption)


def page(title: str, sections: Sequence[tuple[str, Sequence[Block]]], *, subtitle: str = "") -> str:
    """The whole page as text. Everything given is escaped; nothing is fetched when it is opened.

    Args:
        title: Head of the page.
        sections: (heading, blocks) pairs, in order.
        subtitle: A quiet line below the title.
    """
    return _template().render(title=title, subtitle=subtitle, sections=list(sections)) + "\n"


@cache
def _template() -> Template:
    import jinja2

    source = resources.files("maskwright.pictures").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(source)


def _text(value: Any) -> str:
    if value is None:
        return _MISSING
    if isinstance(value, (float, np.floating)):
        return f"{value:.3f}" if math.isfinite(value) else _MISSING
    return str(value)


def _is_number(cells: Sequence[str]) -> bool:
    """True if every cell that says something is made of numbers, with units and words between them."""
    spoken = [cell.split() for cell in cells if cell.strip() not in ("", _MISSING)]
    return bool(spoken) and all(
        _WORD_OF_NUMBER.fullmatch(words[0]) and all(_WORD_OF_NUMBER.fullmatch(w) or w in _WORDS_BETWEEN for w in words)
        for words in spoken
    )


def _shown_width(image: Image) -> int | None:
    """Charts hold more pixels than the page shows, and say so by their dpi."""
    dpi = image.info.get("dpi", (0, 0))[0]
    return round(image.width * _PAGE_DPI / float(dpi)) if dpi > _PAGE_DPI else None


def _data_uri(image: Image) -> str:
    png = _encoded(image, "PNG")  # optimize would take half as long again for a fortieth of the bytes
    if len(png) > _LARGE_PNG:
        jpeg = _encoded(image, "JPEG", quality=90, subsampling=0)
        if len(jpeg) < len(png):
            return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _encoded(image: Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
