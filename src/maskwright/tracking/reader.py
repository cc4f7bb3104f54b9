"""RunReader: what a face may know of a run, whether it still works or ended long ago. Reads only, never torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.errors import RunError
from maskwright.tracking.events import EventTail
from maskwright.tracking.folder import RunFolder
from maskwright.tracking.history import read_history
from maskwright.tracking.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from maskwright.tracking.overview import EventOverview

__all__ = ["RunReader", "open_run"]


class RunReader:
    """Looks at a run folder as often as wanted; the event log is read on from where the last look ended.

    Args:
        path: The run folder.

    Raises:
        RunError: If it is not a run folder or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder.open(path)
        self._tail = EventTail(self.folder.events)
        self._rows: list[dict[str, Any]] = []
        self._overview: EventOverview | None = None

    def status(self) -> dict[str, Any]:
        """The fields of run.json with ``status`` as it really is, and ``alive``.

        A run whose process died without a word is ``interrupted``, whatever it wrote last.
        """
        record = self.folder.record
        return record.load() | {"status": record.status(), "alive": record.is_alive()}

    def history(self) -> tuple[dict[str, Any], ...]:
        """One entry per epoch; none before the first has ended."""
        return read_history(self.folder.history)

    def events(self, kinds: Collection[str] | None = None) -> list[dict[str, Any]]:
        """All events so far, of the given kinds only if any are named."""
        self._rows.extend(self._tail.read())
        return [row for row in self._rows if kinds is None or row.get("kind") in kinds]

    def overview(self) -> EventOverview:
        """The events so far in bounded memory, for runs of any length: steps as curves, the newest rows of each kind.

        Raises:
            RunError: If the log cannot be read.
        """
        from maskwright.tracking.overview import EventOverview  # brings numpy, which reading a manifest does not need

        if self._overview is None:
            self._overview = EventOverview(self.folder.events)
        try:
            self._overview.update()
        except OSError as cause:
            raise RunError(f"{self.folder.events} cannot be read: {cause.strerror}.") from cause
        return self._overview

    def checkpoints(self) -> Manifest:
        """The checkpoints; an empty manifest before the first. Raises CheckpointError if the manifest is damaged."""
        return read_manifest(self.folder.manifest) if self.folder.manifest.exists() else Manifest()

    def config_text(self) -> str:
        """The experiment as YAML. Raises RunError if the run has none."""
        try:
            return self.folder.config.read_text("utf-8")
        except OSError as cause:
            raise RunError(f"{self.folder.config} cannot be read: {cause.strerror}.") from cause
        except UnicodeDecodeError as cause:
            raise RunError(f"{self.folder.config} is damaged: it is no text.") from cause

    def settings(self) -> dict[str, Any]:
        """The settings, nested; none if the run has no experiment. Raises RunError if the file is damaged."""
        import yaml

        if not self.folder.config.exists():
            return {}
        try:
            content = yaml.safe_load(self.config_text())
        except (yaml.YAMLError, RecursionError, ValueError) as cause:
            raise RunError(f"{self.folder.config} is damaged: it is no YAML.") from cause
        if not isinstance(content, dict):
            raise RunError(f"{self.folder.config} is damaged: it holds no settings.")
        return content

    def log_lines(self, count: int = 200) -> list[str]:
        """The last ``count`` lines of log.txt."""
        if not self.folder.log.exists():
            return []
        return self.folder.log.read_text("utf-8", errors="replace").splitlines()[-count:]


def open_run(path: str | Path) -> RunReader:
    """What may be asked of a run: status, history, events, checkpoints. RunError if ``path`` is no run folder."""
    return RunReader(Path(path))
