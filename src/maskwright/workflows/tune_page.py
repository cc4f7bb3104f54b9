"""What a search leaves behind: a page with its trials and what matters, and a table."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from maskwright.files import write_text
from maskwright.pictures import Block, code, figure, page, paragraph, sentences, table
from maskwright.pictures.search_charts import parallel_chart, ranking_chart, trials_chart
from maskwright.workflows.report_tables import Table
from maskwright.workflows.tune_study import TrialRecord

if TYPE_CHECKING:
    from maskwright.workflows.tune import Tuning

__all__ = ["best_rows", "write_tuning"]

_MOST_ROWS = 200  # of the table of the page; the CSV holds all


def write_tuning(tuning: Tuning) -> None:
    """Write ``tune.html`` and ``trials.csv``; each replaced as a whole.

    Raises:
        RunError: If the disk refuses.
    """
    write_text(tuning.folder / "trials.csv", _csv(tuning))
    write_text(tuning.folder / "tune.html", _page(tuning))


def best_rows(tuning: Tuning, most: int) -> Table:
    """The best trials, best first: number, state, score, epochs, and each setting."""
    settings = _settings(tuning.trials)
    head = ["trial", "state", tuning.monitor, "epochs", *settings]
    rows = [
        [
            str(one.number + 1),
            one.state,
            "-" if one.score is None else f"{one.score:.4f}",
            str(max(one.scores, default=0)) if one.scores else "-",
            *(_cell(one.values.get(name)) for name in settings),
        ]
        for one in _ranked(tuning)[:most]
    ]
    return head, rows


def _page(tuning: Tuning) -> str:
    blocks: list[tuple[str, Sequence[Block]]] = [("Best", _best(tuning)), *_charts(tuning)]
    head, rows = best_rows(tuning, _MOST_ROWS)
    more = len(tuning.trials) - len(rows)
    last = [] if more <= 0 else [paragraph(f"{more} more stand in trials.csv.")]
    blocks.append(("Trials, best first", [table(head, rows), *last]))
    notes = _notes(tuning)
    if notes:
        blocks.append(("Notes", [sentences(notes)]))
    return page(f"Search: {tuning.name}", blocks, subtitle=_counted(tuning))


def _charts(tuning: Tuning) -> list[tuple[str, Sequence[Block]]]:
    scores = {one.number + 1: one.score for one in tuning.trials}
    if all(score is None for score in scores.values()):
        return []
    given_up = {one.number + 1 for one in tuning.trials if one.state != "finished"}
    by_trial = trials_chart(scores, given_up, mode=tuning.mode, y=tuning.monitor)
    return [
        ("Scores", [figure(by_trial, f"{tuning.monitor} of each trial in the order in which they began.")]),
        ("What matters", _importance(tuning)),
        ("All trials", [_parallel(tuning)]),
    ]


def _best(tuning: Tuning) -> list[Block]:
    best = tuning.best
    if best is None:
        return [paragraph("No trial has finished yet.")]
    text = (
        f"Trial {best.number + 1}: {tuning.monitor} {best.score:.4f}. It is the best of many on the validation "
        "part, so it flatters: judge it by the test part of a run of its own, with another seed."
    )
    rows = [[name, _cell(value)] for name, value in best.values.items()]
    command = shlex.join(["maskwright", "train", str(tuning.best_file)])
    return [paragraph(text), table(["setting", "value"], rows), code(command)]


def _importance(tuning: Tuning) -> list[Block]:
    if not tuning.importances:
        return [paragraph("Too few trials have finished to tell which settings matter.")]
    text = (
        "Share of each setting in reaching the best quarter of the finished trials (PED-ANOVA, arXiv:2304.10255). It "
        "speaks of the ranges that were searched: a setting that matters little here may matter beyond them."
    )
    return [figure(ranking_chart(tuning.importances), "Importance of the settings."), paragraph(text)]


def _parallel(tuning: Tuning) -> Block:
    settings = {name: [_number(one.values.get(name)) for one in tuning.trials] for name in _settings(tuning.trials)}
    chart = parallel_chart(
        settings, [one.score for one in tuning.trials], score=tuning.monitor, mode=tuning.mode, log=tuning.log
    )
    return figure(
        chart, "A line for each trial through its settings to its score; the darker the better, the best one in orange."
    )


def _notes(tuning: Tuning) -> list[str]:
    failed = [
        f"Trial {one.number + 1} failed: {(one.failure or 'its process ended').splitlines()[0]}"
        for one in tuning.trials
        if one.state == "failed"
    ]
    return [*failed, *([] if tuning.stopped is None else [f"Not complete: {tuning.stopped}."])]


def _counted(tuning: Tuning) -> str:
    states = [one.state for one in tuning.trials]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return f"{len(states)} of {tuning.planned} trials: {', '.join(counts)}" if states else "no trials yet"


def _csv(tuning: Tuning) -> str:
    settings = _settings(tuning.trials)
    head = ["trial", "state", "score", "epochs", "run", "failure", *settings]
    rows = [
        [
            one.number + 1,
            one.state,
            "" if one.score is None else repr(one.score),
            max(one.scores, default=0) if one.scores else "",
            one.run,
            one.failure or "",
            *("" if one.values.get(name) is None else one.values[name] for name in settings),
        ]
        for one in tuning.trials
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def _ranked(tuning: Tuning) -> list[TrialRecord]:
    """Finished ones by score, then those given up by theirs, then the others."""
    sign = -1 if tuning.mode == "max" else 1
    order = ("finished", "pruned")

    def key(one: TrialRecord) -> tuple[int, float, int]:
        place = order.index(one.state) if one.state in order else len(order)
        return place, float("inf") if one.score is None else sign * one.score, one.number

    return sorted(tuning.trials, key=key)


def _settings(trials: Sequence[TrialRecord]) -> list[str]:
    return list(dict.fromkeys(name for one in trials for name in one.values))


def _number(value: float | str | None) -> float | str | None:
    """A choice that is written as a number counts as one, so that its axis has an order."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _cell(value: float | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
