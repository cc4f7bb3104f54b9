"""CheckpointStore: saves, keeps, finds and loads the checkpoints of one folder so that a good one is always there.

The order of a save: the file (durable, read back), the manifest (durable), the aliases, removal of what the manifest no
longer names. A crash between any two of these leaves a loadable folder; the manifest is the truth.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from maskwright.checkpoints.background import KeptCopy, Writing, layouts_of
from maskwright.checkpoints.divided import Divided, new_shares, save_divided, sweep_shares
from maskwright.checkpoints.format import DIVIDED_SUFFIX, load_state, save_state, snapshot
from maskwright.checkpoints.retention import PASSING, Strategy, best_of, checkpoint_tag, files_to_keep
from maskwright.checkpoints.upkeep import about_or_none, copy, holds, link, put_right, record_of, same_moment
from maskwright.errors import CheckpointError
from maskwright.files import explain_os_error, remove_stale, sync_folder
from maskwright.tracking import CheckpointRecord, Manifest, RunFolder, read_manifest, write_manifest
from maskwright.tracking.folder import time_text
from maskwright.tracking.manifest import CheckpointKind

__all__ = ["BEST", "LATEST", "CheckpointStore", "Loaded", "checkpoint_name"]

LATEST = "checkpoint_latest.pt"
BEST = "checkpoint_best.pt"

_NUMBERED = re.compile(r"checkpoint_epoch_\d{4,}(_step_\d{8,})?\.(pt|json)")
_ENDINGS = (".pt", DIVIDED_SUFFIX)
_ALIASES = tuple(f"{Path(alias).stem}{ending}" for alias in (LATEST, BEST) for ending in _ENDINGS)


class Loaded(NamedTuple):
    """A checkpoint read back; ``notes`` name the ones that had to be passed over, for a person to read."""

    state: dict[str, Any]
    record: CheckpointRecord
    notes: tuple[str, ...]


def checkpoint_name(*, epoch: int, global_step: int, kind: CheckpointKind, ending: str = ".pt") -> str:
    """File name: ``checkpoint_epoch_0010.pt`` once 10 epochs are finished, else the epoch under way and the step."""
    if kind == "epoch":
        return f"checkpoint_epoch_{epoch:04d}{ending}"
    return f"checkpoint_epoch_{epoch + 1:04d}_step_{global_step:08d}{ending}"


def _newest_first(manifest: Manifest) -> Sequence[CheckpointRecord]:
    return manifest.records[::-1]


class CheckpointStore:
    """The checkpoints of one folder. One process saves; any number may load at the same time.

    A save may go on in the background, see :meth:`save_later`. One write is under way at a time: what saves or loads
    next waits for it, so that a store always finds what it was given before.

    Args:
        folder: The folder of the checkpoints, or the run folder that holds it.
        max_checkpoints: Checkpoints kept, newest first, beside the best; at least 1.
        monitor: Name of the score that decides which is best; None takes what the manifest says, if anything.
        mode: Whether a higher (``max``) or lower (``min``) score is better.
        strategy: Which checkpoints stay once a newer one is saved, see :mod:`maskwright.checkpoints.retention`.
        interval: Epochs from one kept checkpoint to the next, for the strategy ``interval``.
    """

    def __init__(
        self,
        folder: Path | RunFolder,
        *,
        max_checkpoints: int = 3,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "max",
        strategy: Strategy = "epoch",
        interval: int = 5,
    ) -> None:
        self.folder = folder.checkpoints if isinstance(folder, RunFolder) else Path(folder)
        self.max_checkpoints = max_checkpoints
        self.monitor = monitor
        self.mode = mode
        self.strategy: Strategy = strategy
        self.interval = interval
        self._recovered = False
        self._bad: set[str] = set()  # hashes of records whose files turned out damaged or missing
        self._copied: dict[str, str] = {}  # alias to hash, where the file system has no hard links
        self._memory = KeptCopy()
        self._writing: Writing[Any] | None = None

    # --- saving -------------------------------------------------------------------------------------------------------

    def save(
        self,
        state: Mapping[str, object],
        *,
        epoch: int,
        global_step: int,
        position: int = 0,
        scores: Mapping[str, float] | None = None,
        kind: CheckpointKind = "epoch",
    ) -> CheckpointRecord:
        """Save the state now, see :meth:`write`."""
        self.wait()
        content = snapshot(state, copy=False)
        return self.write(content, epoch=epoch, global_step=global_step, position=position, scores=scores, kind=kind)

    def save_later(
        self,
        state: Mapping[str, object],
        *,
        epoch: int,
        global_step: int,
        position: int = 0,
        scores: Mapping[str, float] | None = None,
        kind: CheckpointKind = "epoch",
    ) -> Writing[CheckpointRecord]:
        """Copy the state and write the copy in a thread, see :meth:`write`; waits for the write before, if any.

        Returns:
            The write under way: ``is_done``, and ``result()``, which returns or raises what :meth:`save` would have.

        Raises:
            CheckpointError: If something foreign is in ``state``, or there is no memory for the copy.
        """
        self.wait()
        scored = dict(scores or {})
        content = self._memory.take(state)

        def work() -> CheckpointRecord:
            return self.write(
                content, epoch=epoch, global_step=global_step, position=position, scores=scored, kind=kind
            )

        self._writing = writing = Writing(work)
        return writing

    def prepare(self, state: Mapping[str, object]) -> None:
        """Get the memory for copies of ``state`` in a thread, so that the first :meth:`save_later` finds it ready."""
        self.wait()
        layouts = layouts_of(state)
        self._writing = Writing(lambda: self._memory.reserve(layouts))

    def wait(self) -> None:
        """Return once no write is under way. How it went is told by what :meth:`save_later` returned."""
        if self._writing is not None:
            self._writing.wait()
            self._writing = None

    def place_for_shares(self, *, epoch: int, global_step: int, kind: CheckpointKind) -> Path:
        """Where processes that divide a state write its tensors, for :meth:`write` to make a checkpoint of them.

        Raises:
            CheckpointError: If the disk refuses, or the manifest is of a newer version.
        """
        if not self._recovered:
            self.recover()
        name = checkpoint_name(epoch=epoch, global_step=global_step, kind=kind, ending=DIVIDED_SUFFIX)
        return new_shares(self.folder / name)

    def write(
        self,
        content: Mapping[str, object] | Divided,
        *,
        epoch: int,
        global_step: int,
        position: int = 0,
        scores: Mapping[str, float] | None = None,
        kind: CheckpointKind = "epoch",
    ) -> CheckpointRecord:
        """Write what :func:`~maskwright.checkpoints.format.snapshot` copied, then drop what is no longer to be kept.

        Args:
            content: Nested dicts, lists and tuples of tensors and plain values; or what is left of a state whose
                tensors are on disk already.
            epoch: Finished epochs (after the first epoch: 1).
            global_step: Updates done.
            position: Batches done of the epoch under way; 0 between epochs.
            scores: Scores of exactly these weights; leave out if they were not measured.
            kind: ``epoch`` when an epoch has just ended; ``step``, ``interrupted`` or ``error`` otherwise.

        Returns:
            What the manifest now says of the checkpoint.

        Raises:
            CheckpointError: If something foreign is in ``content`` or the disk refuses. The message says whether the
                checkpoint was saved; those saved before are untouched if it was not.
        """
        if not self._recovered:
            self.recover()
        ending = DIVIDED_SUFFIX if isinstance(content, Divided) else ".pt"
        name = checkpoint_name(epoch=epoch, global_step=global_step, kind=kind, ending=ending)
        about: dict[str, Any] = {
            "epoch": int(epoch),
            "position": int(position),
            "global_step": int(global_step),
            "scores": {key: float(value) for key, value in (scores or {}).items()},
            "kind": kind,
            "time": time_text(),
            "tag": self.tag_of(epoch=epoch, scores=scores or {}, kind=kind),
        }
        try:
            path = self.folder / name
            if isinstance(content, Divided):
                sha256, size = save_divided(path, content, about)
            else:
                sha256, size = save_state(path, content, about)
            record = CheckpointRecord(file=name, sha256=sha256, bytes=size, **about)
            former, manifest = self._enter(record)
        except CheckpointError:
            self._withdraw(name)
            raise
        dropped = {old.file for old in former.records} - {kept.file for kept in manifest.records}
        self._tidy(manifest, dropped, f"{name} is saved, but ")
        return record

    def recover(self) -> tuple[str, ...]:
        """Put right what a killed process left; for the process that saves, done by itself before its first save.

        Removes temporary files of dead processes and checkpoints that never reached the manifest, writes the manifest
        anew if it is missing or damaged, renews the aliases. Files that are not ours are never touched.

        Returns:
            What was done, a sentence each.

        Raises:
            CheckpointError: If the disk refuses, or the manifest is of a newer version.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            notes = [f"Removed {name}, left by a process that died." for name in remove_stale(self.folder)]
            manifest, rebuilt = self._manifest()
            aliases = [self.folder / name for name in _ALIASES]
            righted, lost = put_right(self.folder, manifest.records, aliases)
            notes += righted
            self._bad |= lost
            if rebuilt:
                notes += rebuilt
                records = [self._numbered(record) for record in manifest.records]
                manifest = self._kept(records, manifest, len(records))
                write_manifest(self._manifest_path, manifest)
            orphans = self._orphans(manifest)
        except OSError as cause:
            raise CheckpointError(explain_os_error(cause, self.folder)) from cause
        notes += [f"Removed {name}, saved but never entered in the manifest." for name in sorted(orphans)]
        self._tidy(manifest, orphans, "The checkpoints are whole, but ")
        self._recovered = True
        return tuple(notes)

    def tag_of(self, *, epoch: int, scores: Mapping[str, float], kind: CheckpointKind = "epoch") -> str:
        """What the strategy makes of a checkpoint that is about to be saved; ``latest`` if it need not stay.

        Args:
            epoch: Finished epochs, as for :meth:`write`.
            scores: Scores of exactly these weights.
            kind: Under ``epoch`` and ``all`` checkpoints inside an epoch count as the others do, elsewhere they pass.
        """
        if kind != "epoch":
            return "" if self.strategy in ("epoch", "all") else PASSING
        manifest, _ = self._manifest()
        monitor, mode = self._rule(manifest)
        names = [checkpoint_name(epoch=epoch, global_step=0, kind="epoch", ending=ending) for ending in _ENDINGS]
        best = best_of([record for record in manifest.records if record.file not in names], monitor, mode)
        tag = checkpoint_tag(
            self.strategy,
            epoch - 1,
            None if monitor is None else scores.get(monitor),
            None if best is None or monitor is None else (best.scores[monitor], best.epoch - 1),
            mode=mode,
            interval=self.interval,
        )
        return PASSING if tag is None else tag

    def _enter(self, record: CheckpointRecord) -> tuple[Manifest, Manifest]:
        """Enter a saved file in the manifest; returns the manifests before and after."""
        former, _ = self._manifest()
        records = [
            old
            for old in former.records
            if Path(old.file).stem != Path(record.file).stem and old.sha256 not in self._bad
        ]
        manifest = self._kept([*records, record], former, self.max_checkpoints)
        write_manifest(self._manifest_path, manifest)
        return former, manifest

    def _withdraw(self, name: str) -> None:
        """Give back the space of a file that did not reach the manifest; a disk that is full needs it."""
        manifest, _ = self._manifest()
        if name in self._orphans(manifest):
            with contextlib.suppress(OSError):  # the next process that saves tries again
                (self.folder / name).unlink()
                sweep_shares(self.folder, [each.file for each in manifest.records])

    def _rule(self, manifest: Manifest) -> tuple[str | None, Literal["min", "max"]]:
        """The score that decides and its direction: our own, else the manifest's."""
        return (self.monitor, self.mode) if self.monitor else (manifest.monitor, manifest.mode)

    def _kept(self, records: Sequence[CheckpointRecord], former: Manifest, count: int) -> Manifest:
        monitor, mode = self._rule(former)
        best = best_of(records, monitor, mode)
        keep = files_to_keep(records, max_checkpoints=count, best=best, strategy=self.strategy)
        kept = tuple(record for record in records if record.file in keep)
        return Manifest(kept, best.file if best else None, monitor, mode)

    def _tidy(self, manifest: Manifest, dropped: set[str], prefix: str) -> None:
        """Renew the aliases, remove files; the checkpoints are safe by now, so try everything before complaining."""
        problems = []
        for alias, record in ((LATEST, manifest.latest), (BEST, manifest.best_record)):
            try:
                if record is not None:
                    self._point(alias, record)
            except CheckpointError as cause:
                problems.append(f"{alias} could not be renewed: {cause}")
            except OSError as cause:
                problems.append(explain_os_error(cause, self.folder / alias))
        for name in sorted(dropped):
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError as cause:
                problems.append(f"{name} could not be removed: {cause.strerror}.")
        with contextlib.suppress(OSError):  # tried again behind the next save
            sweep_shares(self.folder, [each.file for each in manifest.records])
        if problems:
            raise CheckpointError(prefix + " ".join(problems))

    def _point(self, alias: str, record: CheckpointRecord) -> None:
        for ending in _ENDINGS:  # the other one is of a time when the run had another number of processes
            if not record.file.endswith(ending):
                (self.folder / alias).with_suffix(ending).unlink(missing_ok=True)
        alias = f"{Path(alias).stem}{Path(record.file).suffix}"
        source, target = self.folder / record.file, self.folder / alias
        if not source.exists():  # deleted by hand; the alias may still have it
            return
        if target.exists() and os.path.samefile(source, target):  # renaming onto the same file would do nothing
            return
        if target.exists() and self._copied.get(alias) == record.sha256:
            return
        if link(source, target):
            sync_folder(self.folder)
        else:
            copy(source, target)
            self._copied[alias] = record.sha256

    def _orphans(self, manifest: Manifest) -> set[str]:
        known = {record.file for record in manifest.records}
        found = (path for path in self.folder.iterdir() if _NUMBERED.fullmatch(path.name) and path.name not in known)
        return {path.name for path in found if about_or_none(path) is not None}

    def _numbered(self, record: CheckpointRecord) -> CheckpointRecord:
        """Give a checkpoint that is there as an alias only its own name, for the alias will move on."""
        if record.file not in _ALIASES:
            return record
        ending = Path(record.file).suffix
        name = checkpoint_name(epoch=record.epoch, global_step=record.global_step, kind=record.kind, ending=ending)
        source, target = self.folder / record.file, self.folder / name
        if not link(source, target):
            copy(source, target)
        return replace(record, file=name)

    # --- loading ------------------------------------------------------------------------------------------------------

    @property
    def records(self) -> tuple[CheckpointRecord, ...]:
        """All checkpoints in the order saved, the newest last. Changes nothing on disk."""
        self.wait()
        return self._manifest()[0].records

    @property
    def best(self) -> CheckpointRecord | None:
        """The record with the best score; None if none was scored."""
        self.wait()
        manifest, _ = self._manifest()
        return best_of(manifest.records, *self._rule(manifest))

    def path_of(self, record: CheckpointRecord) -> Path:
        """Where a record's file lies."""
        return self.folder / record.file

    def load_latest(
        self, *, map_location: str | torch.device = "cpu", mmap: bool = False, verify: bool = True
    ) -> Loaded:
        """The newest checkpoint that is whole. Changes nothing on disk.

        Args:
            map_location: Device for the tensors.
            mmap: Map the file into memory instead of reading it.
            verify: Compare the file with its hash first.

        Raises:
            CheckpointError: If there is none.
        """
        return self._load(_newest_first, partial(load_state, map_location=map_location, mmap=mmap), verify)

    def find_latest(self) -> tuple[Path, CheckpointRecord, tuple[str, ...]]:
        """As :meth:`load_latest`, without reading it: where it lies, its record, and the notes."""
        found = self._load(_newest_first, lambda path: {"path": path}, verify=True)
        return found.state["path"], found.record, found.notes

    def load_best(self, *, map_location: str | torch.device = "cpu", mmap: bool = False, verify: bool = True) -> Loaded:
        """The whole checkpoint with the best score; a note says so if none was scored and the newest is taken.

        Raises:
            CheckpointError: If there is none.
        """
        loaded = self._load(self._best_first, partial(load_state, map_location=map_location, mmap=mmap), verify)
        monitor, mode = self._rule(self._manifest()[0])
        if best_of([loaded.record], monitor, mode) is None:
            note = (
                f"No whole checkpoint has the score {monitor or 'that decides'}; took the newest, {loaded.record.file}."
            )
            return loaded._replace(notes=(*loaded.notes, note))
        return loaded

    def _best_first(self, manifest: Manifest) -> tuple[CheckpointRecord, ...]:
        left, ordered = list(manifest.records), []
        while (best := best_of(left, *self._rule(manifest))) is not None:
            ordered.append(best)
            left.remove(best)
        return (*ordered, *left[::-1])

    def _load(
        self,
        order: Callable[[Manifest], Sequence[CheckpointRecord]],
        read: Callable[[Path], dict[str, Any]],
        verify: bool,
    ) -> Loaded:
        self.wait()
        while True:
            manifest, rebuilt = self._manifest()
            notes = list(rebuilt)
            loaded = None
            for record in order(manifest):
                try:
                    path = self._whole_file(record) if verify else self.path_of(record)
                    state = read(path)
                except CheckpointError as cause:
                    notes.append(f"Passed over {record.file}: {cause}")
                else:
                    loaded = Loaded(state, record, tuple(notes))
                    break
            if len(notes) > len(rebuilt) and self._manifest()[0] != manifest:
                continue  # the process that saves has moved on meanwhile
            if loaded is None:
                raise CheckpointError(" ".join([f"No whole checkpoint in {self.folder}.", *notes]))
            return loaded

    def _whole_file(self, record: CheckpointRecord) -> Path:
        """The file that holds exactly what was saved: the record's own, or an alias that still has it."""
        problems = []
        for name in (record.file, *(name for name in _ALIASES if name.endswith(Path(record.file).suffix))):
            path = self.folder / name
            try:
                if holds(path, record):
                    return path
                problems.append("its content is not what was saved (SHA-256 differs).")
            except FileNotFoundError:
                problems.append("the file is missing.")
            except OSError as cause:
                raise CheckpointError(f"it cannot be read ({cause.strerror}).") from cause
        self._bad.add(record.sha256)
        raise CheckpointError(problems[0])

    # --- manifest -----------------------------------------------------------------------------------------------------

    @property
    def _manifest_path(self) -> Path:
        return self.folder / "manifest.json"

    def _manifest(self) -> tuple[Manifest, tuple[str, ...]]:
        """The manifest, and notes if it had to be made up from the files."""
        try:
            return read_manifest(self._manifest_path), ()
        except CheckpointError as cause:
            if cause.__cause__ is None:
                raise  # not damaged but of a newer version, which is not ours to guess
            if isinstance(cause.__cause__, FileNotFoundError) and not self._files():
                return Manifest((), None, self.monitor, self.mode), ()
            return self._rebuilt(str(cause))

    def _rebuilt(self, reason: str) -> tuple[Manifest, tuple[str, ...]]:
        notes = [f"{reason} The list of checkpoints was made anew from the files."]
        records: list[CheckpointRecord] = []
        for path in sorted(self._files(), key=lambda path: (path.name in _ALIASES, path.name)):
            record = record_of(path)
            if record is None:
                notes.append(f"Passed over {path.name}: damaged, or not a Maskwright checkpoint.")
            elif path.name not in _ALIASES or not any(same_moment(record, other) for other in records):
                records.append(record)
        records.sort(key=lambda record: (record.global_step, record.time))
        best = best_of(records, self.monitor, self.mode)
        return Manifest(tuple(records), best.file if best else None, self.monitor, self.mode), tuple(notes)

    def _files(self) -> list[Path]:
        return [path for ending in _ENDINGS for path in self.folder.glob(f"checkpoint_*{ending}")]
