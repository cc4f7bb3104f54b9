"""difference_table: what differs between two things, for the text of an error."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["difference_table"]

_MOST_ROWS = 12
_MOST_CHARACTERS = 60


def difference_table(heads: tuple[str, str, str], rows: Sequence[tuple[str, str, str]]) -> str:
    """Rows of (what, one, the other) under their heads, aligned; of many rows the first, of long texts the beginning.

    Args:
        heads: Names of the columns.
        rows: What differs.
    """
    shown = [heads, *(_shortened(row) for row in rows[:_MOST_ROWS])]
    widths = [max(len(row[column]) for row in shown) for column in range(2)]
    lines = [f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in shown]
    if len(rows) > _MOST_ROWS:
        lines.append(f"  and {len(rows) - _MOST_ROWS} more")
    return "\n".join(lines)


def _shortened(row: tuple[str, str, str]) -> tuple[str, str, str]:
    what, one, other = (text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..." for text in row)
    return what, one, other
