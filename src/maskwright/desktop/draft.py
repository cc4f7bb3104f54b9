"""DraftModel: the experiment under construction that all forms of a dialog show and change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from maskwright.config import FieldSpec
from maskwright.config.drafts import form_values, read_base, shown_settings
from maskwright.desktop.examine import Verdict, examine
from maskwright.desktop.jobs import Job, run_job

__all__ = ["DraftModel"]

_QUIET_MS = 250  # after the last change, before it is looked at


class DraftModel(QObject):
    """A base (a file, a preset or nothing) and what was changed in it.

    Signals:
        changed: The settings on show are others than before.
        checked: A :class:`Verdict` on the present state; not told of states that were left again.
        failed: A sentence, when a base cannot be read.

    Args:
        said: Flat settings to begin with.
        parent: Owner.
    """

    changed = Signal()
    checked = Signal(object)
    failed = Signal(str)

    def __init__(self, said: Mapping[str, Any], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.source: str | None = None
        self.changes: dict[str, Any] = dict(said)
        self.values: dict[str, Any] = read_base(None, said)
        self.verdict: Verdict | None = None
        self._look: Job[Verdict] | None = None
        self._asked: list[Callable[[Verdict], None]] = []
        self._quiet = QTimer(self, singleShot=True, interval=_QUIET_MS)
        self._quiet.timeout.connect(self._examine)

    @property
    def shown(self) -> dict[str, FieldSpec]:
        """The settings that exist now, by path."""
        return shown_settings(self.values)

    def change(self, settings: Mapping[str, Any]) -> None:
        """Set some settings, as a person did."""
        known = shown_settings(self.values)
        self.values = form_values(self.values, self.changes | dict(settings))
        now = self.shown
        left = known.keys() - now.keys()  # those of a kind that was given up
        self.changes = {
            path: value for path, value in (self.changes | dict(settings)).items() if path in now or path not in left
        }
        self._renew()

    def load(self, source: str) -> None:
        """Begin anew with a file or ``preset:NAME``; told by ``changed``, or by ``failed``."""

        def done(values: dict[str, Any]) -> None:
            self.source, self.changes, self.values = source, {}, values
            self._renew()

        run_job(lambda: read_base(source), done, self.failed.emit, self)

    def begin_with(self, said: Mapping[str, Any]) -> None:
        """Begin anew with some settings over the defaults."""
        self.source, self.changes, self.values = None, dict(said), read_base(None, said)
        self._renew()

    def when_checked(self, then: Callable[[Verdict], None]) -> None:
        """Call ``then`` with the verdict on the present state, as soon as there is one."""
        self._asked.append(then)
        self._quiet.stop()
        self._examine()

    def _renew(self) -> None:
        self.verdict = None
        if self._look is not None:
            self._look.cancel()  # its verdict is on what was before
        self.changed.emit()
        self._quiet.start()

    def _examine(self) -> None:
        if self._look is not None:
            self._look.cancel()
        source, changes, values = self.source, dict(self.changes), dict(self.values)
        self._look = run_job(lambda: examine(source, changes, values), self._take, self._give_up, self)

    def _take(self, verdict: Verdict) -> None:
        self.verdict, self._look = verdict, None
        if verdict.values and dict(verdict.values) != self.values:
            self.values = dict(verdict.values)  # settings left unsaid may follow from others
            self.changed.emit()
        self.checked.emit(verdict)
        asked, self._asked = self._asked, []
        for then in asked:
            then(verdict)

    def _give_up(self, why: str) -> None:
        self._take(Verdict(None, {}, {"": (why,)}))
