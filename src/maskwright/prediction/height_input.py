"""Rasters of heights as a predictor takes them: opened and checked, watched while they are read, at any pixel size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maskwright.config.prediction import PredictionConfig
from maskwright.data.sources import HeightFile, open_heights
from maskwright.data.sources.alignment import differences
from maskwright.data.sources.height_file import read_header
from maskwright.errors import DataError, PredictionError
from maskwright.prediction.banded import SceneBands
from maskwright.prediction.outputs import Progress
from maskwright.prediction.overlay import Thumbnail
from maskwright.prediction.resample import Rescale, plan_rescale, scaled_heights
from maskwright.types import Window

if TYPE_CHECKING:
    from maskwright.prediction.predictor import Predictor

__all__ = ["HeightRange", "HeightScene", "cache_bytes", "check_raster", "open_rasters"]

_CACHE_BYTES = 4 * 2**20
_CANOPY_NAMES = ("chm", "canopy", "ndsm")
_CANOPY_RANGE_M = (-20.0, 100.0)  # heights above ground lie within
_GROUND_RANGE_M = (-2.0, 0.5)  # and the lowest of them near 0


def open_rasters(
    stack: ExitStack,
    predictor: Predictor,
    paths: Sequence[Path],
    nodata: tuple[float | str | None, float | str | None],
    *,
    resample: bool = False,
) -> list[HeightFile]:
    """Open the rasters of one input; closed with ``stack``. With ``resample`` pixels may be of any size.

    Raises:
        DataError: If one cannot be read, has several bands, or lies in degrees.
        PredictionError: If they do not lie on one grid, or have pixels of quite another size than the training.
    """
    files = [
        stack.enter_context(open_heights(path, _nodata_rule(predictor, path, kind, wish)))
        for path, kind, wish in zip(paths, predictor.card.bands, nodata, strict=False)
    ]
    _require_one_grid(files)
    if not resample:
        predictor.card.require_pixel_size(files[0].path, files[0].grid.pixel_size_m)
    return files


def check_raster(
    predictor: Predictor,
    paths: Sequence[Path],
    nodata: tuple[float | str | None, float | str | None],
    *,
    resample: bool = False,
) -> None:
    """Everything about an input that its headers tell, without mapping it. Raises as :func:`open_rasters`."""
    with ExitStack() as stack:
        open_rasters(stack, predictor, paths, nodata, resample=resample)


def _nodata_rule(predictor: Predictor, path: Path, kind: str, wish: float | str | None) -> float | str | None:
    return predictor.card.nodata_of(kind, read_header(path).tag) if wish is None else wish


class HeightScene:
    """The rasters of one input on their way into the networks.

    Args:
        predictor: The model.
        files: Open, on one grid.
        settings: Windows, blending, resampling.
        thumbnail: Gathers the surface as it passes by; None: nobody looks at it.

    Attributes:
        grid: Of the rasters.
        scale: The pixels that the networks see, where they are not the rasters' own.
    """

    def __init__(
        self,
        predictor: Predictor,
        files: Sequence[HeightFile],
        settings: PredictionConfig,
        thumbnail: Thumbnail | None = None,
    ) -> None:
        self.grid = files[0].grid
        self._predictor, self._files, self._settings = predictor, files, settings
        size_m = predictor.card.resampled_m(self.grid.pixel_size_m) if settings.resample else None
        self.scale: Rescale | None = None if size_m is None else plan_rescale(self.grid, size_m)
        self._ranges = [HeightRange() for _ in files]
        self._reads = [extent.watching(file.read) for extent, file in zip(self._ranges, files, strict=True)]
        if thumbnail is not None:
            self._reads[0] = thumbnail.watching(self._reads[0])

    @property
    def pixel_size_m(self) -> float:
        """Side of the pixels that the networks see."""
        return self.grid.pixel_size_m if self.scale is None else self.scale.pixel_size_m

    def bands(self, heights_m: tuple[float, ...], progress: Progress) -> SceneBands:
        """What will be written; reads the surface once, for its reference.

        Raises:
            DataError: If the rasters cannot be read.
            PredictionError: If nothing was measured in them.
        """
        progress(0, 1, "reference surface")
        for file in self._files:  # opened here, read by a thread, closed here: GDAL wants one thread to do both
            file.read(Window(0, 0, 1, 1))
        reads, grid, name = self._reads, self.grid, self._files[0].path.name
        if self.scale is not None:  # what is watched is what is read for the raster's own pixels, once from the top
            reads, grid = [scaled_heights(file.read, self.scale) for file in self._files], self.scale.grid
        try:
            scene = self._predictor.scene(reads, grid.height, grid.width, self.pixel_size_m)
        except DataError as cause:
            if name in str(cause):
                raise
            raise PredictionError(f"{name}: {cause}") from cause
        return SceneBands(
            self._predictor,
            scene,
            (grid.height, grid.width),
            heights_m,
            self._settings,
            scale=self.scale,
            valid_rows=self._valid_rows,
        )

    def notes(self) -> list[str]:
        """What a person should know about the input, a sentence each."""
        bands = zip(self._files, self._ranges, self._predictor.card.bands, strict=False)
        doubts = [note for file, extent, kind in bands for note in extent.notes(kind, file.path)]
        own = [f"{file.path.name}: {note}" for file in self._files for note in file.notes]
        if self.scale is not None:
            own.append(
                f"pixels of {self.grid.pixel_size_m:g} m were seen at {self.pixel_size_m:g} m, as in the training, and "
                "the map was brought back to them"
            )
        return [*own, *doubts]

    def _valid_rows(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        part = Window(start, 0, stop - start, self.grid.width)
        valid: npt.NDArray[np.bool_] = np.logical_and.reduce([np.isfinite(read(part)) for read in self._reads])
        return valid


class HeightRange:
    """The lowest and highest of the heights that a reader passes on.

    Attributes:
        low: Metres; infinite before anything was read.
        high: Metres.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def watching(
        self, read: Callable[[Window], npt.NDArray[np.float32]]
    ) -> Callable[[Window], npt.NDArray[np.float32]]:
        """The same reader."""

        def watched(window: Window) -> npt.NDArray[np.float32]:
            heights = read(window)
            self.low = min(self.low, float(np.fmin.reduce(heights, axis=None, initial=np.inf)))
            self.high = max(self.high, float(np.fmax.reduce(heights, axis=None, initial=-np.inf)))
            return heights

        return watched

    def notes(self, kind: str, path: Path) -> tuple[str, ...]:
        """Doubts about whether a raster is what the model was trained on, with what speaks for them."""
        named_canopy = any(word in path.stem.lower() for word in _CANOPY_NAMES)
        above_ground = self.low >= _CANOPY_RANGE_M[0] and self.high <= _CANOPY_RANGE_M[1]
        if (
            kind == "dsm"
            and above_ground
            and (named_canopy or (self.low >= _GROUND_RANGE_M[0] and self.low <= _GROUND_RANGE_M[1]))
        ):
            why = " and its name says so" if named_canopy else ""
            return (
                f"{path.name} holds {self.low:.1f} to {self.high:.1f} m, as heights above ground do{why}, and "
                "the model was trained on surfaces (DSM). If it is a canopy height model, use a model trained on one; "
                "do not trust this map",
            )
        if kind == "chm" and self.high > _CANOPY_RANGE_M[1]:
            return (
                f"{path.name} holds {self.low:.1f} to {self.high:.1f} m, more than any tree is high, and the model was "
                "trained on heights above ground (CHM). If it is a surface, use a model trained on one; do not trust "
                "this map",
            )
        return ()


def cache_bytes(files: Sequence[HeightFile]) -> int:
    """What GDAL may keep of what is read: a row of blocks. Its default is a share of the machine's memory."""
    rows = (file.grid.width * file.block_rows * np.dtype(file.header.dtype).itemsize for file in files)
    return _CACHE_BYTES + sum(rows)


def _require_one_grid(files: Sequence[HeightFile]) -> None:
    for file in files[1:]:
        found = differences(files[0].grid, file.grid)
        if found:
            raise PredictionError(
                f"{files[0].path} and {file.path} lie on different grids: {'; '.join(found)}. "
                "Bring them to one grid first, for example with rio warp --like."
            )
