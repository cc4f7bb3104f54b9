"""Rounds of pseudo-labels: train, label what the model is sure of on images without labels, train with them again.

Every round is an ordinary run on the same split; images with made masks are in its training part alone. The round with
the best validation score is kept, and a page says what each round added and whether it helped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.config import Experiment, ImagesData
from maskwright.config.pseudo_labels import PseudoLabelsConfig
from maskwright.data.splits import read_manifest, write_manifest
from maskwright.devices import choose_device
from maskwright.errors import DataError
from maskwright.workflows.assemble import Parts, assemble
from maskwright.workflows.dry_run import dry_run
from maskwright.workflows.outer_run import How, InnerRun, OuterRun
from maskwright.workflows.pseudo_label_page import PAGE, Round, round_line, verdict, write_rounds
from maskwright.workflows.pseudo_labelling import Added, find_unlabelled, label_images
from maskwright.workflows.train import TrainOutcome

if TYPE_CHECKING:
    from maskwright.workflows.parent import Parent

__all__ = ["dry_run_pseudo_labels", "resume_pseudo_labels", "train_pseudo_labels"]

_SPLIT = "shared_split.geojson"


def train_pseudo_labels(experiment: Experiment, how: How, parent: Parent | None = None) -> TrainOutcome:
    """Train in rounds, in a new run folder that holds a run folder for each.

    Args:
        experiment: The whole run.
        how: What each training is told.
        parent: The weights every round starts from; None: those of the settings.

    Raises:
        MaskwrightError: Whatever stands in the way; images that cannot be used are told before the first training.
    """
    parts = assemble(_first(experiment))
    images, notes = _usable(parts, experiment.pseudo_labels)
    with OuterRun.begun(experiment, how) as outer:
        write_manifest(parts.split, parts.source.scenes, outer.folder.path / _SPLIT)
        for note in notes:
            how.say(note)
        return _run(outer, images, parent)


def resume_pseudo_labels(path: Path, how: How, experiment: Experiment | None = None) -> TrainOutcome:
    """Continue rounds: those that had finished stay as they are, the one at work continues exactly.

    Raises:
        RunError: If it is no run folder, has finished, or is still at work.
        ConfigError: If a setting differs that cannot change.
    """
    with OuterRun.opened(path, how, experiment) as outer:
        file = outer.folder.path / _SPLIT
        parts = assemble(_first(outer.experiment), split=read_manifest(file) if file.is_file() else None)
        write_manifest(parts.split, parts.source.scenes, file)
        return _run(outer, _usable(parts, outer.experiment.pseudo_labels)[0], None)


def dry_run_pseudo_labels(experiment: Experiment, out: Path, *, own_process: bool = False) -> tuple[str, ...]:
    """The plan of the first training and of the rounds after it, in lines."""
    settings = experiment.pseudo_labels
    images, notes = _usable(assemble(_first(experiment)), settings)
    first = dry_run(_first(experiment), out, own_process=own_process)
    more = "1 round" if settings.rounds == 1 else f"{settings.rounds} rounds"
    return (
        *first.lines[:-1],
        *notes,
        f"Then {more} with up to {len(images)} images without labels of {settings.folder}: where the model is more "
        f"than {settings.confidence:.0%} sure. Each trains {experiment.training.epochs} epochs more.",
        "Nothing was trained.",
    )


def _run(outer: OuterRun, images: Mapping[str, Path], parent: Parent | None) -> TrainOutcome:
    experiment, settings = outer.experiment, outer.experiment.pseudo_labels
    rounds: list[Round] = []
    for number in range(settings.rounds + 1):
        where = _where(number, settings)
        added = None if number == 0 else _labelled(outer, rounds[-1].run, images, number, where)
        if added is not None and not added.used:
            outer.how.say(f"{where}: the model is not sure enough of any image, so nothing is added.")
            rounds[-1] = rounds[-1].ending("no image of the next round was sure enough")
            break
        inner = outer.train(f"round_{number}", _round(outer, added), where=where, parent=parent)
        if not inner.finished:
            return outer.stopped(inner, where)
        rounds.append(Round(number, inner, added))
        outer.how.say(round_line(rounds[-1]))
        if number:
            write_rounds(outer.folder, experiment, rounds, best=_best(rounds))
    best = _best(rounds)
    write_rounds(outer.folder, experiment, rounds, best=best)
    lines = [
        *map(round_line, rounds),
        verdict(rounds, best),
        f"Kept: {_where(best.number, settings).lower()}, by the validation part. What was added: "
        f"{outer.folder.path / PAGE}",
    ]
    return outer.finish(best.run, lines, extra={"kept": best.run.folder.path.name})


def _where(number: int, settings: PseudoLabelsConfig) -> str:
    return "Labelled images alone" if number == 0 else f"Round {number} of {settings.rounds} with pseudo-labels"


def _best(rounds: Sequence[Round]) -> Round:
    """The round with the best validation score; of equals the first."""

    def worth(one: Round) -> float:
        score = one.run.best_score
        return float("-inf") if score is None else score if one.run.mode == "max" else -score

    return max(rounds, key=worth)


# --- settings of the rounds -------------------------------------------------------------------------------------------


def _first(experiment: Experiment) -> Experiment:
    """A plain training with calibrated probabilities: what is sure must be worth its number."""
    return experiment.model_copy(
        update={
            "pseudo_labels": PseudoLabelsConfig(),
            "metrics": experiment.metrics.model_copy(update={"calibrate": True}),
        }
    )


def _round(outer: OuterRun, added: Added | None) -> Experiment:
    experiment = _first(outer.experiment)
    data = experiment.data
    assert isinstance(data, ImagesData)
    update: dict[str, Any] = {"split": data.split.model_copy(update={"keep": outer.folder.path / _SPLIT})}
    if added is not None:
        weight = outer.experiment.pseudo_labels.weight
        update["extra"] = data.extra.model_copy(update={"folder": added.folder, "weight": weight})
    return experiment.model_copy(update={"data": data.model_copy(update=update)})


def _labelled(outer: OuterRun, run: InnerRun, images: Mapping[str, Path], number: int, where: str) -> Added:
    from maskwright.checkpoints import load_description
    from maskwright.data.sources.classes import ClassTable
    from maskwright.prediction import Predictor

    classes = ClassTable.from_dict(load_description(run.folder.model)["class_table"])
    return label_images(
        Predictor.load(run.folder.path, device=str(choose_device(outer.experiment.training.device))),
        dict(images),
        outer.folder.path / f"labels_{number}",
        outer.experiment.pseudo_labels,
        classes,
        outer.how.at(where).progress,
    )


# --- images without labels --------------------------------------------------------------------------------------------


def _usable(parts: Parts, settings: PseudoLabelsConfig) -> tuple[dict[str, Path], list[str]]:
    """The images without labels that may be trained on, and what a person should know about them.

    Raises:
        DataError: If there are none, or one is held out, shows ground that is held out, or is of another kind.
    """
    assert settings.folder is not None
    images = find_unlabelled(settings.folder)
    faults = _of_another_kind(images, parts)
    if faults:
        raise DataError("\n".join(faults))
    trained, held_out = _copies(images, parts)
    if held_out:
        raise DataError(
            f"pseudo_labels.folder: {len(held_out)} images are the same, byte for byte, as images held out to score "
            f"the model: {'; '.join(held_out[:5])}. Take them out of the folder: training on them would make the "
            "numbers look better than they are."
        )
    _require_other_ground(images, parts)
    free = {name: path for name, path in images.items() if name not in trained}
    if not free:
        raise DataError(
            f"pseudo_labels.folder: all {len(images)} images of {settings.folder} are labelled and "
            "trained on. Name a folder of images without labels."
        )
    skipped = [f"{len(trained)} images of the folder are labelled training images and are left out"] if trained else []
    return free, [f"{len(free)} images without labels in {settings.folder}", *skipped]


def _of_another_kind(images: Mapping[str, Path], parts: Parts) -> list[str]:
    """A fault for each image with other bands or values than those with labels."""
    from maskwright.data.sources.image_file import open_image

    source, faults = parts.images, []
    for path in images.values():
        try:
            with open_image(path, source.format) as reader:
                bands, dtype = len(reader.band_names), reader.dtype
        except DataError as error:
            faults.append(str(error))
            continue
        if (bands, dtype) != (source.in_channels, source.dtype):
            faults.append(
                f"pseudo_labels.folder: {path} has {bands} bands of {dtype}, the images with labels have "
                f"{source.in_channels} of {source.dtype}. Convert it, or take it out."
            )
    return faults


def _copies(images: Mapping[str, Path], parts: Parts) -> tuple[set[str], list[str]]:
    """Names of images that are training images with labels, and sentences about those that are held out."""
    from maskwright.data.sources.file_hashes import file_hashes

    source = parts.images
    part_of = {region.scene: region.part for region in parts.split.regions}
    labelled = {item.name: item.path for item in source.items if item.name in part_of}
    hashes = file_hashes([*images.values(), *labelled.values()], source.cache.folder)
    named: dict[str, str] = {}
    for name, path in labelled.items():
        if named.get(hashes[path]) is None or part_of[name] != "train":
            named[hashes[path]] = name
    trained, held_out = set(), []
    for name, path in images.items():
        other = named.get(hashes[path])
        if other is None:
            continue
        if part_of[other] == "train":
            trained.add(name)
        else:
            held_out.append(f"{path} is {other} ({part_of[other]})")
    return trained, held_out


def _require_other_ground(images: Mapping[str, Path], parts: Parts) -> None:
    """Refuse rasters that show ground of the validation or the test part."""
    from maskwright.data.regions import Region
    from maskwright.data.sources.image_file import open_image
    from maskwright.data.sources.interface import Scene
    from maskwright.data.splits import assert_apart

    scenes: list[Scene] = []
    for name, path in images.items():
        with open_image(path, parts.images.format) as reader:
            if reader.grid.is_georeferenced:
                scenes.append(Scene(f"{name} (no label)", reader.grid, f"{name} (no label)", (path,)))
    if not scenes:
        return
    split = replace(
        parts.split,
        regions=(*parts.split.regions, *(Region(scene.name, "train", scene.grid.window) for scene in scenes)),
        grids={**parts.split.grids, **{scene.name: scene.grid for scene in scenes}},
    )
    try:
        assert_apart(split, [*parts.source.scenes, *scenes])
    except DataError as error:
        raise DataError(
            f"pseudo_labels.folder: images without labels show ground that is held out to score the model. {error}"
        ) from error
