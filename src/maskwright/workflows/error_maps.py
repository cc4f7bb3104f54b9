"""Maps of right and wrong: a GeoTIFF for each site or raster, a PNG for each photograph, filled tile by tile."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import RunError
from maskwright.files import explain_os_error
from maskwright.types import Place, Window

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Scene

__all__ = ["CODES", "ErrorMaps", "error_codes"]

CODES = {"rightly not called": 0, "rightly called": 1, "wrongly called": 2, "missed": 3}
"""Values of a map; 255 does not count."""

_NOT_COUNTED = 255
_COLORS = {0: (235, 235, 230), 1: (0, 114, 178), 2: (213, 94, 0), 3: (240, 200, 40), 255: (150, 150, 150)}
_BLOCK_PX = 256


def error_codes(said: NDArray[np.bool_], true: NDArray[np.bool_], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(K, H, W) :data:`CODES` of what is said and what is true (K, H, W); 255 where ``valid`` (H, W) is False."""
    codes = np.where(said, np.where(true, 1, 2), np.where(true, 3, 0)).astype(np.uint8)
    codes[:, ~valid] = _NOT_COUNTED
    return codes


class ErrorMaps:
    """Gathers batches and writes one map after the other; a scene is written when the next one begins.

    Args:
        folder: Where the maps go; made if missing.
        scenes: The sites or images.
        columns: The K heights or classes.
        metres: True for predicted heights: maps hold what is said minus what is true, in metres.
        photographs: Scenes without a place on the ground become PNGs of all things together.
        things: Columns that are drawn in a PNG: all but a background.
    """

    def __init__(
        self,
        folder: Path,
        scenes: Sequence[Scene],
        columns: Sequence[str],
        *,
        metres: bool,
        photographs: bool,
        things: Sequence[int],
    ) -> None:
        self.folder, self.columns, self.metres, self.photographs = folder, tuple(columns), metres, photographs
        self.things = list(things)
        self.files: list[Path] = []
        self._scenes = {scene.name: scene for scene in scenes}
        self._open: tuple[str, Any] | None = None

    def __enter__(self) -> ErrorMaps:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(explain_os_error(error, self.folder)) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, said: NDArray[Any], true: NDArray[Any], valid: NDArray[np.bool_], where: Sequence[Place]) -> None:
        """Take a batch, see :data:`~maskwright.workflows.tally.Watch`; tiles come scene by scene.

        Raises:
            RunError: If a map cannot be written.
        """
        for index, place in enumerate(where):
            values: NDArray[Any]
            if self.metres:
                values = np.where(valid[index], said[index] - true[index], np.float32(np.nan)).astype(np.float32)
            else:
                values = error_codes(said[index], true[index], valid[index])
            self._put(place, values)

    def _put(self, place: Place, values: NDArray[Any]) -> None:
        if self._open is None or self._open[0] != place.scene:
            self._close()
            self._open = place.scene, self._begin(self._scenes[place.scene])
        grid = self._scenes[place.scene].grid
        inside = place.window.intersection(Window(0, 0, grid.height, grid.width))
        if inside is None:
            return
        row, col = inside.row - place.window.row, inside.col - place.window.col
        part = values[:, row : row + inside.height, col : col + inside.width]
        target = self._open[1]
        if isinstance(target, np.ndarray):
            target[inside.row : inside.row_stop, inside.col : inside.col_stop] = self._together(part)
            return
        rows, cols = (inside.row, inside.row_stop), (inside.col, inside.col_stop)
        target.write(part, window=(rows, cols))

    def _together(self, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) codes of all things: the worst that is said of a pixel."""
        worst: NDArray[np.uint8] = codes[self.things].max(axis=0)
        return worst

    def _begin(self, scene: Scene) -> Any:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

        grid = scene.grid
        name = re.sub(r"[^\w.-]+", "_", scene.name)
        if self.photographs and not grid.is_georeferenced and not self.metres:
            self.files.append(self.folder / f"{name}.png")
            return np.full((grid.height, grid.width), _NOT_COUNTED, np.uint8)
        path = self.folder / f"{name}.tif"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a raster without a place is as good
                raster = rasterio.open(
                    path,
                    "w",
                    driver="GTiff",
                    height=grid.height,
                    width=grid.width,
                    count=len(self.columns),
                    dtype="float32" if self.metres else "uint8",
                    nodata=np.nan if self.metres else _NOT_COUNTED,
                    crs=grid.crs,
                    transform=grid.affine(),
                    tiled=True,
                    blockxsize=_BLOCK_PX,
                    blockysize=_BLOCK_PX,
                    compress="deflate",
                    interleave="band",
                    bigtiff="if_safer",
                )
        except (RasterioError, OSError) as error:
            raise RunError(f"{path} could not be written: {error}. Free some space or choose another --out.") from error
        raster.descriptions = self.columns
        if not self.metres:
            raster.update_tags(**{f"MASKWRIGHT_CODE_{code}": text for text, code in CODES.items()})
            if len(self.columns) == 1:  # a GeoTIFF has colours for a single band alone
                raster.write_colormap(1, {code: (*color, 255) for code, color in _COLORS.items()})
        self.files.append(path)
        return raster

    def _close(self) -> None:
        if self._open is None:
            return
        target = self._open[1]
        self._open = None
        if not isinstance(target, np.ndarray):
            target.close()
            return
        from PIL import Image

        table = np.zeros((256, 3), np.uint8)
        for code, color in _COLORS.items():
            table[code] = color
        image = Image.fromarray(target)
        image.putpalette(table.tobytes())
        try:
            image.save(self.files[-1])
        except OSError as error:
            raise RunError(explain_os_error(error, self.files[-1])) from error
