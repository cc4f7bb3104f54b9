"""A scene through a predictor to finished rows that are written while the next are computed, and noted in a journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from maskwright import __version__
from maskwright.config.prediction import PredictionConfig
from maskwright.errors import PredictionError
from maskwright.prediction.geotiff import RowWriter
from maskwright.prediction.journal import Journal
from maskwright.prediction.outputs import Progress
from maskwright.prediction.raster_stream import Band, SceneRows, stream
from maskwright.prediction.resample import Rescale, restored

if TYPE_CHECKING:
    from maskwright.prediction.predictor import Predictor

__all__ = ["SceneBands", "Sink", "identity_of", "write_bands"]

_WAITING = 2  # finished bands that wait to be written
_SAME_RESULT = ("workers", "batch_size")  # settings that change no pixel


class Sink(Protocol):
    """What becomes of finished rows."""

    @property
    def files(self) -> Sequence[RowWriter]:
        """What they are written to."""

    def write(self, band: Band) -> None:
        """Take the next rows; by one thread, in order."""

    def facts(self) -> dict[str, Any]:
        """What was counted so far, plain values."""

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Go on counting from what :meth:`facts` gave."""


class SceneBands:
    """The finished rows of one scene.

    Args:
        predictor: The model.
        scene: Its input.
        size: Rows and columns of ``scene``.
        heights_m: Heights asked for; none for other tasks.
        settings: Windows, blending, who computes.
        scale: Where ``scene`` has other pixels than the raster; None: it has the same.
        valid_rows: With ``scale``, (start, stop) to (h, W) bool: which of the raster's own pixels count.
    """

    def __init__(
        self,
        predictor: Predictor,
        scene: SceneRows,
        size: tuple[int, int],
        heights_m: tuple[float, ...],
        settings: PredictionConfig,
        *,
        scale: Rescale | None = None,
        valid_rows: Callable[[int, int], npt.NDArray[np.bool_]] | None = None,
    ) -> None:
        self._predictor, self._scene, self._size = predictor, scene, size
        self._heights_m, self._settings = heights_m, settings
        self._scale, self._valid_rows = scale, valid_rows

    def rows_from(self, first_row: int, progress: Progress) -> Generator[Band]:
        """Finished rows of the raster from ``first_row`` on; probabilities, and the spread behind them if asked."""
        predictor, settings = self._predictor, self._settings
        begin = first_row
        if self._scale is not None:
            needed = self._scale.back[0].index[first_row:]
            begin = int(needed.min()) if len(needed) else self._size[0]
        channels = predictor.channels(self._heights_m) * (1 + (settings.uncertainty == "spread"))
        rows, cols = predictor.window_axes(self._size, settings)
        with predictor.crew(self._heights_m, settings) as crew:
            bands = stream(
                self._scene,
                rows,
                cols,
                crew,
                channels=channels,
                batch_size=predictor.windows_per_pass(settings),
                device=predictor.device,
                first_row=begin,
                progress=lambda done, total: progress(done, total, "windows"),
            )
            if self._scale is not None:
                assert self._valid_rows is not None
                bands = restored(bands, self._scale, self._valid_rows, first_row)
            yield from bands


def write_bands(
    bands: SceneBands, sink: Sink, journal: Journal | None, height: int, name: str, progress: Progress
) -> None:
    """Write all rows that do not stand there yet.

    Args:
        bands: Where they come from.
        sink: What becomes of them.
        journal: Says which stand there; None: none do, and nobody could go on with them.
        height: Rows of the raster.
        name: Of the raster, for messages.
        progress: Told how many windows are done.

    Raises:
        PredictionError: If the network answers with values that are no numbers, or the disk refuses.
    """
    row = 0 if journal is None else journal.row
    if journal is not None and row:
        sink.restore(journal.facts)
    with ThreadPoolExecutor(1, "writer") as thread, closing(bands.rows_from(row, progress)) as finished:
        waiting = deque[Future[None]]()
        for band in finished:
            if not np.isfinite(band.probs.sum(dtype=np.float64)):
                raise PredictionError(
                    f"The model answers with values that are no numbers in {name}. "
                    "Its weights are damaged by training; take an earlier checkpoint."
                )
            waiting.append(thread.submit(sink.write, band))
            is_due = journal is not None and journal.is_due
            while len(waiting) > (0 if is_due else _WAITING):
                waiting.popleft().result()
            if journal is not None and is_due:
                journal.note(band.row + len(band.valid), sink.facts(), sink.files)
        for future in waiting:
            future.result()
    if journal is not None and journal.exists:
        journal.note(height, sink.facts(), sink.files)


def identity_of(
    predictor: Predictor, paths: Sequence[Path], heights_m: Sequence[float], settings: PredictionConfig, **more: Any
) -> dict[str, Any]:
    """All that finished rows depend on, by the names a person knows."""
    rows = {name: value for name, value in settings.to_dict().items() if name not in _SAME_RESULT}
    marks = [(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path in paths for stat in (path.stat(),)]
    return {
        "model": [member.card.sha256 for member in predictor.members],
        "raster": [list(mark) for mark in marks],
        "heights": list(heights_m),
        "device": str(predictor.device),
        "version": __version__,
        **more,
        **rows,
    }
