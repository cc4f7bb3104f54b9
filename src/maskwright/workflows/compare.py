"""Compare runs: scores with intervals, paired tests on the same test data, other settings, curves over each other.

Reads run folders only; nothing is computed again.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ConfigError, RunError
from maskwright.files import read_json, write_json, write_text
from maskwright.metrics import SCORES
from maskwright.metrics.confidence import compare_models
from maskwright.pictures import figure, line_chart, page, paragraph, sentences, table
from maskwright.tracking import RunReader
from maskwright.workflows.report_tables import Table, interval_text

__all__ = [
    "Column",
    "ComparedRun",
    "RunComparison",
    "RunDifference",
    "compare_runs",
    "paired_differences",
    "read_run",
    "settings_that_differ",
    "too_few",
    "why_not_paired",
]

_IOU = SCORES["iou"][0]
_MEAN = "mean"
_CURVES = ("train/loss", "val/loss", "val/iou", "val/miou", "val/rmse")
_OWN = ("name", "tracking.")  # settings that say nothing about the model


@dataclass(frozen=True, slots=True)
class Column:
    """A score of a run on the test part, with the ends of its interval; nan: not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ComparedRun:
    """What is read from a run folder.

    Attributes:
        name: Name of the folder.
        status: As in run.json.
        history: One entry per epoch.
        settings: Flat.
        score: Name of the score that decides: ``iou`` or ``rmse``; None if the test part was not scored.
        part: The part that was scored.
        columns: By name: ``5 m``, ``crack``, ``mean``.
        counts: TP, FP, FN, TN by image or block of ground; empty if they were not kept.
    """

    name: str
    status: str
    history: tuple[dict[str, Any], ...]
    settings: dict[str, Any]
    score: str | None = None
    part: str = "test"
    columns: dict[str, Column] = field(default_factory=dict)
    counts: dict[str, list[list[int]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunDifference:
    """A run minus the first one, in a column, on the same images or blocks."""

    run: str
    reference: str
    column: str
    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class RunComparison:
    """Runs beside each other.

    Attributes:
        runs: In the order given; the first is the one the others are held against.
        differences: Paired tests, where the test data is the same.
        settings: Head and rows of the settings that differ.
        notes: What cannot be compared, and why.
    """

    runs: tuple[ComparedRun, ...]
    differences: tuple[RunDifference, ...]
    settings: Table
    notes: tuple[str, ...]

    def score_table(self) -> Table:
        """A row for each run: status, epochs, scores with intervals."""
        columns = list(dict.fromkeys(name for run in self.runs for name in run.columns))
        head = ["run", "status", "epochs", *(f"{_label(self.runs)} {name}" for name in columns)]
        rows = [
            [run.name, run.status, str(len(run.history)), *(_cell(run.columns.get(name)) for name in columns)]
            for run in self.runs
        ]
        return head, rows

    def difference_table(self) -> Table:
        """A row for each run and column: difference to the first run, interval, p-value."""
        head = ["run", "against", "column", "difference", "95% interval", "p"]
        rows = [
            [
                one.run,
                one.reference,
                one.column,
                "-" if math.isnan(one.value) else f"{one.value:+.3f}",
                "" if math.isnan(one.low) else f"({one.low:+.3f} to {one.high:+.3f})",
                "-" if math.isnan(one.p_value) else f"{one.p_value:.4f}",
            ]
            for one in self.differences
        ]
        return head, rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the JSON file; what is not defined is None."""
        head, rows = self.settings
        runs = [
            {
                "run": run.name,
                "status": run.status,
                "epochs": len(run.history),
                "part": run.part,
                "score": run.score,
                "columns": {
                    name: {"value": _known(one.value), "low": _known(one.low), "high": _known(one.high)}
                    for name, one in run.columns.items()
                },
            }
            for run in self.runs
        ]
        differences = [
            {
                "run": one.run,
                "reference": one.reference,
                "column": one.column,
                "difference": _known(one.value),
                "low": _known(one.low),
                "high": _known(one.high),
                "p_value": _known(one.p_value),
            }
            for one in self.differences
        ]
        settings = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
        return {"runs": runs, "differences": differences, "settings": settings, "notes": list(self.notes)}


def compare_runs(paths: Sequence[str | Path], *, on: str | None = None, out: Path | None = None) -> RunComparison:
    """Put runs beside each other.

    Args:
        paths: Run folders, two at least; the others are held against the first.
        on: Name of the data they were evaluated ``--on``; unset: the test part of each.
        out: A page ``NAME.html``; ``NAME.csv`` and ``NAME.json`` are written beside it. None: nothing is written.

    Raises:
        ConfigError: If fewer than two runs are named, or one twice.
        RunError: If a path is no run folder, a file of it is damaged, or it was not evaluated on that data.
    """
    if len({Path(path).resolve() for path in paths}) < max(len(paths), 2):
        raise ConfigError("Name two different runs at least. For example: maskwright compare outputs/a outputs/b")
    runs = _named_apart([read_run(Path(path), on) for path in paths])
    differences: list[RunDifference] = []
    notes: list[str] = []
    for run in runs[1:]:
        reason = why_not_paired(runs[0], run)
        if reason is None:
            differences += paired_differences(runs[0], run)
        else:
            notes.append(f"{run.name} and {runs[0].name} have no paired test: {reason}")
    if differences and (few := too_few(len(runs[0].counts))):
        notes.append(few)
    if len(differences) > 1:
        notes.append("The p-values are not corrected for the number of columns and runs that were looked at.")
    comparison = RunComparison(
        tuple(runs), tuple(differences), settings_that_differ({run.name: run.settings for run in runs}), tuple(notes)
    )
    if out is not None:
        _write(comparison, out)
    return comparison


def settings_that_differ(settings: Mapping[str, Mapping[str, Any]]) -> Table:
    """Head and rows of the settings that are not the same in all runs, by name of the run; ``-``: it has none."""
    names = list(dict.fromkeys(key for values in settings.values() for key in values))
    rows = []
    for name in names:
        said = [_said(values[name]) if name in values else "-" for values in settings.values()]
        if not name.startswith(_OWN) and len(set(said)) > 1:
            rows.append([name, *said])
    return ["setting", *settings], rows


def read_run(path: Path, on: str | None = None) -> ComparedRun:
    """What a comparison needs of a run folder; ``on``: scored on data of this name instead of its test part.

    Raises:
        RunError: If it is no run folder, a file of it is damaged, or it was not evaluated on that data.
    """
    from maskwright.training.callbacks.track import flat

    reader = RunReader(path)
    settings = flat(reader.settings())
    status, history = str(reader.status()["status"]), reader.history()
    name = reader.folder.path.resolve().name
    scored = reader.folder.path if on is None else reader.folder.path / "evaluations" / on
    numbers = scored / "evaluation.json"
    if on is not None and not numbers.exists():
        raise RunError(
            f"{name} was not evaluated --on {on}: there is no {numbers}. Run: maskwright evaluate {path} --on DATA"
        )
    if not numbers.exists():
        return ComparedRun(name, status, history, settings)
    content = read_json(numbers)
    try:
        part, score, columns = _scores(content)
    except (AttributeError, KeyError, TypeError, ValueError) as cause:
        raise RunError(
            f"{numbers} is damaged: it does not hold the scores of an evaluation. Delete it, or score again."
        ) from cause
    blocks = scored / "evaluation_blocks.json"
    counts = read_json(blocks) if blocks.exists() else {}
    try:
        whole = not counts or _stacked(counts).shape[1:] == (len(content["model"]), 4)
    except (AttributeError, TypeError, ValueError):
        whole = False
    if not whole:
        raise RunError(f"{blocks} is damaged: it does not hold four counts for each column. Delete it, or score again.")
    return ComparedRun(name, status, history, settings, score, part, columns, counts)


def _scores(content: Any) -> tuple[str, str, dict[str, Column]]:
    """The part that was scored, the score that decides and its columns, from an evaluation.json."""
    score = content.get("score", "iou")
    columns = {_column(row): _scored(row["scores"].get(score), row["intervals"].get(score)) for row in content["model"]}
    if len(columns) > 1:
        columns[_MEAN] = _scored(content.get("mean", content.get("mean_iou")), content.get("mean_interval"))
    return content["part"], score, columns


def _named_apart(runs: list[ComparedRun]) -> list[ComparedRun]:
    """Runs of one name in different folders get a number."""
    seen: dict[str, int] = {}
    named = []
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        named.append(run if seen[run.name] == 1 else replace(run, name=f"{run.name} ({seen[run.name]})"))
    return named


def why_not_paired(a: ComparedRun, b: ComparedRun) -> str | None:
    """What stands in the way of a paired test of two runs, in a sentence; None if nothing does."""
    for run in (a, b):
        if run.score is None:
            return f"{run.name} was not scored on a test part."
        if not run.counts:
            return f"{run.name} has no counts by image or block; they are kept for classes and gaps, not for metres."
    if a.part != b.part:
        return f"one was scored on {a.part}, the other on {b.part}."
    if _things(a) != _things(b):
        return "they score other columns."
    shared = a.counts.keys() & b.counts.keys()
    if len(shared) < len(a.counts) or len(shared) < len(b.counts):
        sizes = f"{len(a.counts)} and {len(b.counts)}"
        return f"their test data differs ({len(shared)} images or blocks in common, of {sizes})."
    first, second = _stacked(a.counts), _stacked({name: b.counts[name] for name in a.counts})
    if not np.array_equal(_truth(first), _truth(second)):
        return "the truth, or what counts, is not the same on the same test data."
    return None


def paired_differences(a: ComparedRun, b: ComparedRun) -> list[RunDifference]:
    """``b`` minus ``a`` in each column and in their mean, on the same images or blocks."""
    first, second = _stacked(a.counts), _stacked({name: b.counts[name] for name in a.counts})
    columns = _things(a)
    found = compare_models(second, first, _IOU)
    rows = [
        RunDifference(b.name, a.name, column, *(float(part[k]) for part in found)) for k, column in enumerate(columns)
    ]
    present = _truth(first)[..., 0].sum(axis=0) > 0
    if present.sum() > 1:

        def mean(counts: Any) -> NDArray[np.float64]:
            means: NDArray[np.float64] = np.nan_to_num(_IOU(counts)[..., present]).mean(axis=-1, keepdims=True)
            return means

        overall = compare_models(second, first, mean)
        rows.append(RunDifference(b.name, a.name, _MEAN, *(float(part[0]) for part in overall)))
    return rows


def too_few(blocks: int) -> str | None:
    """What a reader must know of differences over so few images or blocks: p cannot be small, whatever is true."""
    least = 2.0 ** (1 - blocks)  # all exchanges of which answer came from which run; two of them are the most extreme
    if least <= 0.05:
        return None
    only = "one image or block" if blocks == 1 else f"{blocks} images or blocks"
    return f"Only {only} of test data: p cannot fall below {least:g}, and the intervals are rough. Add test data."


def _things(run: ComparedRun) -> list[str]:
    return [name for name in run.columns if name != _MEAN]


def _stacked(counts: Mapping[str, Sequence[Sequence[int]]]) -> NDArray[np.int64]:
    return np.array(list(counts.values()), dtype=np.int64)  # (N, K, 4)


def _truth(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, K, 2): pixels that truly belong to the column, and pixels that count."""
    return np.stack((counts[..., 0] + counts[..., 2], counts.sum(axis=-1)), axis=-1)


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(comparison: RunComparison, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    blocks: list[tuple[str, list[Any]]] = [("Scores", [table(*comparison.score_table())])]
    if comparison.differences:
        about = paragraph(
            "Paired on the same test data: in each image or block of ground both runs are scored, and p is how often "
            "a difference at least as large appears if it were a coin's toss which answer came from which run."
        )
        blocks.append(("Differences", [about, table(*comparison.difference_table())]))
    if comparison.notes:
        blocks.append(("Notes", [sentences(comparison.notes)]))
    head, rows = comparison.settings
    same = paragraph("All settings are the same.")
    blocks.append(("Settings that differ", [table(head, rows) if rows else same]))
    charts = [figure(chart, f"{name}, by epoch.") for name, chart in _charts(comparison.runs)]
    if charts:
        blocks.append(("Curves", charts))
    write_text(out, page(" / ".join(run.name for run in comparison.runs), blocks))
    write_json(out.with_suffix(".json"), comparison.to_dict())
    write_text(out.with_suffix(".csv"), _csv(comparison))


def _charts(runs: Sequence[ComparedRun]) -> list[tuple[str, Any]]:
    epochs = sorted({entry["epoch"] for run in runs for entry in run.history})
    charts = []
    for name in _CURVES:
        curves = {}
        for run in runs:
            values = {entry["epoch"]: entry.get(name) for entry in run.history}
            if any(value is not None for value in values.values()):
                curves[run.name] = [values.get(epoch) for epoch in epochs]
        if curves:
            charts.append((name, line_chart(epochs, curves, x="epoch", y=name)))
    return charts


def _csv(comparison: RunComparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ["run", "part", "score", "column", "value", "low", "high", "reference", "difference"]
    writer.writerow([*names, "difference_low", "difference_high", "p_value"])
    found = {(one.run, one.column): one for one in comparison.differences}
    for run in comparison.runs:
        for name, one in run.columns.items():
            row = [run.name, run.part, run.score, name, *map(_known, (one.value, one.low, one.high))]
            paired = found.get((run.name, name))
            numbers = () if paired is None else (paired.value, paired.low, paired.high, paired.p_value)
            rest = [""] * 5 if paired is None else [paired.reference, *map(_known, numbers)]
            writer.writerow([*row, *rest])
    return text.getvalue()


def _label(runs: Sequence[ComparedRun]) -> str:
    names = {"rmse": "RMSE m", "iou": "IoU"}
    scores = {names.get(run.score, run.score) for run in runs if run.score is not None}
    return "/".join(sorted(scores)) or "IoU"


def _cell(column: Column | None) -> str:
    if column is None or math.isnan(column.value):
        return "-"
    return f"{column.value:.3f} {interval_text((column.low, column.high))}".strip()


def _column(row: Mapping[str, Any]) -> str:
    return str(row["column"]) if "column" in row else f"{row['height_m']:g} m"


def _scored(value: float | None, interval: Sequence[float | None] | None) -> Column:
    low, high = interval or (None, None)
    return Column(*(math.nan if number is None else float(number) for number in (value, low, high)))


def _said(value: Any) -> str:
    return "unset" if value is None else str(value)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
