"""The page around the pages: which run, how often to look, where to go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.navigation.page import StreamlitPage

from maskwright.dashboard.pages import checkpoints, compare, live, logs, settings, system
from maskwright.dashboard.view import View
from maskwright.tracking.shelf import RunShelf, RunSummary

__all__ = ["PAGES", "choose_run", "show"]

PAGES: dict[str, tuple[str, Callable[[View], None]]] = {
    "Live": (":material/monitoring:", live.show),
    "Compare": (":material/compare_arrows:", compare.show),
    "Checkpoints": (":material/save:", checkpoints.show),
    "System": (":material/memory:", system.show),
    "Settings": (":material/tune:", settings.show),
    "Logs": (":material/description:", logs.show),
}

_REFRESH_S = (1, 2, 5, 10, 30, 60)
_STYLE = """
<style>
.block-container { padding: 2.6rem 3rem 3rem 3rem; max-width: 1600px; }
[data-testid="stMetricValue"] { font-variant-numeric: tabular-nums; font-size: 1.55rem; }
h1 { font-size: 1.7rem !important; overflow-wrap: anywhere; }
</style>
"""


def show(folder: Path, *, read_only: bool = False, page: str | None = None) -> None:
    """Draw the dashboard.

    Args:
        folder: Folder of run folders, or one of them.
        read_only: Whether nothing may be asked of a run, started or written.
        page: The page to draw, a key of ``PAGES``; None: the one chosen in the browser.
    """
    st.set_page_config(page_title="Maskwright", page_icon=_icon(), layout="wide")
    st.html(_STYLE)
    wanted = folder.name if (folder / "run.json").is_file() else None
    shelf = _shelf(str(folder.parent if wanted else folder))
    chosen: list[View] = []

    def page_of(name: str) -> StreamlitPage:
        icon, draw = PAGES[name]
        return st.Page(lambda: draw(chosen[0]), title=name, icon=icon, url_path=name.lower(), default=name == "Live")

    here = st.navigation([page_of(name) for name in PAGES])
    chosen.append(_sidebar(shelf, wanted, read_only))
    if page is None:
        here.run()
    else:
        PAGES[page][1](chosen[0])


def choose_run(runs: list[RunSummary], wanted: str | None) -> int:
    """The place of the run to show first: the one asked for, else the newest at work, else the newest."""
    names = [run.name for run in runs]
    if wanted in names:
        return names.index(wanted)
    return next((place for place, run in enumerate(runs) if run.status in ("running", "starting")), 0)


def _icon() -> Image.Image:
    """A round gap in a canopy. A picture of our own: icons named by a word are fetched from the net."""
    row, column = np.mgrid[-1:1:32j, -1:1:32j]
    icon = np.full((32, 32, 3), (27, 94, 60), np.uint8)
    icon[row**2 + column**2 < 0.3] = (240, 200, 90)
    return Image.fromarray(icon)


@st.cache_resource(show_spinner=False)
def _shelf(folder: str) -> RunShelf:
    return RunShelf(Path(folder))


def _sidebar(shelf: RunShelf, wanted: str | None, read_only: bool) -> View:
    runs = {run.name: run for run in shelf.runs()}
    with st.sidebar:
        name = None
        if runs:
            if st.session_state.get("run") not in runs:
                place = choose_run(list(runs.values()), st.query_params.get("run", wanted))
                st.session_state["run"] = list(runs)[place]
            name = st.selectbox("Run", list(runs), format_func=lambda one: _label(runs.get(one), one), key="run")
            st.query_params["run"] = name
        refresh_s = st.select_slider(
            "Refresh every", _REFRESH_S, value=5, format_func=lambda seconds: f"{seconds} s", key="refresh"
        )
        if read_only:
            st.badge("read-only", icon=":material/visibility:", color="gray")
        st.caption(f"{len(runs)} runs in {shelf.folder}")
        _watch(shelf, [(run.name, run.status) for run in runs.values()], refresh_s)
    return View(shelf, None if name is None else shelf.folder / name, read_only, float(refresh_s))


def _label(run: RunSummary | None, name: str) -> str:
    mark = {"running": "▶ ", "starting": "▶ ", "failed": "✕ ", "unreadable": "? "}
    return f"{mark.get(run.status, '') if run else ''}{name}"


def _watch(shelf: RunShelf, drawn: list[tuple[str, str]], every_s: float) -> None:
    """Draw everything anew when a run came, went or ended."""

    def look() -> None:
        if [(run.name, run.status) for run in shelf.runs()] != drawn:
            st.rerun(scope="app")

    st.fragment(look, run_every=every_s)()
