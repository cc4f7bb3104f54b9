"""What a contestant is given and what it hands back."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.ground import ROWS, Row, Sample, read_samples

__all__ = ["Job", "run_contestant"]


@dataclass(frozen=True)
class Job:
    """One training of one contestant.

    Attributes:
        row: Name of the row.
        folder: Its data, as :func:`accuracy.ground.prepare` wrote it.
        out: For whatever the contestant writes; masks go to ``out/masks``.
        minutes: What the training may take, from ``began_s`` on.
        seed: Of the training.
        began_s: When the process was started, by ``time.time``: its imports count.
    """

    row: str
    folder: str
    out: str
    minutes: float
    seed: int
    began_s: float

    @property
    def data(self) -> Row:
        return ROWS[self.row]

    @property
    def left_s(self) -> float:
        """Seconds of the minutes that are left."""
        return self.began_s + 60 * self.minutes - time.time()

    @property
    def share_done(self) -> float:
        """Share of the minutes that has passed, at most 1."""
        return min(1.0, 1 - self.left_s / (60 * self.minutes))

    def samples(self, part: str) -> list[Sample]:
        return read_samples(self.data, Path(self.folder), part)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


Masks = np.ndarray[Any, Any]
Train = Callable[[Job], tuple[Callable[[Sample], Masks], str]]


def run_contestant(train: Train) -> None:
    """The life of a contestant's process: train, stop the clock, then answer for the held-out pictures.

    Args:
        train: Trains; gives what answers with masks of (outputs, rows, columns), and a word about what was trained.
    """
    job = Job(**json.loads(sys.argv[1]))
    answer, about = train(job)
    seconds = time.time() - job.began_s
    target = Path(job.out) / "masks"
    target.mkdir(parents=True, exist_ok=True)
    for sample in job.samples("test"):
        np.save(target / f"{sample.name}.npy", np.asarray(answer(sample), np.uint8))
    (Path(job.out) / "done.json").write_text(json.dumps({"minutes": seconds / 60, "about": about}))
