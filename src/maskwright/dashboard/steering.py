"""The buttons that steer a run: each asks first, then drops a command file or starts a process."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import streamlit as st

from maskwright.dashboard.view import View, confirmed
from maskwright.errors import MaskwrightError
from maskwright.tracking import ControlFolder, RunFolder
from maskwright.tracking.facts import Facts
from maskwright.tracking.processes import Started, resume_command, start, train_command
from maskwright.tracking.shelf import Snapshot

__all__ = ["begin", "show_started", "start_file", "steer"]

_OVER = ("stopped", "interrupted", "failed")


def steer(view: View, run: Snapshot, facts: Facts) -> None:
    """The buttons that make sense for the state of a run."""
    with st.container(horizontal=True):
        if run.alive:
            _steer_running(run, facts)
        elif run.status in _OVER:
            with confirmed(
                "Continue",
                ":material/resume:",
                "Continue this run exactly where it was, in a process of its own?",
                "continue",
            ) as yes:
                st.code(shlex.join(resume_command(run.path)), language="bash")
                if yes():
                    begin(resume_command(run.path))
    if run.alive:
        waiting = [path.stem.rpartition("_")[2] for path in sorted(RunFolder(run.path).control.glob("*.json"))]
        if waiting:
            st.caption(f"Asked and not yet obeyed: {', '.join(waiting)}. The run looks after each batch.")
    show_started()


def begin(words: list[str]) -> None:
    """Start a training and remember it for this session."""
    try:
        _started().append(start(words))
    except MaskwrightError as error:
        st.error(str(error))
        return
    st.toast("Started. The run appears on the left within a minute.", icon=":material/rocket_launch:")


def show_started() -> None:
    """What became of trainings started here: that they work, or what a failed one said."""
    for place, one in enumerate(_started()):
        if one.code is None and place == len(_started()) - 1:
            st.caption(f"Started here: `{shlex.join(one.command)}` is at work.")
        elif one.code:
            st.error(f"`{shlex.join(one.command)}` ended with exit code {one.code}:", icon=":material/error:")
            st.code(one.said(), language=None)


def start_file(file: Path, view: View) -> None:
    """Start what an experiment file says."""
    begin(train_command(file, view.shelf.folder.absolute()))


def _steer_running(run: Snapshot, facts: Facts) -> None:
    if facts.paused:
        with confirmed("Go on", ":material/play_arrow:", "Let the run go on?", "resume") as yes:
            _send_if(yes(), run, "resume")
    else:
        with confirmed(
            "Pause", ":material/pause:", "The run waits after its present batch, and keeps its memory.", "pause"
        ) as yes:
            _send_if(yes(), run, "pause")
    with confirmed(
        "Save checkpoint", ":material/save:", "Save a checkpoint after the next update?", "checkpoint"
    ) as yes:
        _send_if(yes(), run, "checkpoint")
    with confirmed("Change learning rate", ":material/speed:", "The rest of the schedule scales with it.", "lr") as yes:
        lr = st.number_input(
            "Learning rate", min_value=0.0, value=facts.lr or 1e-3, format="%.2e", step=None, key="lr_wanted"
        )
        _send_if(yes(), run, "set_lr", lr=float(lr))
    with confirmed(
        "Stop", ":material/stop:", "Stop after the present batch? The run saves, and can be continued.", "stop"
    ) as yes:
        _send_if(yes(), run, "stop")


def _send_if(wanted: bool, run: Snapshot, command: str, **values: float) -> None:
    if not wanted:
        return
    try:
        ControlFolder(RunFolder(run.path).control).send(command, **values)
    except MaskwrightError as error:
        st.error(str(error))
        return
    st.toast(f"Asked the run: {command.replace('_', ' ')}. It obeys after its present batch.", icon=":material/send:")


def _started() -> list[Started]:
    found: Any = st.session_state.setdefault("started", [])
    return found  # type: ignore[no-any-return]
