"""MlflowWriter: settings, scores and files to an MLflow server or a folder ``mlruns``."""

from __future__ import annotations

import importlib
import math
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from maskwright.tracking.writers import Entry, Outcome, RunFacts, SentMarks, WriterError

__all__ = ["MlflowWriter"]

_MOST_IN_A_CALL = 100  # parameters MLflow takes at once; it takes more metrics
_LONGEST_VALUE = 5000
_ENDED = {"finished": "FINISHED", "stopped": "KILLED", "interrupted": "KILLED", "failed": "FAILED"}


class MlflowWriter:
    """Sends a run to MLflow through its client, without MLflow's global state.

    Args:
        uri: Address; None: the variable MLFLOW_TRACKING_URI, else where former attempts of the run went, else
            ``file:./mlruns``.
        experiment: Name of the experiment that holds the run; made if missing.
    """

    name = "MLflow"

    def __init__(self, uri: str | None = None, experiment: str = "maskwright") -> None:
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        self.experiment = experiment
        self._client: Any = None
        self._marks: SentMarks | None = None
        self._run_id = ""

    def start(self, facts: RunFacts) -> None:
        """Open the run, or go on with the one of former attempts."""
        marks = SentMarks(facts.folder.path / "mlflow.json")
        address = self._address(marks)
        if address.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 opens folders only if told so
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            library: Any = importlib.import_module("mlflow")
        except ImportError as cause:
            raise WriterError(
                'the package mlflow is missing. Install it with pip install "maskwright[track]", or set '
                "tracking.mlflow=false."
            ) from cause
        self._client = library.MlflowClient(address)
        if marks.address not in (None, address) or not self._goes_on(marks.run_id):
            marks.remember(self._new_run(facts), asked=self.uri, address=address)
        self._marks, self._run_id = marks, str(marks.run_id)

    def log(self, entry: Entry) -> None:
        """Send the numbers and pictures, unless a former attempt has."""
        assert self._marks is not None
        if not self._marks.is_new(entry):
            return
        self._send(entry.scalars.items(), entry.global_step, entry.time_s)
        for path in entry.pictures.values():
            self._client.log_artifact(self._run_id, str(path), "samples")

    def finish(self, outcome: Outcome) -> None:
        """Send final scores and files, and close the run."""
        self._send(outcome.scores.items(), outcome.global_step, time.time())
        for path in outcome.files:
            if path.is_dir():
                self._client.log_artifacts(self._run_id, str(path), path.name)
            else:
                self._client.log_artifact(self._run_id, str(path))
        self._client.set_terminated(self._run_id, status=_ENDED.get(outcome.status, "FINISHED"))

    def _address(self, marks: SentMarks) -> str:
        """Where the run goes: a folder is the same one in every attempt, wherever that is started."""
        if marks.address is not None and self.uri in (None, marks.asked):
            return marks.address
        return _absolute(self.uri or "mlruns")

    def _goes_on(self, run_id: str | None) -> bool:
        """Whether MLflow has the run, which then is at work again."""
        if run_id is None:
            return False
        exceptions: Any = importlib.import_module("mlflow.exceptions")
        try:
            self._client.update_run(run_id, status="RUNNING")
        except exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def _new_run(self, facts: RunFacts) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        number = found.experiment_id if found else self._client.create_experiment(self.experiment)
        run = self._client.create_run(number, run_name=facts.name, tags={"run_folder": str(facts.folder.path)})
        entities: Any = importlib.import_module("mlflow.entities")
        params = [entities.Param(_key(name), str(value)[:_LONGEST_VALUE]) for name, value in facts.settings.items()]
        for some in _chunks(params):
            self._client.log_batch(run.info.run_id, params=some)
        return str(run.info.run_id)

    def _send(self, scalars: Iterable[tuple[str, float]], step: int, time_s: float) -> None:
        entities: Any = importlib.import_module("mlflow.entities")
        known = [(name, value) for name, value in scalars if math.isfinite(value)]
        metrics = [entities.Metric(_key(name), value, int(time_s * 1000), step) for name, value in known]
        for some in _chunks(metrics):
            self._client.log_batch(self._run_id, metrics=some)


def _absolute(uri: str) -> str:
    """The address, a folder as one that holds wherever a run is continued."""
    if uri.startswith("file:/") or "://" in uri or uri.startswith("databricks"):
        return uri
    return Path(uri.removeprefix("file:")).resolve().as_uri()


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), _MOST_IN_A_CALL):
        yield items[start : start + _MOST_IN_A_CALL]


def _key(name: str) -> str:
    """A name MLflow takes: letters, digits and ``_ - . / : space``.

    Its folders hold a file for each score, so ``train/loss`` and ``train/loss/bce`` cannot stand side by side: the
    second becomes ``train/loss.bce``.
    """
    part, slash, rest = name.replace("@", "_at_").partition("/")
    letters = part + slash + rest.replace("/", ".")
    return "".join(letter if letter.isalnum() or letter in "_-./: " else "_" for letter in letters)[:250]
