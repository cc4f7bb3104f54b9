"""TensorBoardWriter: curves, pictures and settings in the run folder, for ``tensorboard --logdir``."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskwright.tracking.writers import Entry, Outcome, RunFacts, WriterError

__all__ = ["TensorBoardWriter"]


class TensorBoardWriter:
    """Writes event files with TensorBoard's own writer; a resumed run takes back what it will do again."""

    name = "TensorBoard"

    def __init__(self) -> None:
        self._writer: Any = None
        self._settings: Mapping[str, Any] = {}

    def start(self, facts: RunFacts) -> None:
        """Open a file; of former attempts, points after ``facts.global_step`` are hidden from now on."""
        try:
            library: Any = importlib.import_module("torch.utils.tensorboard")
        except ImportError as cause:
            raise WriterError(
                "the package tensorboard is missing, so the folder tensorboard stays empty. Install it with "
                'pip install "maskwright[track]", or set tracking.tensorboard=false (--no-tensorboard).'
            ) from cause
        self._settings = facts.settings
        again = facts.attempt > 1
        if again:
            _wait_for_a_new_second(facts.folder.tensorboard)
        self._writer = library.SummaryWriter(
            str(facts.folder.tensorboard), purge_step=facts.global_step + 1 if again else None, flush_secs=30
        )
        if not again:
            indented = "\n".join(f"    {line}" for line in facts.config_text.splitlines())  # a block of code
            self._writer.add_text("experiment", indented, 0)
            self._add_graph(facts)
            self._writer.flush()

    def log(self, entry: Entry) -> None:
        """Add points and pictures, on disk when this returns."""
        for name, value in entry.scalars.items():
            self._writer.add_scalar(name, value, entry.global_step, walltime=entry.time_s)
        for name, path in entry.pictures.items():
            self._writer.add_image(name, _pixels(path), entry.global_step, walltime=entry.time_s, dataformats="HWC")
        self._writer.flush()

    def finish(self, outcome: Outcome) -> None:
        """Add the final scores, and the settings as hyper-parameters beside them."""
        summaries: Any = importlib.import_module("torch.utils.tensorboard.summary")
        for name, value in outcome.scores.items():
            self._writer.add_scalar(name, value, outcome.global_step)
        known = {name: value for name, value in outcome.scores.items() if math.isfinite(value)}
        if outcome.status == "finished":
            for summary in summaries.hparams({name: _plain(value) for name, value in self._settings.items()}, known):
                self._writer.file_writer.add_summary(summary)  # in this run, not in one of its own
        self._writer.close()

    def _add_graph(self, facts: RunFacts) -> None:
        graph = None if facts.graph is None else facts.graph()
        if graph is not None:
            events: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
            self._writer.file_writer.add_event(events.Event(graph_def=graph.SerializeToString()))


def _wait_for_a_new_second(folder: Path) -> None:
    """Files are read in the order of their names, which begin with the second they were made in."""
    seconds = [int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")]
    while seconds and time.time() < max(seconds) + 1 <= time.time() + 2:
        time.sleep(0.05)


def _pixels(path: Path) -> Any:
    import numpy as np
    import PIL.Image

    with PIL.Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _plain(value: Any) -> bool | int | float | str:
    """A value TensorBoard takes as a hyper-parameter."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return "unset" if value is None else str(value)
