"""Compare: runs over each other: curves, scores with differences and intervals, settings that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from maskwright.dashboard.charts import compare_chart
from maskwright.dashboard.frames import (
    comparison_frame,
    history_frame,
    measured_frame,
    settings_difference,
    settings_of,
)
from maskwright.dashboard.view import View, no_runs, table
from maskwright.errors import MaskwrightError
from maskwright.tracking.facts import score_name

__all__ = ["show"]

_LOW_IS_BETTER = ("loss", "rmse", "mae", "error")


def show(view: View) -> None:
    """Draw the page."""
    st.title("Compare runs")
    names = [run.name for run in view.shelf.runs()]
    if not names:
        no_runs(view)
        return
    newest = [view.run.name] if view.run is not None and view.run.name in names else []
    usual = [*newest, *(name for name in names if name not in newest)][:3]
    chosen = st.multiselect(
        "Runs; the others are held against the first", names, default=usual, key="compared", max_selections=12
    )
    if not chosen:
        st.info("Choose runs to lay over each other.")
        return

    def draw() -> None:
        _curves(view, chosen)

    view.live(draw)
    folders = {name: view.shelf.folder / name for name in chosen}
    _measured(folders)
    st.subheader("Settings that differ")
    difference = settings_difference({name: settings_of(path) for name, path in folders.items()})
    table(difference, "settings", otherwise="All settings are the same." if len(chosen) > 1 else "Choose a second run.")


def _curves(view: View, chosen: Sequence[str]) -> None:
    histories = {name: view.shelf.history(view.shelf.folder / name) for name in chosen}
    scores = _scores(histories)
    if not scores:
        st.info("No epoch of these runs has ended yet.")
        return
    name = st.selectbox("Curve", scores, format_func=lambda key: f"{score_name(key)} ({key})", key="curve")
    mode = "min" if any(word in name for word in _LOW_IS_BETTER) else "max"
    frames = {run: history_frame(history) for run, history in histories.items() if history}
    with st.container(border=True):
        st.plotly_chart(compare_chart(frames, name), key="compare_chart", config={"displaylogo": False})
    table(comparison_frame(list(histories.items()), name, mode), "comparison", otherwise="")


def _measured(folders: Mapping[str, Path]) -> None:
    st.subheader("Scores on the test part")
    frame = measured_frame({name: path / "evaluation.json" for name, path in folders.items()})
    table(frame, "measured", otherwise="None of these runs was scored on a test part yet; a run is when it ends.")
    if frame.empty or frame["run"].nunique() < 2:
        return
    if st.button(
        "Paired tests of the differences", icon=":material/balance:", help="On the same test data; takes seconds."
    ):
        with st.spinner("Comparing image by image"):
            head, rows, notes = _paired(tuple(map(str, folders.values())))
        import pandas as pd

        table(pd.DataFrame(rows, columns=head), "paired", otherwise="No two of these runs can be paired.")
        for note in notes:
            st.caption(note)


@st.cache_data(show_spinner=False, ttl=60)
def _paired(paths: tuple[str, ...]) -> tuple[list[str], list[list[str]], list[str]]:
    from maskwright.workflows.compare import compare_runs  # loads the numerics, so only when asked

    try:
        comparison = compare_runs(paths)
    except MaskwrightError as error:
        return [], [], [str(error)]
    head, rows = comparison.difference_table()
    return list(head), [list(row) for row in rows], list(comparison.notes)


def _scores(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Numbers that any of the runs has, the usual ones first."""
    names = dict.fromkeys(name for history in histories.values() for entry in history[-1:] for name in entry)
    usual = [name for name in ("val/iou", "val/miou", "val/rmse", "val/loss", "train/loss") if name in names]
    return usual + [name for name in names if name not in usual and name not in ("epoch", "global_step")]
