"""Score the model of a run on data it was not made of: numbers, baselines, error maps, one page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskwright.config import load_experiment
from maskwright.data.sources.images import ImageScenes
from maskwright.devices import settle_process
from maskwright.errors import DataError, RunError
from maskwright.files import json_text, write_json, write_text
from maskwright.tracking.folder import RunFolder
from maskwright.workflows.error_maps import CODES, ErrorMaps
from maskwright.workflows.evaluate import Progress
from maskwright.workflows.evaluate_run import Scored, open_scored
from maskwright.workflows.evaluation import Evaluation, ScoreRow
from maskwright.workflows.foreign_data import PART, foreign_parts, seen_files, teacher_of
from maskwright.workflows.report import write_run_report
from maskwright.workflows.report_tables import image_table
from maskwright.workflows.run_pages import drawn_tiles

__all__ = ["EvaluationOn", "evaluate_on", "evaluation_folder"]

_MOST_NAMED = 5


@dataclass(frozen=True)
class EvaluationOn:
    """What came of it.

    Attributes:
        evaluation: The numbers; its ``part`` is the name of the data.
        folder: Where everything lies.
        files: By what they are: ``page``, ``numbers``, ``scores``, ``images``; the error maps lie in ``errors``.
        error_maps: One for each site, raster or photograph.
        notes: What a person should know, a sentence each.
    """

    evaluation: Evaluation
    folder: Path
    files: dict[str, Path]
    error_maps: tuple[Path, ...]
    notes: tuple[str, ...]


def evaluation_folder(run: Path, data: Path) -> Path:
    """Where the numbers of a run on some data go unless told otherwise: ``RUN/evaluations/NAME``."""
    name = data.resolve().name if data.is_dir() else data.stem
    return run / "evaluations" / (re.sub(r"[^\w.-]+", "_", name) or "data")


def evaluate_on(
    run: str | Path,
    data: str | Path,
    *,
    heights_m: Sequence[float] | None = None,
    out: str | Path | None = None,
    allow_seen: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    own_process: bool = False,
) -> EvaluationOn:
    """Score the model of a run on other data: pairs of DSM and CHM, or images with labels.

    The data is read, normalised and cut into tiles as the model was trained, and all of it is scored.

    Args:
        run: The run folder.
        data: A folder of the kind trained on, or a YAML file whose section ``data`` says where such data lies.
        heights_m: Heights in metres, for a model of gaps; unset: those of the run.
        out: Folder for numbers, maps and page; unset: ``RUN/evaluations/NAME``.
        allow_seen: Score files nevertheless that the training has seen; the page says so.
        overwrite: Replace earlier numbers in that folder.
        progress: Called with (done, total, what).
        own_process: As for ``train``.

    Raises:
        ConfigError: If the data or the heights do not suit the run.
        DataError: If the data cannot be read, or was seen in the training.
        RunError: If ``run`` is no run folder, or the results cannot be written.
    """
    data = Path(data)
    folder = RunFolder.open(Path(run))
    experiment = load_experiment([folder.config])
    target = evaluation_folder(folder.path, data) if out is None else Path(out)
    if (target / "evaluation.json").exists() and not overwrite:
        raise RunError(f"{target} holds an earlier evaluation. Choose another --out, or add --overwrite.")
    settle_process(experiment.training.threads, own_process, experiment.training.keep_memory)
    parts = foreign_parts(folder, experiment, data)
    seen = _seen(folder, parts.source, allow_seen)
    teacher, about = teacher_of(folder, experiment, parts)
    scored = open_scored(folder, parts, PART, heights_m)
    parts = scored.parts
    with ErrorMaps(
        target / "errors",
        parts.source.scenes,
        parts.task.columns,
        metres=parts.task.kind == "height",
        photographs=isinstance(parts.source, ImageScenes),
        things=parts.things if isinstance(parts.source, ImageScenes) else range(len(parts.task.columns)),
    ) as maps:
        evaluation = scored.evaluate(tuned_on=teacher, watch=maps.add, progress=progress)
    evaluation = replace(evaluation, part=target.name)
    notes = (*seen, about, *parts.notes)
    files = _written(target, scored, evaluation, maps, data, folder, notes)
    return EvaluationOn(evaluation, target, files, tuple(maps.files), notes)


def _seen(folder: RunFolder, source: Any, allowed: bool) -> tuple[str, ...]:
    """A note on files that were seen; refused unless that is allowed."""
    try:
        seen = seen_files(folder, source)
    except RunError as error:
        if not allowed:
            raise
        return (str(error),)
    if not seen:
        return ()
    more = f" and {len(seen) - _MOST_NAMED} more" if len(seen) > _MOST_NAMED else ""
    named = f"{', '.join(seen[:_MOST_NAMED])}{more}"
    if not allowed:
        raise DataError(
            f"The model has seen {len(seen)} of these files in its training, so its numbers on them mean little: "
            f"{named}. Take them out, or add --allow-seen, and the page will say so."
        )
    return (f"Not honest numbers: {len(seen)} of the files were seen in the training: {named}.",)


def _written(
    target: Path,
    scored: Scored,
    evaluation: Evaluation,
    maps: ErrorMaps,
    data: Path,
    folder: RunFolder,
    notes: Sequence[str],
) -> dict[str, Path]:
    files = {
        "page": target / "report.html",
        "numbers": target / "evaluation.json",
        "scores": target / "evaluation_scores.csv",
    }
    write_text(target / "evaluation_blocks.json", json_text(evaluation.block_counts))
    write_text(files["scores"], _scores_csv(evaluation))
    if evaluation.images:
        files["images"] = target / "evaluation_images.csv"
        text = io.StringIO()
        head, cells = image_table(evaluation)
        csv.writer(text, lineterminator="\n").writerows([head, *cells])
        write_text(files["images"], text.getvalue())
    parts = scored.parts
    legend = "said minus true, metres" if maps.metres else ", ".join(f"{code}: {text}" for text, code in CODES.items())
    write_run_report(
        files["page"],
        title=f"{folder.path.resolve().name} on {target.name}",
        history=(),
        facts={
            "model": str(folder.path),
            "data": str(data),
            "scored": f"{len(parts.source.scenes)} sites or images, {evaluation.tiles} tiles",
            "error maps": f"{len(maps.files)} in errors/; {legend}",
        },
        evaluation=evaluation,
        pictures=drawn_tiles(parts, evaluation, scored.model, scored.point),
        notes=notes,
    )
    write_json(files["numbers"], evaluation.to_dict() | {"data": str(data), "data_notes": list(notes)})
    return files


def _scores_csv(evaluation: Evaluation) -> str:
    """All scores as CSV: a row for each answer, site and column, with the ends of the interval of each score."""
    names = list(evaluation.model[0].scores)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    each = [column for name in names for column in (name, f"{name}_low", f"{name}_high")]
    writer.writerow(["answer", "site", "column", *each, "share_true", "share_called"])
    for answer, rows in {"model": evaluation.model, **evaluation.baselines}.items():
        writer.writerows([answer, "all", row.column, *_cells(row, names)] for row in rows)
    for site, rows in evaluation.sites.items():
        writer.writerows(["model", site, row.column, *_cells(row, names)] for row in rows)
    return text.getvalue()


def _cells(row: ScoreRow, names: Sequence[str]) -> list[object]:
    values = [number for name in names for number in (row.scores[name], *row.intervals[name])]
    return ["" if number != number else round(number, 6) for number in (*values, row.share_true, row.share_called)]
