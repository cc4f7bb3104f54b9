"""Logs: the log of the run, and what happened: warnings, errors, commands."""

from __future__ import annotations

import streamlit as st

from maskwright.dashboard.frames import event_frame, log_tail
from maskwright.dashboard.view import View, table
from maskwright.tracking import RunFolder

__all__ = ["show"]

_KINDS = {
    "warning": "warnings",
    "error": "errors",
    "command": "commands",
    "checkpoint": "checkpoints",
    "lr": "learning rate",
}


def show(view: View) -> None:
    """Draw the page; it follows the run."""
    st.title("Logs")
    kinds = st.pills(
        "What happened",
        list(_KINDS),
        selection_mode="multi",
        default=["warning", "error", "command"],
        format_func=lambda kind: _KINDS[kind],
        key="kinds",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.text_input("Lines that contain", key="wanted", placeholder="any text")
        count = st.select_slider("Lines", (50, 200, 1000), value=200, key="lines")

    def draw() -> None:
        run = view.look()
        if run is None:
            return
        st.subheader("What happened")
        table(event_frame(run, kinds), "events", otherwise="Nothing of this kind happened.")
        if run.torn:
            st.caption(f"{run.torn} lines of the event log cannot be read, as after a crash; they are left out.")
        st.subheader("log.txt, newest line first")
        lines = log_tail(RunFolder(run.path).log, count, wanted)
        st.code("\n".join(reversed(lines)) or "No such lines.", language=None, height=480)

    view.live(draw)
