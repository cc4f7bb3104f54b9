"""What every page is given, and the small pieces that several pages show."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from maskwright.tracking.shelf import RunShelf, Snapshot

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["View", "chart", "confirmed", "no_runs", "status_badge", "table"]

_COLORS = {
    "running": "green",
    "starting": "blue",
    "paused": "orange",
    "finished": "gray",
    "stopped": "gray",
    "interrupted": "orange",
    "failed": "red",
    "unreadable": "red",
}
_ICONS = {
    "running": ":material/play_arrow:",
    "starting": ":material/hourglass_top:",
    "paused": ":material/pause:",
    "finished": ":material/check:",
    "stopped": ":material/stop:",
    "interrupted": ":material/power_off:",
    "failed": ":material/error:",
    "unreadable": ":material/help:",
}


@dataclass(frozen=True)
class View:
    """What is looked at.

    Attributes:
        shelf: All runs.
        run: The folder of the run on show; None if there are none.
        read_only: Whether nothing may be asked of a run, started or written.
        refresh_s: Seconds from one look to the next.
    """

    shelf: RunShelf
    run: Path | None
    read_only: bool
    refresh_s: float

    def live(self, draw: Callable[[], None]) -> None:
        """Draw a part of a page now and again after each ``refresh_s`` seconds."""
        st.fragment(draw, run_every=self.refresh_s)()

    def look(self) -> Snapshot | None:
        """The run on show; None, with a sentence on the page, if there is none or it is gone."""
        if self.run is None:
            no_runs(self)
            return None
        run = self.shelf.look(self.run)
        if not run.exists:
            st.info(f"The run {run.name} is gone: its folder was deleted or moved. Choose another one on the left.")
            return None
        for problem in run.problems:
            st.warning(problem, icon=":material/warning:")
        return run


def no_runs(view: View) -> None:
    """What to do when the folder is empty."""
    st.info(f"There are no runs in {view.shelf.folder.absolute()} yet. They appear here as soon as they begin.")
    st.code(f"maskwright train EXPERIMENT.yaml --output-dir {view.shelf.folder}", language="bash")


def status_badge(run: Snapshot, *, paused: bool = False) -> None:
    """The state of a run in a word and a colour."""
    word = "paused" if paused else run.status
    st.badge(word, color=_COLORS.get(word, "gray"), icon=_ICONS.get(word))  # type: ignore[arg-type]


def chart(title: str, figure: go.Figure, key: str, *, help: str | None = None) -> None:
    """A figure under its title, as wide as its column."""
    with st.container(border=True):
        st.markdown(f"**{title}**", help=help)
        st.plotly_chart(figure, key=key, config={"displaylogo": False, "displayModeBar": False})


def table(frame: pd.DataFrame, key: str, *, otherwise: str, rows: int = 14) -> None:
    """A data frame, ``rows`` of it in sight; a sentence if it has none."""
    if frame.empty:
        st.caption(otherwise)
        return
    numbers = {name: st.column_config.NumberColumn(format="%.4g") for name in frame.select_dtypes("float").columns}
    height = 35 * (min(len(frame), rows) + 1) + 3
    st.dataframe(frame, key=key, hide_index=True, column_config=numbers, height=height)


@contextlib.contextmanager
def confirmed(label: str, icon: str, question: str, key: str) -> Iterator[Callable[[], bool]]:
    """A button that opens a question; the body may add fields, and asks whether yes was pressed.

    Yes closes it: what opens next is another one, with a key of its own.
    """
    asked, said = f"{key}_asked", f"{key}_said"
    number = st.session_state.setdefault(asked, 0)

    def close() -> None:
        st.session_state[asked], st.session_state[said] = number + 1, True

    def yes() -> bool:
        st.button(f"Yes, {label[:1].lower()}{label[1:]}", key=f"{key}_yes_{number}", type="primary", on_click=close)
        return bool(st.session_state.pop(said, False))

    with st.popover(label, icon=icon, key=f"{key}_{number}"):
        st.write(question)
        yield yes
