"""Those who follow a run from outside: TensorBoard, MLflow, W&B, behind three verbs: start, log, finish.

Each has a thread of its own and a queue that never blocks. A package that is missing, a server that refuses or hangs, a
slow disk: none of it reaches the training; it becomes one text in :meth:`Tracker.take_problems`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from maskwright.files import json_text, parse_json, temporary_path
from maskwright.tracking.folder import RunFolder

__all__ = ["Entry", "Outcome", "RunFacts", "SentMarks", "Tracker", "Writer", "WriterError"]

_ATTEMPTS = 5  # for an entry, once the writer has started; a start is tried as long as the run lasts
_MOST_PAUSE_S = 30.0

Kind = Literal["step", "epoch", "resources"]


class WriterError(Exception):
    """Trying again would not help: a package is missing, nobody is logged in. The text says what to do."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known when a run, or a further attempt of it, begins.

    Attributes:
        folder: The run folder.
        name: Name shown for the run.
        settings: All settings, flat: ``training.epochs`` to a plain value.
        config_text: The experiment as YAML.
        attempt: Number of the attempt, from 1.
        global_step: Updates already done; later ones of former attempts are done again.
        graph: Makes the graph of the network, a ``GraphDef``, or None; called in the thread of a writer that shows it.
    """

    folder: RunFolder
    name: str
    settings: Mapping[str, Any]
    config_text: str
    attempt: int = 1
    global_step: int = 0
    graph: Callable[[], Any] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """Numbers and pictures of one moment.

    Attributes:
        kind: What it stems from; there is at most one entry of a kind at a step.
        global_step: Updates done.
        scalars: Numbers by name: ``val/iou@10m``, ``lr/0``.
        pictures: Files of pictures by name.
        time_s: Seconds since 1970.
    """

    kind: Kind
    global_step: int
    scalars: Mapping[str, float]
    pictures: Mapping[str, Path] = field(default_factory=dict)
    time_s: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        status: As in run.json.
        global_step: Updates done.
        scores: Final scores by name: ``test/iou@5m``.
        files: Files and folders worth keeping beside the numbers: page, model, settings.
    """

    status: str
    global_step: int
    scores: Mapping[str, float] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


class Writer(Protocol):
    """One who follows a run; called from one thread only, in this order, and free to raise or to hang.

    ``start`` may be called again if it raised.
    """

    name: str

    def start(self, facts: RunFacts) -> None: ...

    def log(self, entry: Entry) -> None: ...

    def finish(self, outcome: Outcome) -> None: ...


class Tracker:
    """Hands entries to all writers, each through a thread of its own.

    Args:
        writers: Who is told.
        capacity: Entries that wait for a writer at most; the oldest gives way and is counted.
        retry_s: Pause after a first failure; doubled with each one up to half a minute.
    """

    def __init__(self, writers: Iterable[Writer], *, capacity: int = 10_000, retry_s: float = 1.0) -> None:
        self._feeders = [_Feeder(writer, capacity, retry_s) for writer in writers]

    def start(self, facts: RunFacts) -> None:
        """Begin; returns at once."""
        for feeder in self._feeders:
            feeder.begin(facts)

    def log(self, entry: Entry) -> None:
        """Tell everybody; returns at once."""
        for feeder in self._feeders:
            feeder.put(entry)

    def finish(self, outcome: Outcome, timeout_s: float = 15.0) -> None:
        """End, and wait for what is still under way, ``timeout_s`` seconds at most for all writers together."""
        give_up = time.monotonic() + timeout_s
        for feeder in self._feeders:
            feeder.end(outcome)
        for feeder in self._feeders:
            feeder.wait(give_up, timeout_s)

    def take_problems(self) -> list[str]:
        """What went wrong since the last call: one sentence for a writer that begins to fail, not one an entry."""
        return [problem for feeder in self._feeders for problem in feeder.take_problems()]


class _Feeder:
    """A writer, its queue and its thread."""

    def __init__(self, writer: Writer, capacity: int, retry_s: float) -> None:
        self.writer = writer
        self.retry_s = retry_s
        self._queue: deque[Entry] = deque(maxlen=capacity)
        self._changed = threading.Condition()  # never held while the writer works
        self._problems: list[str] = []
        self._outcome: Outcome | None = None
        self._lost = 0
        self._failing = self._started = self._closed = self._dropping = False
        self._thread: threading.Thread | None = None

    def begin(self, facts: RunFacts) -> None:
        # A daemon: a server that never answers must not keep the process alive.
        self._thread = threading.Thread(target=self._work, args=(facts,), name=f"track-{self.writer.name}", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        with self._changed:
            if self._closed:
                return
            if len(self._queue) == self._queue.maxlen:
                self._lost += 1
                self._tell_of_drops()
            self._queue.append(entry)
            self._changed.notify()

    def _tell_of_drops(self) -> None:
        if not self._dropping:
            self._dropping = True
            self._problems.append(
                f"{self.writer.name} takes rows more slowly than they come: {self._queue.maxlen} are waiting, and from "
                "now on the oldest gives way to each new one. Raise tracking.log_every_steps, or look at it. The event "
                "log of the run folder keeps every row."
            )

    def end(self, outcome: Outcome) -> None:
        with self._changed:
            self._outcome = outcome
            self._changed.notify()

    def wait(self, give_up: float, timeout_s: float) -> None:
        if self._thread is None:
            return
        self._thread.join(max(0.0, give_up - time.monotonic()))
        with self._changed:
            waiting = len(self._queue)
            if self._thread.is_alive():
                self._closed = True
                self._problems.append(
                    f"{self.writer.name} had not taken everything {timeout_s:g} s after the end of the run "
                    f"({waiting} rows were waiting) and was left. Raise tracking.finish_timeout_s, or look at it."
                )
            elif self._lost:
                self._problems.append(f"{self.writer.name}: {self._lost} rows were not written.")

    def take_problems(self) -> list[str]:
        with self._changed:
            taken, self._problems = self._problems, []
        return taken

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _work(self, facts: RunFacts) -> None:
        self._try(lambda: self._begin(facts), attempts=None)
        while (entry := self._next()) is not None:
            done = self._try(lambda entry=entry: self.writer.log(entry), attempts=_ATTEMPTS)  # type: ignore[misc]
            with self._changed:
                self._lost += not done
                if not done and self._outcome is not None:  # the run is over and the writer still fails
                    self._lost += len(self._queue)
                    self._queue.clear()
        outcome = self._outcome
        if self._started and outcome is not None:
            self._try(lambda: self.writer.finish(outcome), attempts=1)

    def _begin(self, facts: RunFacts) -> None:
        self.writer.start(facts)
        self._started = True

    def _next(self) -> Entry | None:
        """The next entry, once there is one; None: there will be no more."""
        with self._changed:
            while not self._queue and self._outcome is None and not self._closed:
                self._changed.wait()
            if self._closed or not self._started:  # it never began: nothing can be handed over any more
                self._lost += len(self._queue)
                self._queue.clear()
            return self._queue.popleft() if self._queue else None

    def _try(self, do: Callable[[], None], *, attempts: int | None) -> bool:
        """Do it, again and again if need be: until it works, ``attempts`` are used up or the run is over."""
        tried = 0
        while not self._closed:
            try:
                do()
            except WriterError as refusal:
                self._close(f"{self.writer.name}: {refusal}")
            except Exception as error:
                tried += 1
                self._tell(error)
                if tried == attempts or not self._pause(min(self.retry_s * 2 ** (tried - 1), _MOST_PAUSE_S)):
                    return False
            else:
                self._failing = False
                return True
        return False

    def _pause(self, seconds: float) -> bool:
        """Wait; False if the run is over, so that nobody waits for another attempt."""
        give_up = time.monotonic() + seconds
        with self._changed:
            while self._outcome is None and (left := give_up - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._outcome is None

    def _tell(self, error: Exception) -> None:
        with self._changed:
            if not self._failing:
                lines = str(error).strip().splitlines() or [""]
                self._problems.append(
                    f"{self.writer.name} failed ({type(error).__name__}: {lines[0][:300]}). The training goes on, and "
                    f"{self.writer.name} is tried again."
                )
            self._failing = True

    def _close(self, problem: str) -> None:
        with self._changed:
            self._problems.append(problem)
            self._closed = True
            self._queue.clear()
            self._lost = 0


class SentMarks:
    """What a service was sent of a run, kept in the run folder: so a resumed run sends nothing twice.

    A resumed run repeats exactly what it did after its last checkpoint, so rows that were sent stay true. A row is
    noted before it is sent: a kill in between costs that row rather than doubling it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        content = self._read()
        self.run_id: str | None = content.get("run_id")
        self.asked: str | None = content.get("asked")
        self.address: str | None = content.get("address")
        self._sent: dict[str, int] = dict(content.get("sent", {}))
        self._last: Entry | None = None

    def remember(self, run_id: str, *, asked: str | None = None, address: str | None = None) -> None:
        """Note the name the service gave the run; it was sent nothing yet.

        Args:
            run_id: The name.
            asked: The address as it was given, perhaps one that means another place in another folder.
            address: Where that was.
        """
        self.run_id, self.asked, self.address, self._sent = run_id, asked, address, {}
        self._write()

    def is_new(self, entry: Entry) -> bool:
        """Whether the entry was never sent; notes it as sent. A second attempt of the same entry is new as well."""
        if entry is self._last:
            return True
        if entry.global_step <= self._sent.get(entry.kind, -1):
            return False
        self._sent[entry.kind] = entry.global_step
        self._last = entry
        self._write()
        return True

    def _read(self) -> dict[str, Any]:
        try:
            content = parse_json(self.path.read_bytes())
        except (OSError, ValueError):  # none yet, or torn: the run is then a new one for the service
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self) -> None:
        draft = temporary_path(self.path)  # whole at every instant, but not forced to the disk: there are many notes
        place = {"asked": self.asked, "address": self.address}
        draft.write_text(json_text({"run_id": self.run_id, **place, "sent": self._sent}), "utf-8")
        os.replace(draft, self.path)
