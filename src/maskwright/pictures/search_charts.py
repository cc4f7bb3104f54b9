"""Charts of a search over settings: scores by trial, what matters, and all trials across all settings."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ShapeError
from maskwright.pictures.charts import blank_axes, drawn
from maskwright.pictures.colors import ACCENT, INK, MUTED, hex_color

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["parallel_chart", "ranking_chart", "trials_chart"]

Setting = Sequence[float | str | None]

_PALE = "#dfe6ea"
_BEST = "#c46a1b"
_LONGEST = 34  # letters of a name beside its bar
_TICKS = 3
_WORD = 12  # letters of a choice beside its axis


def trials_chart(
    scores: Mapping[int, float | None], given_up: Collection[int], *, mode: Literal["max", "min"], y: str = ""
) -> Image:
    """Score of each trial, and the best so far.

    Args:
        scores: By number of the trial, ascending; None: it has none.
        given_up: Trials that were ended early: shown hollow, and no part of the best.
        mode: Which way scores are better.
        y: Name of the score.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = blank_axes("trial", y, "")
    known = [(number, score) for number, score in scores.items() if score is not None]
    for early, face, name in ((False, hex_color(ACCENT), "finished"), (True, "none", "given up, its last score")):
        points = [point for point in known if (point[0] in given_up) is early]
        if points:
            axes.scatter(*zip(*points, strict=True), s=22, facecolors=face, edgecolors=hex_color(ACCENT), label=name)
    best: list[tuple[int, float]] = []
    for number, score in known:
        if number not in given_up:
            better = max if mode == "max" else min
            best.append((number, better(score, best[-1][1]) if best else score))
    if best:
        best.append((max(scores), best[-1][1]))
        axes.step(*zip(*best, strict=True), where="post", color=_BEST, linewidth=1.6, label="best so far")
    if known:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return drawn(figure)


def ranking_chart(shares: Mapping[str, float]) -> Image:
    """Horizontal bars, the first on top, each with its share in per cent.

    Args:
        shares: Shares 0..1 by name.
    """
    figure, axes = blank_axes("", "", "", size=(7.2, 0.7 + 0.34 * max(len(shares), 1)))
    places = range(len(shares))
    axes.barh(places, list(shares.values()), color=hex_color(ACCENT), height=0.62)
    axes.set_yticks(places, [_short(name, _LONGEST) for name in shares])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_xlim(0, 1.12 * max(shares.values(), default=1.0) or 1.0)
    for place, share in zip(places, shares.values(), strict=True):
        axes.text(share, place, f" {share:.0%}", va="center", color=hex_color(INK), fontsize=8.5)
    return drawn(figure)


def parallel_chart(
    settings: Mapping[str, Setting],
    scores: Sequence[float | None],
    *,
    score: str,
    mode: Literal["max", "min"],
    log: Collection[str] = (),
) -> Image:
    """A line for each trial through its settings to its score; good ones dark, the best one apart.

    Args:
        settings: By name, a value for each trial: a number, a word, or None where a trial does not have it: the line is
            dashed across it.
        scores: Of each trial; None: it has none, and is not drawn.
        score: Name of the last axis.
        mode: Which way scores are better.
        log: Settings whose axis is logarithmic.

    Raises:
        ShapeError: If a setting does not have one value for each score.
    """
    from matplotlib.colors import LinearSegmentedColormap

    for name, values in settings.items():
        if len(values) != len(scores):
            raise ShapeError(f'"{name}" has {len(values)} values for {len(scores)} trials; give one for each.')
    scored = [index for index, value in enumerate(scores) if value is not None]
    columns = {name: [values[index] for index in scored] for name, values in settings.items()}
    columns[score] = [scores[index] for index in scored]
    figure, axes = blank_axes("", "", "", size=(max(7.2, 1.35 * len(columns)), 3.9))
    scales = [_Scale(values, log=name in log) for name, values in columns.items()]
    heights = np.array([scale.heights for scale in scales]).reshape(len(scales), len(scored))
    rank = heights[-1] if mode == "max" else 1 - heights[-1]
    paint = LinearSegmentedColormap.from_list("scores", [_PALE, hex_color(ACCENT)])
    order = np.argsort(rank, kind="stable")
    for place in order:
        last = place == order[-1]
        color, width = (_BEST, 2.4) if last else (paint(float(rank[place])), 1.2)
        line, there = heights[:, place], np.flatnonzero(np.isfinite(heights[:, place]))
        if len(there) < len(line):
            axes.plot(there, line[there], color=color, linewidth=0.7 * width, dashes=(4, 3))
        axes.plot(range(len(line)), line, color=color, linewidth=width, marker="o", markersize=2.5)
    _draw_scales(axes, list(columns), scales)
    return drawn(figure)


class _Scale:
    """Where the values of an axis lie, 0..1, and what stands beside them."""

    def __init__(self, values: Setting, *, log: bool) -> None:
        known = [value for value in values if value is not None]
        if any(isinstance(value, str) for value in known):
            words = sorted({str(value) for value in known})
            places = {word: (index + 0.5) / len(words) for index, word in enumerate(words)}
            self.heights = _array(None if value is None else places[str(value)] for value in values)
            self.ticks = [(place, _short(word, _WORD)) for word, place in places.items()]
            return
        numbers = _array(None if value is None else float(value) for value in values)
        placed = np.log10(numbers) if log else numbers
        low, high = (np.nanmin(placed), np.nanmax(placed)) if known else (0.0, 1.0)
        span = float(high - low) or 1.0
        self.heights = (placed - low) / span if high > low else np.where(np.isnan(placed), np.nan, 0.5)
        shares = np.linspace(0, 1, _TICKS) if high > low else (0.5,)
        ends = [float(low + share * span) if high > low else float(low) for share in shares]
        self.ticks = [(float(share), f"{10**end if log else end:.3g}") for share, end in zip(shares, ends, strict=True)]


def _draw_scales(axes: Any, names: Sequence[str], scales: Sequence[_Scale]) -> None:
    for place, scale in enumerate(scales):
        axes.axvline(place, color=hex_color(MUTED), linewidth=0.8, zorder=0)
        for height, text in scale.ticks:
            box = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.8}
            axes.text(place + 0.03, height, text, fontsize=7.5, va="center", color=hex_color(INK), bbox=box)
    axes.set_xticks(range(len(names)), [name.replace(".", ".\n") for name in names])
    axes.set_xlim(-0.15, len(names) - 1 + 0.35)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.tick_params(axis="x", length=0, labelsize=8)
    axes.spines["bottom"].set_visible(False)


def _array(values: Any) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
