"""DataCheck: the preflight of a draft, in a process of its own, since it reads much and needs torch."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from maskwright.config import Experiment, save_experiment
from maskwright.desktop.following import error_in
from maskwright.errors import DataError
from maskwright.files import read_json
from maskwright.tracking.processes import start

__all__ = ["CheckResult", "DataCheck"]

_LOOK_EVERY_S = 0.1
_SHOWN = 8


@dataclass(frozen=True)
class CheckResult:
    """What the preflight found.

    Attributes:
        page: Its page, with pictures.
        summary: A sentence with the number of findings.
        lines: The gravest findings with what to do, a line each.
        is_fit: False if something must be mended first.
    """

    page: Path
    summary: str
    lines: tuple[str, ...]
    is_fit: bool


class DataCheck:
    """``maskwright check`` on an experiment.

    Args:
        experiment: What is to be trained.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._unwanted = threading.Event()

    def stop(self) -> None:
        """End it; :meth:`run` then returns None soon."""
        self._unwanted.set()

    def run(self) -> CheckResult | None:
        """Do it and wait for it; None if it was stopped.

        Raises:
            DataError: If the check itself could not be done.
            RunError: If the process cannot be started.
        """
        place = Path(tempfile.mkdtemp(prefix="maskwright_check_"))  # stays: a browser shows the page
        file = place / "experiment.yaml"
        save_experiment(self.experiment, file)
        started = start(["maskwright", "check", str(file), "--out", str(place)])
        while started.code is None:
            if self._unwanted.wait(_LOOK_EVERY_S):
                started.process.terminate()
                started.process.wait()
                started.output.unlink(missing_ok=True)
                return None
        said = started.said()
        started.output.unlink(missing_ok=True)
        if not (place / "check.json").is_file():
            raise DataError(error_in(said) or f"The check ended with exit code {started.code}. {said}".strip())
        return _result(place)


def _result(place: Path) -> CheckResult:
    findings = read_json(place / "check.json")["findings"]
    count = {level: sum(finding["level"] == level for finding in findings) for level in ("error", "warning", "note")}
    words = [f"{number} {level}{'s' * (number != 1)}" for level, number in count.items() if number]
    grave = [finding for level in count for finding in findings if finding["level"] == level and level != "note"]
    return CheckResult(
        page=place / "check.html",
        summary=f"The check found {', '.join(words)}." if words else "The check found nothing wrong.",
        lines=tuple(" ".join(part for part in (f"{f['what']}", f["do"]) if part) for f in grave[:_SHOWN]),
        is_fit=not count["error"],
    )
