"""WandbWriter: settings, scores, pictures and the model to Weights & Biases, online or kept here."""

from __future__ import annotations

import importlib
import os
import secrets
from typing import Any

from maskwright.tracking.writers import Entry, Outcome, RunFacts, SentMarks, WriterError

__all__ = ["WandbWriter"]

_INIT_TIMEOUT_S = 10.0  # W&B holds up the end of the process as long
_LOCAL_MODES = ("offline", "disabled", "dryrun")


class WandbWriter:
    """Sends a run to Weights & Biases; ``WANDB_MODE=offline`` keeps it in the run folder for ``wandb sync``.

    Args:
        project: Project that holds the run.
        entity: User or team; None: that of the account.
    """

    name = "W&B"

    def __init__(self, project: str = "maskwright", entity: str | None = None) -> None:
        self.project = project
        self.entity = entity
        self._wandb: Any = None
        self._run: Any = None
        self._marks: SentMarks | None = None

    def start(self, facts: RunFacts) -> None:
        """Open the run, or go on with the one of former attempts."""
        try:
            wandb: Any = importlib.import_module("wandb")
        except ImportError as cause:
            raise WriterError(
                'the package wandb is missing. Install it with pip install "maskwright[track]", or set '
                "tracking.wandb=false."
            ) from cause
        if os.environ.get("WANDB_MODE", "online") not in _LOCAL_MODES and not wandb.login(prompt=False):
            # Without this question it would ask on the terminal, where the training shows its progress.
            raise WriterError("nobody is logged in. Call wandb login, set WANDB_API_KEY, or WANDB_MODE=offline.")
        marks = SentMarks(facts.folder.path / "wandb.json")
        if marks.run_id is None:
            marks.remember(secrets.token_hex(4))
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=facts.name,
            id=marks.run_id,
            resume="allow",
            dir=str(facts.folder.path),
            config=dict(facts.settings),
            settings=wandb.Settings(init_timeout=_INIT_TIMEOUT_S, console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="global_step")
        self._wandb, self._marks = wandb, marks

    def log(self, entry: Entry) -> None:
        """Send the numbers and pictures, unless a former attempt has."""
        assert self._marks is not None
        if not self._marks.is_new(entry):
            return
        pictures = {name: self._wandb.Image(str(path)) for name, path in entry.pictures.items()}
        self._run.log({**entry.scalars, **pictures, "global_step": entry.global_step})

    def finish(self, outcome: Outcome) -> None:
        """Send final scores and files, and close the run."""
        self._run.summary.update({**outcome.scores, "status": outcome.status})
        if outcome.files:
            artifact = self._wandb.Artifact(f"run-{self._run.id}", type="run")
            for path in outcome.files:
                if path.is_dir():
                    artifact.add_dir(str(path), name=path.name)
                else:
                    artifact.add_file(str(path))
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=0 if outcome.status in ("finished", "stopped") else 1)
