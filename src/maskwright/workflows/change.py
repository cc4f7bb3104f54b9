"""What changed between two maps: the command ``maskwright change`` without its screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskwright.prediction.change import ChangeResult

__all__ = ["change"]


def change(
    before: str | Path,
    after: str | Path,
    out: str | Path,
    *,
    min_area_m2: float = 0.0,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> ChangeResult:
    """Gaps or objects that opened, closed and stayed between two maps of the same ground.

    Args:
        before: The earlier map, ``maps/north_gaps.tif``, or the folder in which predict wrote it.
        after: The later one, on the same grid.
        out: Folder for the raster, the polygons and the table.
        min_area_m2: Smaller pieces are no polygons and are not counted.
        overwrite: Replace an earlier comparison.
        progress: Called with (done, total, what).

    Raises:
        PredictionError: If the maps cannot be compared, or the results cannot be written.
    """
    from maskwright.prediction.change import map_change

    return map_change(before, after, out, min_area_m2=min_area_m2, overwrite=overwrite, progress=progress)
