from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskwright.config import (
    ConstantSchedule,
    Experiment,
    FilmUNetConfig,
    HeightCdfConfig,
    HeightRastersData,
    ModelConfig,
    Override,
    TrainingConfig,
    UNetConfig,
    dump_experiment,
    load_experiment,
    load_section,
    presets,
    save_experiment,
    save_section,
)
from maskwright.errors import ConfigError

Write = Callable[[str, str], Path]

SMALL = "name: demo\ndata:\n  folder: rasters\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file of settings into the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return write


def faults(paths: object, overrides: object = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_experiment(paths, overrides)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


def test_one_file_makes_an_experiment(write: Write) -> None:
    experiment = load_experiment(write("demo.yaml", SMALL + "training: {epochs: 3}\n"))
    assert experiment.name == "demo"
    assert experiment.training == TrainingConfig(epochs=3)


def test_a_small_number_with_an_exponent_is_a_number(write: Write) -> None:
    experiment = load_experiment(write("demo.yaml", SMALL + "optim: {optimizer: {lr: 1e-7, eps: 1E-9}}\n"))
    assert experiment.optim.optimizer.lr == 1e-7
    assert experiment.optim.optimizer.eps == 1e-9


def test_later_files_win_and_mappings_are_merged(write: Write) -> None:
    first = write("a.yaml", SMALL + "training: {epochs: 3, seed: 1}\ntask: {heights_m: [2, 5, 10]}\n")
    second = write("b.yaml", "training: {epochs: 4}\ntask: {heights_m: [7]}\n")
    experiment = load_experiment([first, second])
    assert experiment.training == TrainingConfig(epochs=4, seed=1)
    assert experiment.task.heights_m == (7.0,)


def test_overrides_come_last_and_are_yaml(write: Write) -> None:
    experiment = load_experiment(
        write("demo.yaml", SMALL + "training: {epochs: 3}\n"),
        [
            "training.epochs=5",
            "task.heights_m=[1, 2]",
            "training.clip_norm=",
            "data.tiles={size_px: 64}",
        ],
    )
    assert experiment.training.epochs == 5
    assert experiment.task.heights_m == (1.0, 2.0)
    assert experiment.training.clip_norm is None
    assert experiment.data.tiles.size_px == 64


def test_overrides_may_be_a_mapping(write: Write) -> None:
    experiment = load_experiment(write("demo.yaml", SMALL), {"training": {"epochs": 9}})
    assert experiment.training.epochs == 9
    assert faults(Path("demo.yaml"), {"training": {"epochs": 0}})[0].startswith(
        "training.epochs: 0 is below the minimum 1 (overrides)."
    )


def test_an_override_is_named_as_it_was_said(write: Write) -> None:
    path = write("demo.yaml", SMALL)
    assert faults(path, ["training.epochs=0"]) == [
        "training.epochs: 0 is below the minimum 1 (--set training.epochs=0). "
        "Set a whole number from 1 to 100000 epochs, for example 50: passes over the training tiles."
    ]
    assert "(--epochs 0)" in faults(path, [Override("training.epochs", 0, "--epochs 0")])[0]


def test_an_override_without_value_or_name_is_explained(write: Write) -> None:
    path = write("demo.yaml", SMALL)
    told = "Write for example --set training.epochs=20."
    assert faults(path, ["training.epochs"]) == [f"no section.key=value (--set training.epochs). {told}"]
    assert faults(path, ["training..epochs=3"]) == [f"no section.key=value (--set training..epochs=3). {told}"]
    assert faults(path, ["task.heights_m=[1, 2"])[0].startswith("not valid YAML: ")


def test_a_section_that_changes_its_kind_is_replaced_whole(write: Write) -> None:
    film = write("film.yaml", SMALL + "model: {kind: film_unet, base_channels: 16, film_hidden: 32}\n")
    plain_unet = write("unet.yaml", "model: {kind: unet}\n")
    deeper = write("deeper.yaml", "model: {depth: 2}\n")
    assert load_experiment([film, plain_unet]).model == UNetConfig()
    assert load_experiment([film, deeper]).model == FilmUNetConfig(base_channels=16, film_hidden=32, depth=2)
    assert load_experiment([film, plain_unet, deeper]).model == UNetConfig(depth=2)


def test_a_kind_left_unsaid_counts_as_that_of_the_default(write: Write) -> None:
    hidden = write("hidden.yaml", SMALL + "model: {film_hidden: 32}\noptim: {schedule: {max_lr: 0.1}}\n")
    other = write("other.yaml", "model: {kind: unet}\noptim: {schedule: {kind: constant}}\n")
    experiment = load_experiment([hidden, other])
    assert experiment.model == UNetConfig()
    assert experiment.optim.schedule == ConstantSchedule()


def test_the_order_of_overrides_does_not_matter_where_a_kind_changes(write: Write) -> None:
    path = write("demo.yaml", SMALL + "model: {kind: film_unet, film_hidden: 32}\n")
    words = ["model.base_channels=8", "model.kind=unet"]
    assert load_experiment(path, words).model == UNetConfig(base_channels=8)
    assert load_experiment(path, words[::-1]).model == UNetConfig(base_channels=8)


def test_a_section_without_content_says_nothing(write: Write) -> None:
    first = write("a.yaml", SMALL + "training: {epochs: 3}\n")
    second = write("b.yaml", "training:\nmodel:\n  # depth: 3\n")
    experiment = load_experiment([first, second])
    assert experiment.training.epochs == 3
    assert experiment.model == HeightCdfConfig()


def test_null_unsets_a_setting_that_may_be_unset(write: Write) -> None:
    first = write("a.yaml", SMALL + "training: {clip_norm: 2.0}\n")
    second = write("b.yaml", "training: {clip_norm: null}\n")
    assert load_experiment([first, second]).training.clip_norm is None
    assert faults([first, write("c.yaml", "training: {epochs: null}\n")]) == [
        "training.epochs: null is not a whole number (c.yaml, line 1). "
        "Set a whole number from 1 to 100000 epochs, for example 50: passes over the training tiles."
    ]


def test_every_fault_of_every_file_is_told_at_once_in_order(write: Write) -> None:
    first = write(
        "a.yaml",
        "name: demo\ntraining:\n  epochs: 0\n  epoch: 3\nmodel: {kind: unett}\ndata:\n  folder: x\n  folder: y\n",
    )
    second = write("b.yaml", "task:\n  heights_m: [5, 2]\nloss: {bce: 1.0}\noptim: {lr: 1e-3}\n")
    assert faults([first, second], ["metrics.bootstrap=many"]) == [
        "training.epochs: 0 is below the minimum 1 (a.yaml, line 3). "
        "Set a whole number from 1 to 100000 epochs, for example 50: passes over the training tiles.",
        "training.epoch: unknown setting (a.yaml, line 4). Did you mean training.epochs?",
        'model.kind: "unett" is not known (a.yaml, line 5). Did you mean unet?',
        "data.folder: given twice (a.yaml, line 8). It stands in line 7 already; keep one.",
        "task.heights_m: heights must rise and differ, for example [2, 5, 10] (b.yaml, line 2).",
        "loss: bce + dice + focal = 1.5, but must be 1 (b.yaml, line 3). Or set weights: normalize or raw.",
        "optim.lr: unknown setting (b.yaml, line 4). Did you mean optim.optimizer.lr?",
        'metrics.bootstrap: "many" is not a whole number (--set metrics.bootstrap=many). '
        "Set a whole number from 100 to 100000, for example 1000: draws of the bootstrap over blocks.",
    ]


def test_what_an_overridden_file_said_wrongly_does_not_matter(write: Write) -> None:
    path = write("demo.yaml", SMALL + "training: {epochs: 0}\n")
    assert load_experiment(path, ["training.epochs=1"]).training.epochs == 1


def test_checks_that_span_sections_run_beside_unknown_names(write: Write) -> None:
    path = write("demo.yaml", SMALL + "model: {kind: unet}\ntask: {train_range_m: [1, 9], colour: 3}\n")
    assert faults(path) == [
        "task.colour: unknown setting (demo.yaml, line 5). Known settings here: kind, heights_m, train_heights_m, "
        "train_range_m, heights_per_sample, condition_scale_m.",
        "task.train_range_m: model.kind unet answers the heights of task.heights_m, all at once (demo.yaml, line 5). "
        "Leave it out, or set model.kind: height_cdf.",
    ]


def test_a_setting_of_a_sister_kind_says_where_it_belongs(write: Write) -> None:
    path = write("demo.yaml", SMALL + "model: {kind: unet, components: 3}\n")
    assert faults(path) == [
        "model.components: unknown setting for model.kind unet (demo.yaml, line 4). It belongs to height_cdf."
    ]


def test_faults_in_a_list_name_the_entry(write: Write) -> None:
    text = "name: demo\ndata:\n  sites:\n  - {name: a, chm: a.tif, dsm: 5}\n  - {name: b, chm: b.tif, dem: b.tif}\n"
    assert faults(write("demo.yaml", text)) == [
        "data.sites[0].dsm: 5 is not a path (demo.yaml, line 4). "
        "Set a path or null: digital surface model: elevation of the top of everything.",
        "data.sites[1].dem: unknown setting (demo.yaml, line 5). Did you mean data.sites[1].dtm?",
    ]


def test_missing_settings_are_named_with_the_files_they_are_missing_from(write: Write) -> None:
    assert faults([write("a.yaml", "training: {epochs: 2}\n"), write("b.yaml", "")]) == [
        "name: missing (a.yaml, b.yaml). "
        "Set a text: name of the run, of letters, digits, _ . and -; its folder starts with it.",
        "data: no data is named (a.yaml, b.yaml). Set data.folder to a folder of rasters, or list data.sites.",
    ]
    assert faults(write("c.yaml", "name: c\ndata:\n  sites:\n  - chm: x.tif\n")) == [
        "data.sites[0].name: missing (c.yaml, line 4). Set a text: name of the site, unique in the experiment."
    ]


def test_a_number_where_a_text_is_needed_asks_for_quotes(write: Write) -> None:
    assert faults(write("a.yaml", "name: 2024\ndata: {folder: x}\n")) == [
        'name: 2024 is not a text (a.yaml, line 1). Put it in quotes: "2024".'
    ]


def test_a_single_value_where_a_list_is_needed_asks_for_a_list(write: Write) -> None:
    assert faults(write("a.yaml", SMALL), ["task.heights_m=5"]) == [
        "task.heights_m: 5 is not a list of numbers (--set task.heights_m=5). Write a list, for example [5]."
    ]


def test_entries_of_a_list_cannot_be_set_one_by_one(write: Write) -> None:
    path = write("a.yaml", "name: x\ndata:\n  sites:\n  - {name: a, chm: a.tif}\n")
    assert faults(path, ["data.sites.0.dsm=x"]) == [
        "data.sites: a group of settings is not a list of groups of settings (--set data.sites.0.dsm=x). "
        "Write the whole list."
    ]
    assert faults(path, ["data.sites[0].dsm=x"])[-1] == (
        "data.sites[0]: unknown setting (--set data.sites[0].dsm=x). Did you mean data.sites?"
    )


def test_files_that_cannot_be_read_are_explained(write: Write, tmp_path: Path) -> None:
    good = write("good.yaml", SMALL)
    (tmp_path / "latin.yaml").write_bytes(b"name: demo\ndata: {folder: for\xeat}\n")
    assert faults(["missing.yaml"]) == ["missing.yaml: no such file. Check the path."]
    assert faults(["quick"]) == ["quick: no such file. Write preset:quick for the preset."]
    assert faults([tmp_path]) == [
        f"{tmp_path}: a folder, not a file of settings. Name the file, for example {tmp_path / 'config.yaml'}."
    ]
    assert faults([good, "latin.yaml"]) == ["not a text in UTF-8 (latin.yaml, line 2). Save the file as UTF-8."]
    assert faults([good, write("list.yaml", "- a\n- b\n")]) == [
        "no mapping of settings (list.yaml, line 1). Write name: value pairs at the top level."
    ]


def test_a_broken_file_hides_no_wrong_value_of_another_but_nothing_is_called_missing(write: Write) -> None:
    broken = write("broken.yaml", "name: demo\ndata: {folder: x\n")
    other = write("other.yaml", "training:\n  epoch: 3\n  epochs: 0\n")
    told = faults([broken, other])
    assert len(told) == 3
    assert told[0].startswith("not valid YAML: ")
    assert told[1].startswith("training.epoch: unknown setting (other.yaml, line 2).")
    assert told[2].startswith("training.epochs: 0 is below the minimum 1 (other.yaml, line 3).")


def test_a_file_with_a_byte_order_mark_is_read(write: Write) -> None:
    assert load_experiment(write("demo.yaml", "\ufeff" + SMALL)).name == "demo"


def test_paths_start_from_the_folder_of_their_file(write: Write, tmp_path: Path) -> None:
    path = write(
        "settings/demo.yaml",
        "name: demo\ndata:\n  folder: ../rasters\n  sites:\n  - {name: a, chm: a.tif, dsm: /abs/b.tif}\n"
        "  split: {keep: old/run}\n  cache: {folder: ~/cache}\ntracking: {output_dir: runs}\n",
    )
    experiment = load_experiment(path)
    assert experiment.data.folder == tmp_path / "rasters"
    assert experiment.data.sites[0].chm == tmp_path / "settings/a.tif"
    assert experiment.data.sites[0].dsm == Path("/abs/b.tif")
    assert experiment.data.split.keep == tmp_path / "settings/old/run"
    assert experiment.data.cache.folder == Path.home() / "cache"
    assert experiment.tracking.output_dir == tmp_path / "runs"


def test_paths_in_overrides_start_from_the_working_folder(write: Write, tmp_path: Path) -> None:
    path = write("settings/demo.yaml", SMALL)
    assert load_experiment(path, ["data.folder=other"]).data.folder == tmp_path / "other"
    assert load_experiment(path, ["data.split.keep=none"]).data.split.keep == "none"


def test_a_preset_merges_like_a_file(write: Write) -> None:
    path = write("mine.yaml", "name: mine\ndata: {folder: x}\ntraining: {epochs: 1}\n")
    experiment = load_experiment(["preset:quick", path])
    assert experiment.name == "mine"
    assert experiment.training.epochs == 1
    assert experiment.model.base_channels == 16
    assert faults(["preset:quik"]) == ['no preset is called "quik". Did you mean quick?']
    assert faults(["preset:"])[0].endswith(f"Known: {', '.join(presets())}.")
    assert faults(["preset:quick"], ["training.epochs=0"])[0].startswith("data: no data is named (preset:quick, line ")


def test_a_resolved_experiment_says_everything_and_loads_back_equal(write: Write, tmp_path: Path) -> None:
    experiment = load_experiment(write("demo.yaml", SMALL + "optim: {optimizer: {lr: 1e-7}}\n"))
    (tmp_path / "saved").mkdir()
    save_experiment(experiment, tmp_path / "saved/config.yaml")
    assert load_experiment("saved/config.yaml") == experiment
    text = dump_experiment(experiment)
    assert f"folder: {tmp_path / 'rasters'}" in text
    assert "  epochs: 50\n" in text
    assert "lr: 1.0e-07\n" in text


def test_a_section_is_saved_and_loaded_by_its_class_or_its_kind(tmp_path: Path) -> None:
    model = UNetConfig(depth=2)
    save_section(model, tmp_path / "model.yaml")
    assert load_section(UNetConfig, tmp_path / "model.yaml") == model
    assert load_section(ModelConfig, tmp_path / "model.yaml") == model
    assert load_section(UNetConfig, tmp_path / "model.yaml", ["depth=3"]) == UNetConfig(depth=3)
    with pytest.raises(ConfigError, match=r"^depht: unknown setting \(--set depht=3\)\. Did you mean depth\?$"):
        load_section(UNetConfig, tmp_path / "model.yaml", ["depht=3"])
    with pytest.raises(ConfigError, match=r"^kind: missing\. Choose unet or film_unet or .*\.$"):
        load_section(ModelConfig, (), ["depth=3"])


def test_a_section_needs_no_file_where_all_has_defaults() -> None:
    assert load_section(TrainingConfig) == TrainingConfig()


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,10}", fullmatch=True)
file_names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/~"), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    name=names,
    file=file_names.filter(lambda text: text not in (".", "..")),
    epochs=st.integers(1, 1000),
    lr=st.floats(1e-12, 10),
    heights=st.lists(st.floats(0.01, 100), min_size=1, max_size=4, unique=True).map(sorted),
    nodata=st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_any_experiment_written_is_read_back_equal(
    tmp_path: Path, name: str, file: str, epochs: int, lr: float, heights: list[float], nodata: float | None
) -> None:
    experiment = Experiment(
        name=name,
        data=HeightRastersData(folder=Path("/rasters") / file, nodata=nodata, dsm_suffix=file),
        training={"epochs": epochs},
        optim={"optimizer": {"lr": lr}},
        task={"heights_m": heights},
    )
    (tmp_path / "x.yaml").write_text(dump_experiment(experiment), "utf-8")
    assert load_experiment(tmp_path / "x.yaml") == experiment
