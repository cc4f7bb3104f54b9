"""Live: where the run stands, its curves as they grow, its predictions; and the buttons that steer it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from maskwright.dashboard.charts import epoch_chart, step_chart
from maskwright.dashboard.frames import history_frame
from maskwright.dashboard.steering import steer
from maskwright.dashboard.view import View, chart, status_badge
from maskwright.tracking import RunFolder
from maskwright.tracking.facts import (
    Facts,
    ScoreGroups,
    ago_text,
    clock_text,
    duration_text,
    facts_of,
    number_text,
    score_groups,
    score_name,
)
from maskwright.tracking.shelf import Snapshot

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["show"]

_FEW_SCORES = 5
_FEW_COLUMNS = 4

_Drawing = tuple[str, Callable[[], None]]  # its name, and how to draw it


def show(view: View) -> None:
    """Draw the page; it draws itself anew while it is open."""

    def draw() -> None:
        run = view.look()
        if run is None:
            return
        facts = facts_of(run)
        _head(run, facts)
        if not view.read_only:
            steer(view, run, facts)
        _cards(run, facts)
        _curves(run, facts)
        _predictions(run)

    view.live(draw)


def _head(run: Snapshot, facts: Facts) -> None:
    st.title(run.name)
    with st.container(horizontal=True, vertical_alignment="center"):
        status_badge(run, paused=facts.paused)
        words = [f"began {clock_text(run.fields.get('created'))} UTC"]
        if run.alive:
            words.append(f"last sign of life {ago_text(run.last_time, datetime.datetime.now(datetime.UTC))}")
        elif run.fields.get("ended"):
            words.append(f"ended {clock_text(run.fields.get('ended'))} UTC")
        ends = run.of_kind("train_end")
        if ends and not run.alive:
            words.append(str(ends[-1].get("reason", "")))
        st.caption(" · ".join(word for word in words if word))
    errors = run.of_kind("error")
    if errors and run.status == "failed":
        st.error(str(errors[-1].get("message", "The run failed.")), icon=":material/error:")


def _cards(run: Snapshot, facts: Facts) -> None:
    monitor = score_name(facts.monitor) if facts.monitor else "Score"
    cards = st.columns(5)
    of = f" / {facts.epochs}" if facts.epochs else ""
    cards[0].metric("Epoch", f"{facts.epoch}{of}", border=True, height="stretch")
    best = f"epoch {facts.best.epoch}" if facts.best else None
    score = number_text(facts.best.score) if facts.best else "-"
    cards[1].metric(f"Best {monitor}", score, best, delta_color="off", delta_arrow="off", border=True, height="stretch")
    cards[2].metric("Time left", duration_text(facts.left_s) if run.alive else "-", border=True, height="stretch")
    cards[3].metric("Images/s", number_text(facts.images_per_s, 3), border=True, height="stretch")
    cards[4].metric("Learning rate", number_text(facts.lr), border=True, height="stretch")
    if facts.progress is not None:
        st.progress(facts.progress, text=f"{facts.progress:.0%} of the updates, {run.last_step} done")


def _curves(run: Snapshot, facts: Facts) -> None:
    frame = history_frame(run.history)
    groups = score_groups([name for name in frame.columns if frame[name].notna().any()])
    drawn = [*_by_epoch(frame, groups, facts), *_by_update(run)]
    if not drawn and not groups.scores:
        st.info("Nothing was logged yet. The first curve appears after a few updates.")
        return
    if groups.scores:
        drawn.insert(1, ("scores", lambda: _scores(frame, groups, facts)))
    for first in range(0, len(drawn), 2):
        for cell, (_, draw) in zip(st.columns(2), drawn[first : first + 2], strict=False):
            with cell:
                draw()


def _by_epoch(frame: pd.DataFrame, groups: ScoreGroups, facts: Facts) -> list[_Drawing]:
    best = facts.best.epoch if facts.best else None
    drawn: list[_Drawing] = []
    if groups.losses:
        drawn.append(_epochs("Loss by epoch", frame, groups.losses, best=best))
    names = sorted(groups.columns, key=lambda name: name != facts.monitor)[:_FEW_COLUMNS]
    for name in names:
        is_height = all(key.endswith("m") for key in groups.columns[name])
        drawn.append(
            _epochs(f"{score_name(name)} by {'height' if is_height else 'class'}", frame, groups.columns[name])
        )
    if groups.terms:
        drawn.append(_epochs("Terms of the loss", frame, groups.terms, help="Dotted: training."))
    if groups.weights:
        drawn.append(_epochs("Weights of the terms", frame, groups.weights))
    return drawn


def _by_update(run: Snapshot) -> list[_Drawing]:
    drawn: list[_Drawing] = []
    for name, title, log in (
        ("loss", "Loss by update", False),
        ("lr", "Learning rate", False),
        ("grad_norm", "Gradient norm", True),
    ):
        curve = run.curves.get(name)
        if curve is not None and len(curve):
            help = "Mean of the updates of a point; the band is least to most." if curve.width > 1 else None
            drawn.append((name, partial(chart, title, step_chart(curve, title, log=log), f"step_{name}", help=help)))
    return drawn


def _epochs(
    title: str, frame: pd.DataFrame, names: tuple[str, ...], *, best: int | None = None, help: str | None = None
) -> _Drawing:
    return title, partial(chart, title, epoch_chart(frame, names, best=best), title, help=help)


def _scores(frame: pd.DataFrame, groups: ScoreGroups, facts: Facts) -> None:
    usual = [facts.monitor] if facts.monitor in groups.scores else []
    usual += [name for name in groups.scores if name.startswith("val/") and "images" not in name and name not in usual]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown("**Scores on the validation part**", width="content")
            with st.popover(":material/checklist:", help="Choose scores", type="tertiary"):
                names = st.pills(
                    "Scores",
                    groups.scores,
                    selection_mode="multi",
                    default=usual[:_FEW_SCORES],
                    format_func=score_name,
                    key="scores",
                )
        best = facts.best.epoch if facts.best else None
        st.plotly_chart(epoch_chart(frame, names, best=best), key="score_chart", config={"displayModeBar": False})


def _predictions(run: Snapshot) -> None:
    pictures = _pictures(RunFolder(run.path).samples)
    if not pictures:
        return
    with st.container(border=True):
        st.markdown("**Predictions on the same tiles**")
        name = list(pictures)[-1]
        if len(pictures) > 1:
            name = st.select_slider("Picture", list(pictures), value=name, label_visibility="collapsed")
        try:
            st.image(pictures[name].read_bytes(), width="content")
        except OSError:
            st.caption(f"{pictures[name]} is gone.")


def _pictures(folder: Path) -> dict[str, Path]:
    """The pictures in the order drawn: ``epoch 3`` to its file; others by their name."""
    found = sorted(folder.glob("*.png")) if folder.is_dir() else []
    named = {path.stem: path for path in found if not path.stem.startswith("epoch_")}
    epochs = [path for path in found if path.stem.startswith("epoch_")]
    return named | {f"epoch {path.stem.removeprefix('epoch_').lstrip('0')}": path for path in epochs}
