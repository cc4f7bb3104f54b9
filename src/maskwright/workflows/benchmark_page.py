"""What a benchmark of models leaves behind: a page, a table of kinds and a table of runs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskwright.files import write_text
from maskwright.pictures import bars_chart, figure, line_chart, page, paragraph, sentences, table
from maskwright.workflows.benchmark_models import Benchmark, KindSummary, Trial
from maskwright.workflows.report_tables import Table

__all__ = ["difference_rows", "kind_rows", "run_rows", "write_benchmark"]

_MEAN = "mean"


def write_benchmark(benchmark: Benchmark, folder: Path) -> None:
    """Write ``benchmark.html``, ``benchmark.csv`` (kinds) and ``benchmark_runs.csv``; each replaced as a whole.

    Raises:
        RunError: If the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "benchmark.csv", _csv(*_summary_cells(benchmark)))
    write_text(folder / "benchmark_runs.csv", _csv(*_run_cells(benchmark)))
    write_text(folder / "benchmark.html", _page(benchmark))


def kind_rows(benchmark: Benchmark) -> Table:
    """A row for each kind: runs, weights, minutes, and each column as mean and spread over the seeds."""
    columns = _columns(benchmark)
    head = ["kind", "runs", "weights", "minutes", *(f"{_label(benchmark)} {column}" for column in columns)]
    rows = []
    for kind in _kinds(benchmark):
        trials = [trial for trial in benchmark.trials if trial.kind == kind]
        done = [trial for trial in trials if trial.run is not None]
        minutes = [trial.minutes for trial in done if trial.minutes is not None]
        weights = next((f"{trial.parameters / 1e6:.2f} M" for trial in done if trial.parameters), "-")
        known = {row.column: row for row in benchmark.rows if row.kind == kind}
        cells = [_with_spread(known[column].mean, known[column].spread) for column in columns]
        spent = f"{sum(minutes) / len(minutes):.1f}" if minutes else "-"
        rows.append([kind, f"{len(done)} of {len(trials)}", weights, spent, *cells])
    return head, rows


def difference_rows(benchmark: Benchmark) -> Table:
    """A row for each other kind and column: difference to the first kind over the seeds, and on the test data."""
    head = ["kind", "against", "column", "difference over seeds", "better", "on the test data", "95% interval", "p"]
    first = next(iter(_kinds(benchmark)), "")
    rows = []
    for row in benchmark.rows:
        if row.kind == first or not row.pairs:
            continue
        test = ["-", "", "-"]
        if row.paired is not None and not math.isnan(row.paired.value):
            low, high, p = row.paired.low, row.paired.high, row.paired.p_value
            interval = "" if math.isnan(low) else f"({low:+.3f} to {high:+.3f})"
            test = [f"{row.paired.value:+.3f}", interval, "-" if math.isnan(p) else f"{p:.4f}"]
        over_seeds = _with_spread(row.difference, row.difference_spread, signed=True)
        rows.append([row.kind, first, row.column, over_seeds, f"{row.better} of {len(row.pairs)}", *test])
    return head, rows


def run_rows(benchmark: Benchmark) -> Table:
    """A row for each run: its folder, or why it has no result."""
    rows = []
    for trial in benchmark.trials:
        result = "not finished yet" if trial.run is None else _score(trial)
        epochs = "-" if trial.run is None else str(len(trial.run.history))
        said = f"failed: {trial.failure.splitlines()[0]}" if trial.failure else result
        rows.append([trial.kind, str(trial.seed), "-" if trial.folder is None else trial.folder.name, epochs, said])
    return ["kind", "seed", "run", "epochs", "result"], rows


def _page(benchmark: Benchmark) -> str:
    kinds = _kinds(benchmark)
    seeds = list(dict.fromkeys(trial.seed for trial in benchmark.trials))
    about = paragraph(
        f"{len(kinds)} kinds of network, each trained {len(seeds)} times (seeds {', '.join(map(str, seeds))}) with the "
        "same settings on the same division of the data; mean and standard deviation over the seeds."
    )
    blocks: list[tuple[str, list[Any]]] = [("Scores", [about, table(*kind_rows(benchmark))])]
    if benchmark.rows and any(row.known for row in benchmark.rows):
        blocks[0][1].append(figure(_bars(benchmark), "Mean over the seeds; the line spans the lowest and the highest."))
    head, rows = difference_rows(benchmark)
    if rows:
        text = (
            "Over seeds: mean and standard deviation of the differences, seed by seed. On the test data: the counts of "
            "all seeds added, with an interval over images or blocks of ground and a permutation test. A difference is "
            "worth believing where both agree. The p-values are not corrected for the number of rows."
        )
        blocks.append(("Differences to the first kind", [paragraph(text), table(head, rows)]))
    curves = _curves(benchmark)
    if curves:
        blocks.append(("Curves", [figure(chart, f"{name} by epoch, mean over the seeds.") for name, chart in curves]))
    blocks.append(("Runs", [table(*run_rows(benchmark))]))
    notes = [*benchmark.notes, *([] if benchmark.stopped is None else [f"Not complete: {benchmark.stopped}."])]
    if notes:
        blocks.append(("Notes", [sentences(notes)]))
    return page("Benchmark of models", blocks)


def _bars(benchmark: Benchmark) -> Any:
    columns, kinds = _columns(benchmark), _kinds(benchmark)
    found = {(row.kind, row.column): row for row in benchmark.rows}
    means = {kind: [_known(found[kind, column].mean) for column in columns] for kind in kinds}
    spans = {kind: [_span(found[kind, column]) for column in columns] for kind in kinds}
    return bars_chart(columns, means, intervals=spans, y=_label(benchmark))


def _curves(benchmark: Benchmark) -> list[tuple[str, Any]]:
    charts = []
    for name in ("train/loss", "val/loss", "val/iou", "val/miou", "val/rmse"):
        series: dict[str, list[float | None]] = {}
        epochs = max((len(trial.run.history) for trial in benchmark.trials if trial.run is not None), default=0)
        for kind in _kinds(benchmark):
            runs = [trial.run.history for trial in benchmark.trials if trial.kind == kind and trial.run is not None]
            curve = [_mean_at(runs, name, epoch) for epoch in range(1, epochs + 1)]
            if any(value is not None for value in curve):
                series[kind] = curve
        if series:
            charts.append((name, line_chart(list(range(1, epochs + 1)), series, x="epoch", y=name)))
    return charts


def _mean_at(histories: Sequence[Sequence[dict[str, Any]]], name: str, epoch: int) -> float | None:
    values = [entry.get(name) for history in histories for entry in history if entry["epoch"] == epoch]
    known = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _summary_cells(benchmark: Benchmark) -> Table:
    head = ["kind", "score", "column", "runs", "mean", "std", "min", "max", "difference", "difference_std", "better"]
    head += ["paired_difference", "paired_low", "paired_high", "p_value"]
    rows = []
    for row in benchmark.rows:
        low, high = _span(row)
        paired = row.paired
        tested = (math.nan,) * 4 if paired is None else (paired.value, paired.low, paired.high, paired.p_value)
        numbers = (row.mean, row.spread, low, high, row.difference, row.difference_spread)
        better = str(row.better) if row.pairs else ""
        cells = [row.kind, benchmark.score, row.column, str(len(row.known)), *map(_cell, numbers), better]
        rows.append([*cells, *map(_cell, tested)])
    return head, rows


def _run_cells(benchmark: Benchmark) -> Table:
    head = ["kind", "seed", "run", "status", "epochs", "minutes", "weights", "score", "column", "value", "low", "high"]
    rows = []
    for trial in benchmark.trials:
        status = "finished" if trial.run is not None else "failed" if trial.failure else "unfinished"
        epochs = "" if trial.run is None else str(len(trial.run.history))
        minutes = "" if trial.minutes is None else str(trial.minutes)
        weights = "" if trial.parameters is None else str(trial.parameters)
        name = "" if trial.folder is None else trial.folder.name
        first = [trial.kind, str(trial.seed), name, status, epochs, minutes, weights, benchmark.score]
        columns = {} if trial.run is None else trial.run.columns
        rows += [[*first, column, *map(_cell, (one.value, one.low, one.high))] for column, one in columns.items()]
        if not columns:
            rows.append([*first, "", "", "", ""])
    return head, rows


def _csv(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def _kinds(benchmark: Benchmark) -> list[str]:
    return list(dict.fromkeys(trial.kind for trial in benchmark.trials))


def _columns(benchmark: Benchmark) -> list[str]:
    return list(dict.fromkeys(row.column for row in benchmark.rows))


def _label(benchmark: Benchmark) -> str:
    return {"iou": "IoU", "rmse": "RMSE m"}.get(benchmark.score, benchmark.score)


def _score(trial: Trial) -> str:
    assert trial.run is not None
    columns = trial.run.columns
    if not columns:
        return "finished; there is no test part to score"
    name = _MEAN if _MEAN in columns else next(iter(columns))
    return f"{name} {columns[name].value:.3f}"


def _span(row: KindSummary) -> tuple[float, float]:
    return (min(row.known), max(row.known)) if row.known else (math.nan, math.nan)


def _with_spread(mean: float, spread: float, *, signed: bool = False) -> str:
    if math.isnan(mean):
        return "-"
    text = f"{mean:+.3f}" if signed else f"{mean:.3f}"
    return text if math.isnan(spread) else f"{text} +- {spread:.3f}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))
