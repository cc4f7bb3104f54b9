"""Labels a model contradicts: those of training and validation, ranked, drawn and written to be corrected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.config import Experiment, load_experiment
from maskwright.data.splits import read_manifest
from maskwright.devices import settle_process
from maskwright.errors import ConfigError, RunError
from maskwright.tracking.folder import RunFolder
from maskwright.types import Place
from maskwright.workflows.assemble import Parts, assemble
from maskwright.workflows.doubtful import Doubt, doubts_of, strongest
from maskwright.workflows.evaluate_run import Scored, open_scored
from maskwright.workflows.label_next import Area, areas_to_label
from maskwright.workflows.suspect_files import write_suspects

if TYPE_CHECKING:
    from maskwright.workflows.evaluate import Progress

__all__ = ["JUDGES", "Suspects", "find_suspects"]

JUDGES = {
    "val": "a model that was not trained on them",
    "train": "the model that was trained on them",
    "fold": "a model trained without them",
}
"""Who judges labels of validation, of training, and of both with folds."""


@dataclass(frozen=True)
class Suspects:
    """What was found.

    Attributes:
        doubts: The ranking.
        areas: Unlabelled areas most worth labelling, if any were given.
        sentences: What the ranking can be trusted for.
        files: By what they are: ``page``, ``table``, ``list``, ``polygons``, ``next``.
    """

    doubts: tuple[Doubt, ...]
    areas: tuple[Area, ...]
    sentences: tuple[str, ...]
    files: dict[str, Path]


def find_suspects(
    run: str | Path,
    most: int,
    *,
    heights_m: Sequence[float] | None = None,
    folds: int | None = None,
    unlabelled: Sequence[str | Path] = (),
    out: str | Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    own_process: bool = False,
) -> Suspects:
    """Rank the labels of training and validation that a model contradicts most confidently.

    A label counts as doubtful where connected pixels of it are missed or invented by the model; the ranking is by how
    sure the model is, summed over these pixels. A model has learned the labels it was trained on, faults included, so
    what it says against them is too little; ``folds`` trains models that have not.

    Args:
        run: The run folder.
        most: How many are listed.
        heights_m: Heights in metres, for a model of gaps; unset: those of the run.
        folds: Train so many models, each without one of as many parts of the sites or images, and let each judge the
            part it has not seen; unset: the run's own model judges all.
        unlabelled: Rasters or images without labels; the areas where the model is least sure are listed.
        out: Folder for the list, the pictures and the models; unset: ``RUN/suspects``.
        overwrite: Replace an earlier list in that folder.
        say: Called with lines for a person while models are trained.
        progress: Called with (done, total, what).
        own_process: As for ``train``.

    Raises:
        ConfigError: If the run cannot be looked at so.
        RunError: If ``run`` is no run folder, or the results cannot be written.
    """
    if most < 1:
        raise ConfigError(f"--suspects {most}: ask for 1 or more.")
    folder = RunFolder.open(Path(run))
    experiment = load_experiment([folder.config])
    if experiment.task.kind == "height":
        raise ConfigError(
            "--suspects holds labels of classes and gaps against a model; this run predicts metres. Its worst tiles "
            "are on the page of the run."
        )
    target = folder.path / "suspects" if out is None else Path(out)
    if (target / "suspects.csv").exists() and not overwrite:
        raise RunError(f"{target} holds an earlier list. Choose another --out, or add --overwrite.")
    settle_process(experiment.training.threads, own_process, experiment.training.keep_memory)
    parts = assemble(experiment, split=read_manifest(folder.splits))
    if folds is None:
        judges = [_own_judge(folder, parts, part, heights_m) for part in ("val", "train")]
    else:
        judges = _fold_judges(experiment, parts, folds, target / "folds", heights_m, say)
    part_of = {place: part for part in ("val", "train") for place in parts.split.tiles[part]}
    found = [
        one
        for judge in judges
        for one in doubts_of(
            judge.scored,
            judge.places,
            most,
            judged=judge.name,
            part_of=part_of.__getitem__,
            progress=progress,
        )
    ]
    doubts = strongest(found, most)
    areas = areas_to_label(folder, unlabelled, most, progress) if unlabelled else ()
    sentences = _sentences(doubts, folds)
    files = write_suspects(target, parts, doubts, _by_judge(doubts, judges), areas, sentences, folder.path)
    return Suspects(tuple(doubts), areas, tuple(sentences), files)


@dataclass(frozen=True)
class _Judge:
    name: str
    scored: Scored
    places: tuple[Place, ...]


def _own_judge(folder: RunFolder, parts: Parts, part: str, heights_m: Sequence[float] | None) -> _Judge:
    return _Judge(JUDGES[part], open_scored(folder, parts, part, heights_m), parts.split.tiles[part])


def _fold_judges(
    experiment: Experiment,
    parts: Parts,
    folds: int,
    out: Path,
    heights_m: Sequence[float] | None,
    say: Callable[[str], None] | None,
) -> list[_Judge]:
    """Models trained without a part of the sites or images each, and the tiles of that part."""
    from maskwright.workflows.train import train

    places = [*parts.split.tiles["train"], *parts.split.tiles["val"]]
    groups = _groups(parts, {place.scene for place in places}, folds)
    judges = []
    for index, left_out in enumerate(groups):
        steering = groups[(index + 1) % folds]
        rest = [name for group in groups for name in group if group is not left_out and group is not steering]
        wish: dict[str, Any] = {
            "by": "lists",
            "train": rest,
            "val": list(steering),
            "test": list(left_out),
            "keep": "none",
        }
        if "group_pattern" in type(experiment.data.split).model_fields:
            wish["group_pattern"] = getattr(experiment.data.split, "group_pattern", None)
        split = type(experiment.data.split).model_validate(wish)
        data = experiment.data.model_copy(update={"split": split})
        tracking = experiment.tracking.model_copy(update={"output_dir": out})
        changes = {"data": data, "tracking": tracking, "name": f"fold_{index + 1}_of_{folds}"}
        one = experiment.model_copy(update=changes)
        if say is not None:
            say(f"Fold {index + 1} of {folds}: trained without {', '.join(left_out)}")
        outcome = train(one, say=say)
        if not outcome.finished:
            raise RunError(f"The model of fold {index + 1} was stopped, so its labels cannot be judged. Start again.")
        own = assemble(one, split=read_manifest(outcome.folder.splits))
        scored = open_scored(outcome.folder, own, "test", heights_m)
        judges.append(_Judge(JUDGES["fold"], scored, tuple(place for place in places if place.scene in left_out)))
    return judges


def _groups(parts: Parts, used: set[str], folds: int) -> list[tuple[str, ...]]:
    """The sites or images of training and validation in parts of about one size; those of one ground together."""
    if folds < 3:
        raise ConfigError(f"--folds {folds}: at least 3, one to judge, one to steer the training, one to learn from.")
    grounds: dict[str, list[str]] = {}
    for scene in parts.source.scenes:
        if scene.name in used:
            grounds.setdefault(scene.ground, []).append(scene.name)
    if len(grounds) < folds:
        raise ConfigError(
            f"--folds {folds}: training and validation hold {len(grounds)} sites or groups of images that lie apart. "
            f"Add some, or leave --folds out and judge by the run's own model."
        )
    groups: list[list[str]] = [[] for _ in range(folds)]
    for names in sorted(grounds.values(), key=lambda names: (-len(names), names)):
        min(groups, key=len).extend(names)
    return [tuple(sorted(group)) for group in groups]


def _by_judge(doubts: Sequence[Doubt], judges: Sequence[_Judge]) -> Mapping[int, Scored]:
    """Rank to the model that judged it."""
    found: dict[int, Scored] = {}
    for one in doubts:
        fitting = [j for j in judges if j.name == one.judged and any(place.scene == one.scene for place in j.places)]
        found[one.rank] = fitting[0].scored
    return found


def _sentences(doubts: Sequence[Doubt], folds: int | None) -> list[str]:
    """What the ranking can be trusted for."""
    if not doubts:
        return ["The model contradicts no label of training and validation."]
    if folds is not None:
        return [
            f"Every label was judged by one of {folds} models trained without it. A model may be wrong where labels "
            "are right: look before you correct."
        ]
    seen = sum(one.part == "train" for one in doubts)
    sentences = [
        f"{len(doubts) - seen} of the {len(doubts)} are labels of the validation part, judged by a model that was not "
        "trained on them (they steered when it stopped)."
    ]
    if seen:
        sentences.append(
            f"{seen} are labels of the training part, judged by the very model that was trained on them: it has "
            "learned them, faults included, so doubts there are understated and incomplete. --folds 3 judges every "
            "label by a model that has not seen it."
        )
    return [*sentences, "A model may be wrong where labels are right: look before you correct."]
