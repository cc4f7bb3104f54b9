"""Charts for reports: curves over epochs, bars with intervals, observed against predicted, confusion matrices.

Drawn by matplotlib without its global state, so a host's own figures and settings are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from maskwright.errors import ShapeError
from maskwright.pictures.colors import ACCENT, BASELINES, INK, MUTED, RGB, hex_color, series_colors

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["agreement_chart", "bars_chart", "blank_axes", "drawn", "line_chart", "matrix_chart"]

Values = Sequence[float | None]
Interval = tuple[float, float]

_DPI = 160  # more pixels than the page has, for sharp screens
_GRID = "#e7e5e0"
_LIGHT = "#f7f6f2"
_MATRICES_IN_A_ROW = 4
_LONGEST_LABEL = 14  # letters at the edge of a matrix


def line_chart(
    positions: Sequence[float],
    series: Mapping[str, Values],
    *,
    x: str = "",
    y: str = "",
    title: str = "",
    log_y: bool = False,
    log_x: bool = False,
    marks: Mapping[str, float] | None = None,
) -> Image:
    """Lines over a common axis, each labelled at its end.

    Args:
        positions: Where the values lie, for example epochs.
        series: Values by name; None or NaN leaves a hole. Series named as heights ("5 m") take the colours of heights.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        title: Line above.
        log_y: Logarithmic vertical axis.
        log_x: Logarithmic horizontal axis.
        marks: Positions to mark with an upright line, by name.

    Raises:
        ShapeError: If a series does not have one value for each position.
    """
    from matplotlib.ticker import MaxNLocator

    for name, values in series.items():
        if len(values) != len(positions):
            raise ShapeError(f'"{name}" has {len(values)} values for {len(positions)} positions; give one for each.')
    figure, axes = blank_axes(x, y, title)
    if log_y:
        axes.set_yscale("log")
    if log_x:
        axes.set_xscale("log")
    ends = []
    for (name, values), color in zip(series.items(), series_colors(list(series)), strict=True):
        numbers = _numbers(values)
        alone = np.count_nonzero(np.isfinite(numbers)) == 1
        axes.plot(positions, numbers, color=hex_color(color), linewidth=1.8, marker="o" if alone else None)
        if np.isfinite(numbers).any():
            ends.append((name, float(numbers[np.isfinite(numbers)][-1]), color))
    if not log_x and all(float(position).is_integer() for position in positions):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for height, (name, position) in enumerate((marks or {}).items()):
        axes.axvline(position, color=hex_color(MUTED), linewidth=0.9, linestyle="--")
        place = (position, 0.98 - 0.08 * height)
        axes.annotate(f" {name}: {position:.1e}", place, xycoords=axes.get_xaxis_transform(), fontsize=7, va="top")
    _label_ends(axes, ends, log_y)
    return drawn(figure)


def bars_chart(
    groups: Sequence[str],
    series: Mapping[str, Values],
    *,
    intervals: Mapping[str, Sequence[Interval]] | None = None,
    y: str = "",
    title: str = "",
) -> Image:
    """Groups of bars; the first series, the model, stands out, those beside it are calm.

    Args:
        groups: Names of the groups, for example heights.
        series: One value per group, by name; None or NaN: no bar, "n/a".
        intervals: (low, high) per group, by name; NaN: no interval.
        y: Label of the vertical axis.
        title: Line above.

    Raises:
        ShapeError: If a series does not have one value for each group.
    """
    figure, axes = blank_axes("", y, title)
    bar = 0.8 / max(len(series), 1)
    for index, (name, values) in enumerate(series.items()):
        if len(values) != len(groups):
            raise ShapeError(f'"{name}" has {len(values)} values for {len(groups)} groups; give one for each.')
        numbers = _numbers(values)
        color = ACCENT if index == 0 else BASELINES[(index - 1) % len(BASELINES)]
        centres = np.arange(len(groups)) + (index - (len(series) - 1) / 2) * bar
        axes.bar(centres, np.nan_to_num(numbers), width=bar * 0.92, color=hex_color(color), label=name)
        _draw_intervals(axes, centres, (intervals or {}).get(name, ()))
        for centre, number in zip(centres, numbers, strict=True):
            if not np.isfinite(number):
                axes.text(centre, 0, "n/a", ha="center", va="bottom", color=hex_color(MUTED), fontsize=7)
    axes.set_xticks(range(len(groups)), groups)
    axes.tick_params(axis="x", length=0)
    axes.axhline(0, color=hex_color(MUTED), linewidth=0.8)
    _legend_above(axes, columns=3)
    return drawn(figure)


def agreement_chart(
    pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], *, x: str = "observed", y: str = "predicted", title: str = ""
) -> Image:
    """Predicted against observed values, with the line on which both agree.

    Args:
        pairs: (observed, predicted) arrays by name.
        x: Label of the observed axis.
        y: Label of the predicted axis.
        title: Line above.
    """
    figure, axes = blank_axes(x, y, title, size=(4.6, 4.4))
    top = 0.0
    for (name, (observed, predicted)), color in zip(pairs.items(), series_colors(list(pairs)), strict=True):
        a, b = np.asarray(observed, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
        if a.shape != b.shape:
            raise ShapeError(f'"{name}" has {a.size} observed and {b.size} predicted values; give pairs.')
        axes.scatter(a, b, s=16, color=hex_color(color), alpha=0.7, linewidths=0, label=name)
        top = max([top, *a[np.isfinite(a)], *b[np.isfinite(b)]])
    top = top * 1.05 or 1.0
    axes.plot((0, top), (0, top), color=hex_color(MUTED), linewidth=0.9, dashes=(4, 3), zorder=0)
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    if pairs:
        axes.legend(loc="upper left", frameon=False, fontsize=8, handletextpad=0.1, labelcolor=hex_color(INK))
    return drawn(figure)


def matrix_chart(matrices: Mapping[str, tuple[Sequence[str], ArrayLike]], *, title: str = "") -> Image:
    """Confusion matrices side by side, each row as shares of what truly is that class.

    Args:
        matrices: By title: names of the classes, and (K, K) counts, row = true, column = called.
        title: Line above all.

    Raises:
        ShapeError: If there is no matrix, or one does not fit its names.
    """
    from matplotlib.figure import Figure

    if not matrices:
        raise ShapeError("A chart of confusion matrices needs at least one.")
    classes = max(len(names) for names, _ in matrices.values())
    columns = min(len(matrices), _MATRICES_IN_A_ROW)
    rows = math.ceil(len(matrices) / columns)
    side = 1.5 + 0.52 * classes
    figure = Figure(figsize=(side * columns, side * rows), dpi=_DPI, layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, x=0.02, ha="left", color=hex_color(INK), fontsize=10)
    for index, (name, (labels, cells)) in enumerate(matrices.items()):
        counts = np.asarray(cells, dtype=np.float64)
        if counts.shape != (len(labels), len(labels)):
            raise ShapeError(f'"{name}" has {len(labels)} names for a matrix of shape {counts.shape}; give one a row.')
        _draw_matrix(figure.add_subplot(rows, columns, index + 1), name, labels, counts)
    return drawn(figure)


def _draw_matrix(axes: Any, name: str, labels: Sequence[str], counts: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    paint = LinearSegmentedColormap.from_list("shares", [_LIGHT, hex_color(ACCENT)])
    axes.imshow(shares, cmap=paint, vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        text = f"{shares[row, column]:.0%}" if total[row, 0] else "-"
        color = "white" if shares[row, column] > 0.7 else hex_color(INK)
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7.5)
    short = [label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}\u2026" for label in labels]
    axes.set_xticks(range(len(short)), short, rotation=90 if len(short) > 2 else 0)
    axes.set_yticks(range(len(short)), short)
    axes.tick_params(colors=hex_color(MUTED), labelsize=7.5, length=0)
    axes.set_xlabel("called", color=hex_color(MUTED), fontsize=8.5)
    axes.set_ylabel("true", color=hex_color(MUTED), fontsize=8.5)
    axes.spines[:].set_visible(False)
    if name:
        axes.set_title(name, color=hex_color(INK), fontsize=9)


def blank_axes(x: str, y: str, title: str, size: tuple[float, float] = (7.2, 3.2)) -> tuple[Any, Any]:
    """A matplotlib figure and its axes in the style of all charts, ``size`` in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(hex_color(MUTED))
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=hex_color(MUTED), labelsize=8, length=3)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(x, color=hex_color(MUTED), fontsize=9)
    axes.set_ylabel(y, color=hex_color(MUTED), fontsize=9)
    if title:
        axes.set_title(title, loc="left", color=hex_color(INK), fontsize=10, pad=24)
    return figure, axes


def _draw_intervals(axes: Any, centres: Any, intervals: Sequence[Interval]) -> None:
    for centre, (low, high) in zip(centres, intervals, strict=False):
        if math.isfinite(low) and math.isfinite(high):
            axes.plot((centre, centre), (low, high), color=hex_color(INK), linewidth=1.1, solid_capstyle="butt")


def _legend_above(axes: Any, columns: int) -> None:
    """A legend read row by row; matplotlib fills column by column."""
    handles, names = axes.get_legend_handles_labels()
    order = [i for column in range(columns) for i in range(column, len(names), columns)]
    axes.legend(
        [handles[i] for i in order],
        [names[i] for i in order],
        loc="lower left",
        bbox_to_anchor=(0, 1.01),
        ncols=columns,
        frameon=False,
        fontsize=8,
        labelcolor=hex_color(INK),
        borderaxespad=0,
    )


def _label_ends(axes: Any, ends: Sequence[tuple[str, float, RGB]], log_y: bool) -> None:
    """Names at the right edge, level with the last values, pushed apart until none covers another."""
    axes.margins(x=0.02)
    scale = math.log10 if log_y else float
    bottom, top = (scale(limit) for limit in axes.get_ylim())
    ranked = sorted(((scale(value) - bottom) / (top - bottom), name, color) for name, value, color in ends)
    for (_, name, color), height in zip(ranked, _spread([height for height, _, _ in ranked]), strict=True):
        axes.annotate(
            name,
            xy=(1, height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=hex_color(color),
            fontsize=8.5,
        )


def _spread(heights: Sequence[float], least: float = 0.075) -> list[float]:
    """Ascending positions moved apart to at least ``least``, and back inside 0..1 as far as there is room."""
    if not heights:
        return []
    placed: list[float] = []
    for height in heights:
        placed.append(height if not placed else max(height, placed[-1] + least))
    overshoot = max(0.0, placed[-1] - 1.0)
    placed[-1] -= overshoot
    for i in range(len(placed) - 2, -1, -1):
        placed[i] = min(placed[i], placed[i + 1] - least)
    return placed


def _numbers(values: Values) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)


def drawn(figure: Any) -> Image:
    """A matplotlib figure as a picture that knows how large it is meant to be."""
    import PIL.Image
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    image.info["dpi"] = (_DPI, _DPI)  # tells pages and files how large it is meant to be
    return image
