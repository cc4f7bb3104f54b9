"""Check data before a minute of training is spent: findings, pictures, a forecast, on one page and as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.config import Experiment, load_experiment
from maskwright.data.build import build_source, build_split_of
from maskwright.data.copies import Copy, exact_copies, image_copies
from maskwright.data.preflight import (
    Finding,
    fault_findings,
    grid_findings,
    in_order,
    last_batch_findings,
    note_findings,
    size_findings,
)
from maskwright.data.preflight_copies import copy_findings
from maskwright.data.preflight_labels import balance_findings, empty_findings, object_findings, outside_findings
from maskwright.data.preflight_look import Look
from maskwright.data.preflight_odd import Odd, oddest
from maskwright.data.preflight_shift import offset_scores, shift_findings
from maskwright.data.preflight_values import (
    band_findings,
    border_findings,
    declared_zero_findings,
    nodata_findings,
    outlier_findings,
)
from maskwright.data.regions import PARTS, Split
from maskwright.data.sources.images import ImageScenes
from maskwright.data.splits import assert_apart
from maskwright.devices import settle_process
from maskwright.errors import MaskwrightError
from maskwright.files import write_json, write_text
from maskwright.workflows.assemble import FORMS, Parts, assemble, gap_shares, loaders_of
from maskwright.workflows.check_eyes import AnySource, Eyes, Sample
from maskwright.workflows.check_forecast import Forecast, forecast, forecast_findings
from maskwright.workflows.init import draft_experiment
from maskwright.workflows.init_heights import read_stored

__all__ = ["EXIT_ERRORS", "EXIT_FINE", "EXIT_WARNINGS", "CheckOutcome", "Checked", "check", "check_experiment"]

EXIT_FINE = 0
EXIT_ERRORS = 2
EXIT_WARNINGS = 3

_MOST_LOOKED = 1500  # samples measured in full
_MOST_SHIFT = 60  # images whose masks are laid on their edges
_LEAST_SHIFT = 0.0003, 0.7  # shares of foreground between which an outline says something
_MOST_TILES = 5000  # tiles of a part whose classes are counted one by one

_Progress = Callable[[int, int, str], None]


@dataclass
class Checked:
    """Everything a check found out; what could not be reached stays empty.

    Attributes:
        experiment: What was checked; None if its settings are wrong.
        findings: In the order they were made.
        source: The opened data.
        split: Its parts.
        eyes: Looks at samples.
        samples: Those that were measured.
        looks: One for each of them.
        odd: The least usual of them.
        counts: Part to (K,) pixels of each class, or below each height.
        totals: Part to its pixels that count.
        copies: Exact and near copies, as indices into ``source.scenes``.
        parts: What a training would be made of.
        plan: What it would take.
        elapsed_s: Seconds by step.
    """

    experiment: Experiment | None = None
    findings: list[Finding] = field(default_factory=list)
    source: AnySource | None = None
    split: Split | None = None
    eyes: Eyes | None = None
    samples: list[Sample] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    odd: tuple[Odd, ...] = ()
    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    copies: tuple[Copy, ...] = ()
    parts: Parts | None = None
    plan: Forecast | None = None
    elapsed_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckOutcome:
    """What a check came to.

    Attributes:
        findings: Errors first, then warnings, then notes.
        page: The HTML page.
        file: The JSON file.
        facts: Its content.
        lines: For the screen.
        augmented: A text on each augmented sample that was drawn.
    """

    findings: tuple[Finding, ...]
    page: Path
    file: Path
    facts: dict[str, Any]
    lines: tuple[str, ...]
    augmented: tuple[str, ...] = ()

    def exit_code(self, strict: bool = False) -> int:
        """0 fine, 2 errors, 3 warnings where ``strict``."""
        levels = {finding.level for finding in self.findings}
        if "error" in levels:
            return EXIT_ERRORS
        return EXIT_WARNINGS if strict and "warning" in levels else EXIT_FINE


def check(
    target: Path,
    out: Path | None = None,
    *,
    show_augmented: int = 0,
    progress: _Progress | None = None,
    own_process: bool = False,
) -> CheckOutcome:
    """Check a folder of data or an experiment, and write a page and a JSON file.

    Args:
        target: An experiment file, or a folder whose settings are guessed as ``init`` guesses them.
        out: Folder for ``check.html`` and ``check.json``; None: ``check_NAME`` in the working folder.
        show_augmented: Training samples drawn as augmentation leaves them.
        progress: Called with (done, total, what).
        own_process: True if the process exists for this check alone, so that its threads and its memory may be settled
            as a training settles them; else the forecast is that of the host's threads.

    Raises:
        MaskwrightError: If the page cannot be written. What is wrong with the data is told in the page.
    """
    from maskwright.workflows.check_page import facts_of, page_of

    name = target.resolve().stem if target.is_file() else target.resolve().name
    out = out or Path(f"check_{name}")
    experiment, faults = _experiment(target)
    if experiment is None:
        settle_process(None, own_process)
    else:
        settle_process(experiment.training.threads, own_process, experiment.training.keep_memory)
    done = Checked(findings=faults) if experiment is None else check_experiment(experiment, progress=progress)
    augmented = _augmented(done, show_augmented) if show_augmented else None
    findings = in_order(done.findings)
    facts = facts_of(done, findings, target)
    out.mkdir(parents=True, exist_ok=True)
    page, file = out / "check.html", out / "check.json"
    write_text(page, page_of(done, findings, target, augmented))
    write_json(file, facts)
    counts = {level: sum(finding.level == level for finding in findings) for level in ("error", "warning", "note")}
    said = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items())
    texts = () if augmented is None else tuple(augmented[1])
    return CheckOutcome(findings, page, file, facts, (f"{name}: {said}.", f"Page: {page}"), texts)


def _experiment(target: Path) -> tuple[Experiment | None, list[Finding]]:
    try:
        if target.is_dir():
            return load_experiment((), draft_experiment(target).settings()), []
        return load_experiment([target]), []
    except MaskwrightError as error:
        return None, fault_findings(error, "settings", "Correct it, then check again.")


def check_experiment(experiment: Experiment, *, progress: _Progress | None = None) -> Checked:
    """Look at the data of an experiment from all sides. What fails becomes a finding, and the rest goes on."""
    done = Checked(experiment)
    steps: tuple[tuple[str, Callable[[Checked], None]], ...] = (
        ("opening the data", _open),
        ("dividing it", _divide),
        ("looking at samples", _look),
        ("counting classes", _count),
        ("looking for copies", _copies),
        ("laying masks on edges", _shift),
        ("a few training steps", _plan),
    )
    for number, (what, step) in enumerate(steps):
        if progress is not None:
            progress(number, len(steps), "checking")
        if done.source is None and number > 0:
            break
        started = time.perf_counter()
        try:
            step(done)
        except MaskwrightError as error:
            done.findings += fault_findings(error)
        done.elapsed_s[what] = round(time.perf_counter() - started, 2)
    if progress is not None:
        progress(len(steps), len(steps), "checking")
    return done


# --- the steps --------------------------------------------------------------------------------------------------------


def _open(done: Checked) -> None:
    experiment = _given(done.experiment)
    task = experiment.task
    source = done.source = build_source(experiment.data, FORMS[task.kind])
    done.eyes = Eyes(source, getattr(task, "heights_m", ()))
    if not isinstance(source, ImageScenes):
        done.findings += note_findings(f"{scene.name}: {note}" for scene in source.scenes for note in scene.notes)
        done.findings += _declared_findings(source)
    done.findings += note_findings(source.notes)
    sizes = {scene.name: (scene.grid.height, scene.grid.width) for scene in source.scenes}
    done.findings += size_findings(sizes, experiment.data.tiles.size_px)
    done.findings += grid_findings(source.scenes)


def _declared_findings(source: AnySource) -> list[Finding]:
    """Height rasters that declare a real height as "not measured", unless the settings ignore it."""
    findings = []
    for name, facts in source.describe().items():
        for file in facts["files"]:
            stored = read_stored(Path(file["path"]))
            if stored is not None and file.get("nodata") is not None and float(file["nodata"]) == stored[1]:
                findings += declared_zero_findings(f"{name} ({Path(file['path']).name})", *stored)
    return findings


def _divide(done: Checked) -> None:
    experiment, source = _given(done.experiment), _given(done.source)
    done.split = build_split_of(experiment.data, source)
    done.findings += note_findings(done.split.notes)
    assert_apart(done.split, source.scenes)


def _look(done: Checked) -> None:
    experiment, eyes = _given(done.experiment), _given(done.eyes)
    done.samples = eyes.samples(done.split, _MOST_LOOKED)
    done.looks = [eyes.look(sample) for sample in done.samples]
    names = eyes.band_names
    declared = getattr(experiment.data, "nodata", None)
    done.findings += nodata_findings(done.looks, declared)
    if isinstance(done.source, ImageScenes):
        done.findings += border_findings(done.looks)
        done.findings += outlier_findings(done.looks, names)
        table = done.source.classes
        if table.form != "multilabel":
            ids = {look.name: look.classes for look in done.looks}
            done.findings += outside_findings(ids, range(table.num_ids))
    done.findings += band_findings(done.looks, names)
    done.odd = oddest(done.looks)


def _count(done: Checked) -> None:
    source, split, eyes = _given(done.source), done.split, _given(done.eyes)
    if split is None:
        return
    filled: dict[str, list[bool]] = {}
    for part in PARTS:
        places = _evenly(split.tiles[part], _MOST_TILES)
        if isinstance(source, ImageScenes):
            rows = [source.class_counts(place) for place in places]
            done.counts[part], done.totals[part], filled[part] = _class_sums(source, rows)
        else:
            shares = gap_shares(source, places, eyes.heights_m)
            pixels = len(places) * split.tile_px**2
            done.counts[part], done.totals[part] = np.round(shares * pixels).astype(np.int64), pixels if places else 0
    done.findings += balance_findings(done.counts, done.totals, eyes.class_names)
    done.findings += empty_findings(filled, done.looks)


def _class_sums(source: ImageScenes, rows: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], int, list[bool]]:
    """Pixels of each class without the background, pixels in all, and which tiles hold foreground."""
    table = source.classes
    background = table.form == "binary" or (table.form == "multiclass" and table.background is not None)
    width = len(table.names) + 1 if table.form == "binary" else table.num_ids + (table.form == "multilabel")
    stack = np.stack(rows) if rows else np.zeros((0, width), np.int64)
    if table.form == "multilabel":
        of_class, total = stack[:, : len(table.names)], int(stack[:, -1].sum())
    else:
        of_class, total = stack[:, int(background) : table.num_ids], int(stack[:, : table.num_ids].sum())
    return of_class.sum(axis=0), total, [bool(row.any()) for row in of_class]


def _copies(done: Checked) -> None:
    source, eyes = _given(done.source), _given(done.eyes)
    scenes = source.scenes
    exact: Sequence[Copy]
    near: Sequence[Copy] = ()
    if isinstance(source, ImageScenes):
        exact, near = image_copies(source)
    else:
        facts = source.describe()
        exact = exact_copies([str(facts[scene.name]["files"][0]["sha256"]) for scene in scenes])
    parts = eyes.parts(done.split)
    done.findings += copy_findings(
        [scene.name for scene in scenes],
        [parts.get(scene.name, "") for scene in scenes],
        [scene.ground for scene in scenes],
        exact,
        near,
    )
    done.copies = (*exact, *near)


def _shift(done: Checked) -> None:
    eyes, experiment = _given(done.eyes), _given(done.experiment)
    labels = getattr(experiment.data, "labels", None)
    if labels is not None and labels.kind == "points":
        return  # discs have no outline of their own
    if labels is None and len(eyes.band_names) == 1:
        return  # the canopy is its own label
    low, high = _LEAST_SHIFT
    fitting = [
        sample
        for sample, look in zip(done.samples, done.looks, strict=True)
        if low < look.foreground < high and look.valid_share > 0.5
    ]
    scores, names = [], []
    for sample in _evenly(fitting, _MOST_SHIFT):
        values, _ = eyes.values(sample.place)
        target, counted = _given(done.source).label(sample.place.scene, sample.place.window)
        picture = values[0] if labels is None else values[:3].astype(np.float32).mean(axis=0)
        score = offset_scores(picture, eyes.marked(target, counted))
        if score is not None:
            scores.append(score)
            names.append(sample.name)
    done.findings += shift_findings(scores, names)


def _plan(done: Checked) -> None:
    experiment = _given(done.experiment)
    parts = done.parts = assemble(experiment)
    train, evals = loaders_of(parts)
    size = experiment.data.loader.batch_size
    done.plan, _ = forecast(experiment, parts.task, parts.source, train, evals)
    done.findings += forecast_findings(done.plan, size)
    done.findings += last_batch_findings(len(train.plan), size, done.plan.has_batch_norm)
    if isinstance(done.source, ImageScenes):
        diameters = [look.diameters for look in done.looks]
        done.findings += object_findings(
            np.concatenate(diameters) if diameters else np.zeros(0),
            tile_px=experiment.data.tiles.size_px,
            receptive_field_px=done.plan.receptive_field_px,
            model=experiment.model.kind,
        )


def _augmented(done: Checked, count: int) -> Any:
    """A sheet of augmented training samples and a text on each; None if the data cannot be trained on."""
    if done.parts is None:
        return None
    from maskwright.workflows.check_augmented import draw_augmented

    return draw_augmented(done.parts, count)


def _given(value: Any) -> Any:
    assert value is not None  # steps run in order, and stop where the data cannot be opened
    return value


def _evenly(entries: Any, most: int) -> Any:
    if len(entries) <= most:
        return entries
    return [entries[index] for index in np.unique(np.linspace(0, len(entries) - 1, most).astype(int))]
