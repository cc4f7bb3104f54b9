"""What a kind is where nobody said it: data, network and loss follow from the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.config import (
    BinaryTask,
    CombinedLossConfig,
    Experiment,
    HeightCdfConfig,
    HeightGapsTask,
    HeightRastersData,
    HeightTask,
    ImagesData,
    MultilabelTask,
    RegressionLossConfig,
    RegressionUNetConfig,
    UNetConfig,
    load_experiment,
)
from maskwright.errors import ConfigError

BINARY = "name: cracks\ntask: {kind: binary}\ndata: {folder: photos, tiles: {size_px: 64}}\n"


OVER_THE_BATCH = {"dice_reduction": "batch", "overlap_reduction": "batch"}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def faults(*arguments: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_experiment(*arguments)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


def kinds(experiment: Experiment) -> tuple[str, str, str, str]:
    return experiment.task.kind, experiment.data.kind, experiment.model.kind, experiment.loss.kind


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("", ("height_gaps", "height_rasters", "height_cdf", "combined")),
        ("task: {kind: height_gaps}\n", ("height_gaps", "height_rasters", "height_cdf", "combined")),
        ("task: {kind: height}\n", ("height", "height_rasters", "regression_unet", "regression")),
        ("task: {kind: binary}\n", ("binary", "images", "unet", "combined")),
        ("task: {kind: multiclass}\n", ("multiclass", "images", "unet", "combined")),
        ("task: {kind: multilabel}\n", ("multilabel", "images", "unet", "combined")),
        ("data: {kind: height_rasters, folder: x}\n", ("height_gaps", "height_rasters", "height_cdf", "combined")),
    ],
)
def test_kinds_follow_from_the_task_in_files(task: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    data = "" if "data:" in task else "data: {folder: x}\n"
    assert kinds(load_experiment(write(tmp_path, "a.yaml", f"name: a\n{task}{data}"))) == expected


def test_kinds_follow_from_the_task_in_python() -> None:
    photos, rasters = {"folder": "photos"}, {"folder": "rasters"}
    assert kinds(Experiment(name="a", data=rasters)) == ("height_gaps", "height_rasters", "height_cdf", "combined")
    binary = Experiment(name="a", task=BinaryTask(), data=photos, model={"depth": 3}, loss={"pos_weight": 2})
    assert kinds(binary) == ("binary", "images", "unet", "combined")
    assert binary.model == UNetConfig(depth=3)
    assert binary.loss == CombinedLossConfig(dice=0.5, focal=0, pos_weight=2, **OVER_THE_BATCH)
    labels = Experiment(name="a", task={"kind": "multilabel"}, data=ImagesData(folder=Path("photos")))
    assert labels.task == MultilabelTask()
    height = Experiment(name="a", task=HeightTask(), data=HeightRastersData(folder=Path("x")), model={"depth": 2})
    assert height.model == RegressionUNetConfig(depth=2)
    assert height.loss == RegressionLossConfig()


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_overlap_is_taken_over_the_batch_where_images_are_learned_from_and_nothing_else_is_said(task: str) -> None:
    def loss_with(**said: object) -> str:
        loss = Experiment(name="a", task={"kind": task}, data={"folder": "photos"}, **said).loss
        assert loss.overlap_reduction == "batch"
        return str(loss.dice_reduction)

    assert loss_with() == "batch"
    assert loss_with(loss={"bce": 0.3, "dice": 0.7, "focal": 0}) == "batch"
    assert loss_with(loss=CombinedLossConfig()) == "batch"
    assert loss_with(loss={"dice_reduction": "sample"}) == "sample"
    assert loss_with(loss=CombinedLossConfig(dice_reduction="sample")) == "sample"


def test_images_weigh_cross_entropy_and_overlap_alike_where_no_weight_is_said() -> None:
    def terms(loss: object) -> dict[str, float]:
        experiment = Experiment(name="a", task=BinaryTask(), data={"folder": "photos"}, loss=loss)
        return {name: weight for name, weight in experiment.loss.terms.items() if weight}

    for unsaid in ({}, {"pos_weight": 2}, CombinedLossConfig(), CombinedLossConfig(pos_weight=2)):
        assert terms(unsaid) == {"bce": 0.5, "dice": 0.5}
    for said in ({"focal": 0.2}, CombinedLossConfig(focal=0.2)):
        assert terms(said) == {"bce": 0.5, "dice": 0.3, "focal": 0.2}


def test_no_training_on_images_is_stopped_early_in_its_first_half_unless_it_is_said() -> None:
    def least(**said: object) -> int:
        experiment = Experiment(name="a", task=BinaryTask(), data={"folder": "photos"}, **said)
        return experiment.callbacks.early_stopping.min_epochs

    assert least() == 25
    assert least(training={"epochs": 9}) == 4
    assert least(callbacks={"early_stopping": {"patience": 3}}) == 25
    assert least(callbacks={"early_stopping": {"min_epochs": 0}}) == 0
    assert Experiment(name="a", data={"folder": "rasters"}).callbacks.early_stopping.min_epochs == 0


def test_overlap_is_taken_by_tile_where_heights_are_asked() -> None:
    assert Experiment(name="a", data={"folder": "rasters"}, model={"kind": "film_unet"}).loss == CombinedLossConfig()
    assert CombinedLossConfig().dice_reduction == "sample"


@pytest.mark.parametrize("model", [{}, {"model": {"kind": "height_cdf"}}, {"model": HeightCdfConfig()}])
def test_a_distribution_learns_from_the_canopy_height_too_unless_terms_are_said(model: dict[str, object]) -> None:
    loss = Experiment(name="a", data={"folder": "rasters"}, **model).loss
    assert (loss.bce, loss.dice, loss.focal, loss.likelihood) == (0.45, 0.27, 0.18, 0.1)
    assert loss.dice_reduction == "sample"
    said = Experiment(name="a", data={"folder": "rasters"}, loss={"bce": 1.0, "dice": 0.0, "focal": 0.0}, **model).loss
    assert (said.bce, said.likelihood) == (1.0, 0.0)
    assert type(loss).model_validate(loss.to_dict()) == loss


def test_options_of_an_implied_kind_are_understood_and_merged(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", BINARY + "model: {depth: 2}\n")
    more = write(tmp_path, "more.yaml", "data: {labels: {suffix: _mask}}\nmodel: {base_channels: 8}\n")
    experiment = load_experiment([base, more], ["data.alpha=drop", f"data.folder={tmp_path}"])
    assert experiment.model == UNetConfig(depth=2, base_channels=8)
    assert experiment.data.labels.suffix == "_mask"
    assert experiment.data.tiles.size_px == 64
    assert experiment.data.alpha == "drop"
    assert experiment.data.folder == tmp_path


def test_a_task_said_later_changes_what_an_unsaid_kind_means_and_loses_nothing(tmp_path: Path) -> None:
    where = write(tmp_path, "where.yaml", "name: a\ndata: {folder: photos, tiles: {size_px: 64}}\n")
    what = write(tmp_path, "what.yaml", "task: {kind: binary}\ndata: {kind: images}\n")
    for layers in ([where, what], [what, where]):
        experiment = load_experiment(layers)
        assert kinds(experiment) == ("binary", "images", "unet", "combined")
        assert experiment.data.folder == tmp_path / "photos"
    said = load_experiment(where, ["task.kind=multiclass", "model.depth=2"])
    assert (kinds(said)[:3], said.model.depth) == (("multiclass", "images", "unet"), 2)


def test_a_kind_that_was_meant_and_one_that_is_said_replace_each_other_whole(tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", "name: a\ndata: {folder: x}\nmodel: {components: 5}\n")
    second = write(tmp_path, "b.yaml", "model: {kind: unet}\n")
    assert load_experiment([first, second]).model == UNetConfig()
    third = write(tmp_path, "c.yaml", "model: {kind: height_cdf}\n")
    assert load_experiment([first, third]).model == HeightCdfConfig(components=5)


def test_an_experiment_of_images_is_written_whole_and_read_back_equal(tmp_path: Path) -> None:
    from maskwright.config import dump_experiment

    experiment = load_experiment(write(tmp_path, "a.yaml", BINARY))
    again = load_experiment(write(tmp_path, "b.yaml", dump_experiment(experiment)))
    assert again == experiment


def test_images_without_a_task_ask_for_one(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "name: a\ndata: {kind: images, folder: x}\nmodel: {depth: 2}\n")
    told = "task.kind: missing ({}). Images do not say what is to be learned: set binary, multiclass or multilabel."
    assert faults(path) == [told.format(path)]
    with pytest.raises(ConfigError, match=r"^task.kind: missing \(Experiment\)\. Images do not say"):
        Experiment(name="a", data=ImagesData(folder=Path("x")))
    assert load_experiment(path, ["task.kind=binary"]).model == UNetConfig(depth=2)


def test_a_misspelt_task_is_told_once_and_not_as_faults_of_the_data(tmp_path: Path) -> None:
    text = "name: a\ntask: {kind: binray}\ndata: {folder: x, labels: {kind: masks}}\nmodel: {depth: 2}\n"
    path = write(tmp_path, "a.yaml", text)
    assert faults(path) == [f'task.kind: "binray" is not known ({path}, line 2). Did you mean binary?']


def test_faults_of_images_have_lines_and_suggestions(tmp_path: Path) -> None:
    text = (
        "name: a\ntask: {kind: binary}\ndata:\n  folder: x\n  tiels: {size_px: 64}\n  sites: []\n"
        "  labels:\n    kind: vectors\n    fiel: a.gpkg\n"
    )
    path = write(tmp_path, "a.yaml", text)
    told = faults(path)
    assert [fault.partition(").")[0] for fault in told] == [
        f"data.tiels: unknown setting ({path}, line 5",
        f"data.sites: unknown setting for data.kind images ({path}, line 6",
        f"data.labels.file: missing ({path}, line 7",
        f"data.labels.fiel: unknown setting ({path}, line 9",
    ]
    assert told[0].endswith("Did you mean data.tiles?")
    assert told[1].endswith("It belongs to height_rasters.")
    assert told[3].endswith("Did you mean data.labels.file?")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"task": HeightGapsTask(), "data": {"kind": "images", "folder": "x"}},
            "data.kind: task.kind height_gaps learns from height_rasters, not from images (Experiment). "
            "Set data.kind: height_rasters, or one of binary, multiclass, multilabel, "
            "instances, agroforestry as task.kind.",
        ),
        (
            {"task": BinaryTask(), "data": {"kind": "height_rasters", "folder": "x"}},
            "data.kind: task.kind binary learns from images, not from height_rasters (Experiment). "
            "Set data.kind: images, or one of height_gaps, height as task.kind.",
        ),
        (
            {"task": BinaryTask(), "data": {"folder": "x"}, "model": {"kind": "film_unet"}},
            "model.kind: film_unet is told heights, which task.kind binary does not ask (Experiment). "
            "Set model.kind: unet.",
        ),
        (
            {"data": {"folder": "x"}, "model": {"kind": "regression_unet"}},
            "model.kind: regression_unet answers one value in metres, which is task.kind height, not height_gaps "
            "(Experiment). Set model.kind: height_cdf.",
        ),
        (
            {"task": HeightTask(), "data": {"folder": "x"}, "loss": {"kind": "combined"}},
            "loss.kind: combined does not fit task.kind height (Experiment). Set loss.kind: regression.",
        ),
        (
            {"task": BinaryTask(), "data": {"folder": "x"}, "loss": {"height_weights": "rare_gaps"}},
            "loss.height_weights: task.kind binary is not asked for heights (Experiment). Set none.",
        ),
        (
            {"task": BinaryTask(), "data": {"folder": "x"}, "loss": {"class_weights": "auto"}},
            "loss.class_weights: the classes of task.kind binary exclude no other (Experiment). Set loss.pos_weight.",
        ),
        (
            {"task": {"kind": "multiclass"}, "data": {"folder": "x"}, "loss": {"cldice": 0.2, "bce": 0.3}},
            "loss.cldice: there is no such loss of classes that exclude each other (Experiment). Set it to 0.",
        ),
    ],
)
def test_kinds_that_do_not_go_together_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Experiment(name="a", **settings)
    assert str(caught.value) == told
