"""Numbers of a model that predicts canopy height: errors in metres, beside what needs no training."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from maskwright.config import MetricsConfig
from maskwright.data.sources.rasters import HeightRasters
from maskwright.distributed import gathered, share_of, world_size
from maskwright.errors import DataError
from maskwright.metrics.confidence import interval_note
from maskwright.training.validation import evaluation_mode
from maskwright.workflows.baselines import Progress, pseudo_canopies
from maskwright.workflows.evaluation import Evaluation, ScoreRow

if TYPE_CHECKING:
    from maskwright.data.loaders import EvalLoader
    from maskwright.data.splits import Split
    from maskwright.tasks.height import Height
    from maskwright.types import Place
    from maskwright.workflows.assemble import AnySource
    from maskwright.workflows.tally import Watch

__all__ = ["evaluate_heights"]

Floats = NDArray[np.float64]

_SHOWN = 4
_NAMES = ("rmse", "mae", "bias", "r2")
_CHUNK_CELLS = 4_000_000


def evaluate_heights(
    model: nn.Module,
    task: Height,
    loader: EvalLoader,
    source: HeightRasters,
    split: Split,
    *,
    part: str,
    metrics: MetricsConfig,
    teacher: tuple[AnySource, Split] | None = None,
    watch: Watch | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score predicted heights on one part of the split; arguments as of ``evaluate_part``.

    ``teacher`` holds the data and the split from which the baselines learn; unset: those that are scored.
    """
    from maskwright.workflows.evaluate import block_ids

    started = time.monotonic()
    sums, places = _of_model(model, task, loader, watch, progress)
    unit, ids = block_ids(source, split, places, metrics)
    baselines, notes = _baselines(source, teacher or (source, split), places, metrics, progress)
    grouped = _grouped(sums, ids)
    others = {name: _grouped(value, ids) for name, value in baselines.items()}
    row = _row(grouped, metrics)
    note = interval_note(len(grouped))
    rmse = _scores(sums)["rmse"]
    ordered = np.argsort(-rmse, kind="stable")
    ordered = ordered[~np.isnan(rmse[ordered])]
    return Evaluation(
        part=part,
        task=task.kind,
        columns=task.columns,
        heights_m=(),
        score="rmse",
        model=[row],
        baselines={name: [_row(value, metrics)] for name, value in others.items()},
        sentences=[_sentence(grouped, others, metrics), *([] if note is None else [note])],
        sites=_by_site(sums, places, ids, metrics),
        tiles=len(places),
        unit=unit,
        blocks=len(grouped),
        valid_pixels=int(sums[:, 0].sum()),
        confidence=metrics.confidence,
        elapsed_s=time.monotonic() - started,
        mean=row.scores["rmse"],
        mean_interval=row.intervals["rmse"],
        worst=tuple(places[n] for n in ordered[: min(_SHOWN, (len(ordered) + 1) // 2)]),
        best=tuple(places[n] for n in ordered[::-1][: min(_SHOWN, len(ordered) // 2)]),
        notes=notes,
    )


def _of_model(
    model: nn.Module, task: Height, loader: EvalLoader, watch: Watch | None, progress: Progress | None
) -> tuple[Floats, list[Place]]:
    """Sums (N, 6) of each tile, and the tiles; several processes divide them, as in :func:`~.tally.count`."""
    numbers = range(len(loader)) if watch is not None else share_of(len(loader))
    device = next(model.parameters()).device
    sums: list[Floats] = []
    places: list[Place] = []
    with evaluation_mode(model), torch.inference_mode():
        for done, batch in enumerate(loader.some(numbers), start=1):
            said = task.decode(model(batch.image.to(device), None)).probs[:, 0].cpu().numpy()
            target, valid = batch.target.cpu().numpy(), batch.valid.cpu().numpy()
            sums += [_sums(said[b][valid[b]], target[b][valid[b]]) for b in range(len(batch))]
            places += batch.where
            if watch is not None:
                watch(said[:, None], target[:, None], valid, batch.where)
            if progress is not None:
                progress(done, len(numbers), "scoring")
    if watch is None and world_size() > 1:
        everyone = gathered((sums, places))
        sums, places = [row for rows, _ in everyone for row in rows], [place for _, some in everyone for place in some]
    if not places:
        raise DataError("There is no tile to score: the part of the split is empty.")
    return np.stack(sums), places


def _baselines(
    source: HeightRasters,
    teacher: tuple[AnySource, Split],
    places: Sequence[Place],
    metrics: MetricsConfig,
    progress: Progress | None,
) -> tuple[dict[str, Floats], list[str]]:
    """Sums (N, 6) of the mean height of the training ground, and of the surface minus its opening."""
    known, split = teacher
    assert isinstance(known, HeightRasters)  # heights are learned from no other
    train = np.sum([_truth_sums(known, place) for place in split.tiles["train"]], axis=0)
    mean = float(train[1] / max(train[0], 1.0))
    windows = metrics.baseline_windows_m
    tuning = np.zeros((len(windows), 6))
    tuned_on = split.tiles["val"]
    total = len(tuned_on) + len(places)
    for done, place in enumerate(tuned_on, start=1):
        tuning += _opened_sums(known, place, windows)
        if progress is not None:
            progress(done, total, "baselines")
    best = int(np.nan_to_num(_scores(tuning)["rmse"], nan=math.inf).argmin())
    flat, opened = [], []
    for done, place in enumerate(places, start=len(tuned_on) + 1):
        _, canopy, valid = source.sample(place.scene, place.window)
        true = canopy[valid]
        flat.append(_sums(np.full_like(true, mean), true))
        opened.append(_opened_sums(source, place, windows[best : best + 1])[0])
        if progress is not None:
            progress(done, total, "baselines")
    note = f"The mean height of the training ground is {mean:.2f} m; the pseudo-CHM opens with {windows[best]:g} m."
    return {
        "the mean height of the training ground": np.stack(flat),
        "surface minus its opening": np.stack(opened),
    }, [note]


def _truth_sums(source: HeightRasters, place: Place) -> Floats:
    _, canopy, valid = source.sample(place.scene, place.window)
    true = canopy[valid].astype(np.float64)
    return np.array([true.size, true.sum()])


def _opened_sums(source: HeightRasters, place: Place, windows_m: Sequence[float]) -> Floats:
    """Sums (windows, 6) of one tile; where no ground lies within the window nothing is guessed but 0."""
    _, canopy, valid = source.sample(place.scene, place.window)
    rows = [
        _sums(np.nan_to_num(pseudo[valid], nan=0.0, posinf=0.0), canopy[valid])
        for pseudo in pseudo_canopies(source, place, windows_m)
    ]
    return np.stack(rows)


def _sums(said: NDArray[Any], true: NDArray[Any]) -> Floats:
    """Pixels; sums of errors, absolute errors, squared errors, true heights, squared true heights."""
    errors, true = said.astype(np.float64) - true, true.astype(np.float64)
    return np.array([true.size, errors.sum(), np.abs(errors).sum(), errors @ errors, true.sum(), true @ true])


def _scores(sums: Floats) -> dict[str, Floats]:
    """Errors of sums (..., 6); nan without pixels."""
    pixels, errors, absolute, squares, true, true_squares = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = true_squares - true**2 / pixels
        return {
            "rmse": np.sqrt(squares / pixels),
            "mae": absolute / pixels,
            "bias": errors / pixels,
            "r2": np.where(spread > 0, 1 - squares / spread, np.nan),
        }


def _row(grouped: Floats, metrics: MetricsConfig, column: str = "height") -> ScoreRow:
    scores = _scores(grouped.sum(axis=0))
    drawn = _scores(_resampled(grouped, metrics)) if len(grouped) > 1 else None
    return ScoreRow(
        column=column,
        height_m=None,
        scores={name: float(scores[name]) for name in _NAMES},
        intervals={name: _interval(None if drawn is None else drawn[name], metrics) for name in _NAMES},
    )


def _by_site(
    sums: Floats, places: Sequence[Place], ids: Sequence[Hashable], metrics: MetricsConfig
) -> dict[str, list[ScoreRow]]:
    rows: dict[str, list[ScoreRow]] = {}
    for site in sorted({place.scene for place in places}):
        mine = [n for n, place in enumerate(places) if place.scene == site]
        rows[site] = [_row(_grouped(sums[mine], [ids[n] for n in mine]), metrics)]
    return rows


def _sentence(model: Floats, others: dict[str, Floats], metrics: MetricsConfig) -> str:
    """The model beside the best of what needs no training."""
    own = float(_scores(model.sum(axis=0))["rmse"])
    errors = {name: float(_scores(sums.sum(axis=0))["rmse"]) for name, sums in others.items()}
    best = min(errors, key=lambda name: errors[name])
    figures = f"RMSE {own:.2f} m against {errors[best]:.2f} m"
    if len(model) > 1:
        both = _scores(_resampled(np.stack((model, others[best]), axis=1), metrics))["rmse"]
        low, high = _interval(both[:, 0] - both[:, 1], metrics)
        figures += (
            f" (difference {own - errors[best]:+.2f} m, {metrics.confidence:.0%} interval {low:+.2f} to {high:+.2f})"
        )
        if low > 0:
            return f'The model loses to the baseline "{best}": {figures}. Do not use it.'
        if high >= 0:
            return (
                f'The model cannot be told apart from the baseline "{best}": {figures}. More test ground would decide.'
            )
    elif own >= errors[best]:
        return f'The model does not beat the baseline "{best}": {figures}.'
    return f'The model beats every baseline; the best of them is "{best}": {figures}.'


def _grouped(sums: Floats, ids: Sequence[Hashable]) -> Floats:
    numbers: dict[Hashable, int] = {}
    rows = np.array([numbers.setdefault(block, len(numbers)) for block in ids], dtype=np.intp)
    grouped = np.zeros((len(numbers), sums.shape[1]))
    np.add.at(grouped, rows, sums)
    return grouped


def _resampled(grouped: Floats, metrics: MetricsConfig) -> Floats:
    """Sums (draws, ...) of blocks drawn again with replacement."""
    blocks, flat = len(grouped), grouped.reshape(len(grouped), -1)
    flat = flat[np.lexsort(flat.T[::-1])]  # one order whatever the order of the tiles
    rng = np.random.Generator(np.random.Philox(0))
    chunk = max(1, _CHUNK_CELLS // blocks)
    drawn = []
    for start in range(0, metrics.bootstrap, chunk):
        rows = min(chunk, metrics.bootstrap - start)
        picked = rng.integers(blocks, size=(rows, blocks)) + np.arange(rows)[:, None] * blocks
        times = np.bincount(picked.ravel(), minlength=rows * blocks).reshape(rows, blocks)
        drawn.append(times.astype(np.float64) @ flat)
    return np.concatenate(drawn).reshape(metrics.bootstrap, *grouped.shape[1:])


def _interval(drawn: Floats | None, metrics: MetricsConfig) -> tuple[float, float]:
    if drawn is None or np.isnan(drawn).all():
        return math.nan, math.nan
    tail = (1 - metrics.confidence) / 2
    low, high = np.nanquantile(drawn, (tail, 1 - tail))
    return float(low), float(high)
