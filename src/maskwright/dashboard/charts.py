"""Figures of the pages. Colours are those of the reports; paper and ink come from the theme of the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.pictures.colors import CATEGORICAL, MUTED, hex_color, series_colors
from maskwright.tracking.facts import score_name

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from maskwright.tracking.curves import Curve

__all__ = ["compare_chart", "epoch_chart", "gauge", "resource_chart", "step_chart"]

_HEIGHT_PX = 290
_FEW_EPOCHS = 12
_SAMPLES = 300
_POINTS = 600  # of a curve by update: more do not fit on a screen


def epoch_chart(frame: pd.DataFrame, names: Sequence[str], *, log: bool = False, best: int | None = None) -> go.Figure:
    """Numbers by epoch.

    Args:
        frame: As of ``history_frame``.
        names: Its columns to draw.
        log: Whether the y axis is logarithmic.
        best: The epoch to mark.
    """
    labels = _labels(names)
    figure = _figure("epoch", log=log)
    _whole_epochs(figure, frame["epoch"])
    for name, label, color in zip(names, labels, _colors(names, labels), strict=True):
        _add_line(
            figure, frame["epoch"], frame[name], label, color, dashed=name.startswith("train/") and len(names) > 1
        )
    if best is not None:
        figure.add_vline(x=best, line={"dash": "dot", "width": 1, "color": hex_color(MUTED)})
        figure.add_annotation(
            x=best, y=1, yref="paper", text="best", showarrow=False, yanchor="top", xanchor="left", font={"size": 11}
        )
    return figure


def step_chart(curve: Curve, label: str, *, log: bool = False) -> go.Figure:
    """A number by update: the mean as a line, least and most as a band, crosses where it was not finite.

    Args:
        curve: Its points.
        label: What it is called.
        log: Whether the y axis is logarithmic if the numbers differ by more than a factor of ten.
    """
    step, mean, low, high, missing = _thinned(curve)
    known = low[np.isfinite(low) & np.isfinite(high)]
    figure = _figure("update", log=log and len(known) > 0 and 0 < 10 * known.min() < np.nanmax(high))
    color = hex_color(CATEGORICAL[0])
    if curve.width > 1 or len(step) < len(curve):
        band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=step, y=high, **band)
        figure.add_scatter(x=step, y=low, fill="tonexty", fillcolor=_faint(CATEGORICAL[0]), **band)
    _add_line(figure, step, mean, label, color)
    broken = step[missing > 0]
    if len(broken):
        top = np.nanmax(high) if np.isfinite(high).any() else 1.0
        figure.add_scatter(
            x=broken,
            y=np.full(len(broken), top),
            mode="markers",
            name="not finite",
            marker={"symbol": "x", "color": hex_color(CATEGORICAL[1]), "size": 8},
        )
    figure.update_layout(showlegend=bool(len(broken)))
    return figure


def compare_chart(curves: Mapping[str, pd.DataFrame], name: str) -> go.Figure:
    """One number of several runs by epoch."""
    figure = _figure("epoch", log=False)
    if curves:
        _whole_epochs(figure, max((frame["epoch"] for frame in curves.values()), key=len))
    for (run, frame), color in zip(curves.items(), _cycle(len(curves)), strict=True):
        if name in frame:
            _add_line(figure, frame["epoch"], frame[name], run, color)
    figure.update_layout(height=_HEIGHT_PX + 90, showlegend=True)
    return figure


def resource_chart(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str], unit: str) -> go.Figure:
    """Samples of the machine over the time of the run.

    Args:
        rows: Events of the kind ``resources``.
        names: Their fields to draw, and how to call them.
        unit: Of all of them.
    """
    figure = _figure("time (UTC)", log=False)
    each = max(-(-len(rows) // _SAMPLES), 1)  # samples that become one point, their mean
    for (field, label), color in zip(names.items(), _cycle(len(names)), strict=True):
        known = [(row.get("time"), row[field]) for row in rows if isinstance(row.get(field), int | float)]
        groups = [known[start : start + each] for start in range(0, len(known), each)]
        means = [sum(value for _, value in group) / len(group) for group in groups]
        _add_line(figure, [group[0][0] for group in groups], means, label, color)
    figure.update_yaxes(title=unit, rangemode="tozero")
    figure.update_layout(showlegend=len(names) > 1)
    return figure


def gauge(label: str, value: float, top: float, unit: str, *, full_is_bad: bool = True) -> go.Figure:
    """A level from 0 to ``top``; its last fifth is marked where it is bad to be full."""
    import plotly.graph_objects as go

    number = {"suffix": f" {unit}", "valueformat": ".3~g" if top < 1000 else ",.0f", "font": {"size": 24}}
    bad = [{"range": [0.8 * top, top], "color": _faint(CATEGORICAL[1])}] if full_is_bad else []
    figure = go.Figure(
        go.Indicator(
            mode="gauge+number",
            value=value,
            number=number,
            title={"text": label, "font": {"size": 14}},
            gauge={
                "axis": {"range": [0, top], "nticks": 5, "tickfont": {"size": 10}},
                "bar": {"color": hex_color(CATEGORICAL[0]), "thickness": 0.7},
                "steps": bad,
                "bgcolor": _faint(MUTED),
                "borderwidth": 0,
            },
        )
    )
    figure.update_layout(height=170, margin={"l": 24, "r": 24, "t": 44, "b": 8})
    return figure


def _figure(x: str, *, log: bool) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        height=_HEIGHT_PX,
        margin={"l": 8, "r": 8, "t": 24, "b": 8},
        hovermode="x unified",
        uirevision="kept",  # a zoom survives the next refresh
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    figure.update_xaxes(title=x, showgrid=False)
    figure.update_yaxes(nticks=6, exponentformat="none")
    if log:
        figure.update_yaxes(type="log", tickformat="~g", dtick="D2")  # ticks at 1, 2, 5, 10
    return figure


def _whole_epochs(figure: go.Figure, epochs: pd.Series) -> None:
    """No ticks between epochs while there are few."""
    if 0 < len(epochs) <= _FEW_EPOCHS:
        figure.update_xaxes(dtick=1)


def _add_line(figure: go.Figure, x: Any, y: Any, label: str, color: str, *, dashed: bool = False) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        name=label,
        mode="lines+markers" if len(x) <= 30 else "lines",
        marker={"size": 5},
        line={"color": color, "width": 2, "dash": "dot" if dashed else "solid"},
        hovertemplate="%{y:.4g}",
    )


def _labels(names: Sequence[str]) -> list[str]:
    """What a line is called beside the others: the part only, the column only, or both."""
    parts = {name.partition("/")[0] for name in names}
    if len(names) > 1 and all("@" in name for name in names):
        texts = [score_name(name) for name in names]
        return [text.rpartition(" at ")[2].rpartition(", ")[2] for text in texts]
    labels = []
    for name in names:
        part, _, rest = name.partition("/")
        said = rest.removeprefix("loss/").removeprefix("loss_weight/")
        text = score_name(rest) if said == rest else said
        labels.append(f"{text} ({part})" if len(parts) > 1 and part in ("train", "val") else text)
    if len(names) > 1 and {name.partition("/")[2] for name in names} == {"loss"}:
        return [{"train": "training", "val": "validation"}.get(name.partition("/")[0], name) for name in names]
    return labels


def _colors(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Heights in their ramp; the same term in both parts in the same colour."""
    if labels and all(label.endswith(" m") for label in labels):
        return [hex_color(color) for color in series_colors(labels)]
    kinds = list(dict.fromkeys(name.partition("/")[2] for name in names))
    if len(kinds) == 1:
        return _cycle(len(names))
    own = dict(zip(kinds, _cycle(len(kinds)), strict=True))
    return [own[name.partition("/")[2]] for name in names]


def _cycle(count: int) -> list[str]:
    return [hex_color(CATEGORICAL[index % len(CATEGORICAL)]) for index in range(count)]


def _faint(color: tuple[int, int, int]) -> str:
    return f"rgba({color[0]}, {color[1]}, {color[2]}, 0.22)"


def _thinned(curve: Curve) -> tuple[Any, Any, Any, Any, Any]:
    """At most some hundred points; least and most of those that become one stay."""
    each = -(-len(curve) // _POINTS)
    if each <= 1:
        return curve.step, curve.mean, curve.low, curve.high, curve.missing
    starts = np.arange(0, len(curve), each)
    finite = np.isfinite(curve.mean)
    count = np.add.reduceat(finite.astype(float), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.add.reduceat(np.where(finite, curve.mean, 0.0), starts) / count
    low = np.fmin.reduceat(curve.low, starts)
    return curve.step[starts], mean, low, np.fmax.reduceat(curve.high, starts), np.add.reduceat(curve.missing, starts)
