from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.config import field_specs, from_flat, load_experiment
from maskwright.config.drafts import (
    Draft,
    all_settings,
    check_draft,
    faults_by_setting,
    flattened,
    form_groups,
    form_values,
    nested,
    read_base,
    shown_settings,
    value_from_text,
    write_draft,
)
from maskwright.config.experiment import Experiment
from maskwright.errors import ConfigError

from ..conftest import make_run

SPECS = {spec.path: spec for spec in field_specs(Experiment)}


def test_changes_make_a_file_that_loads_with_them(outputs: Path, tmp_path: Path) -> None:
    run = make_run(outputs)
    draft = check_draft(str(run.config), {"training.epochs": 7, "task.heights_m": [3.0, 9.0]})
    assert draft.faults == ()
    file = write_draft(draft, tmp_path / "new.yaml")
    made = load_experiment([file])
    assert made.training.epochs == 7
    assert made.to_dict()["task"]["heights_m"] == [3.0, 9.0]


def test_every_fault_of_a_draft_is_told_with_its_setting(outputs: Path) -> None:
    run = make_run(outputs)
    draft = check_draft(str(run.config), {"training.epochs": 0, "optim.optimizer.lr": -1})
    assert draft.text == ""
    assert len(draft.faults) == 2
    assert any(fault.startswith("training.epochs: 0 is below the minimum 1") for fault in draft.faults)


def test_the_form_shows_the_settings_of_the_chosen_kinds_only(outputs: Path) -> None:
    base = read_base(str(make_run(outputs).config))
    titles = [group.title for group in form_groups(base)]
    assert titles[:2] == ["name", "task"]

    def optimizer(values: dict[str, object]) -> set[str]:
        paths = {spec.path for group in form_groups(values) for spec in (*group.plain, *group.advanced)}
        return {path for path in paths if path.startswith("optim.optimizer.")}

    sgd = form_values(base, {"optim.optimizer.kind": "sgd"})
    assert "optim.optimizer.momentum" in optimizer(sgd)
    assert sgd["optim.optimizer.momentum"] == 0.9  # that of SGD; RMSprop has another
    assert "optim.optimizer.momentum" not in optimizer(form_values(base, {"optim.optimizer.kind": "adamw"}))


def test_a_preset_without_data_still_fills_the_form() -> None:
    values = read_base("preset:quick")
    assert values["training.epochs"] == 5
    assert values["training.seed"] == SPECS["training.seed"].default


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("training.epochs", "7", 7),
        ("optim.optimizer.lr", "1e-4", 1e-4),
        ("task.heights_m", "3, 9.5", [3, 9.5]),
        ("task.heights_m", "[3]", [3]),
        ("training.budget", "", None),
        ("training.unfreeze.parts", "", []),
        ("name", "123", "123"),
    ],
)
def test_texts_of_the_form_become_values(path: str, text: str, value: object) -> None:
    assert value_from_text(SPECS[path], text) == value


def test_a_text_that_cannot_be_read_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"task\.heights_m: '\[3' cannot be read\. Write a list of"):
        value_from_text(SPECS["task.heights_m"], "[3")


def test_a_file_is_never_replaced_and_no_run_is_written_into(outputs: Path, tmp_path: Path) -> None:
    run, draft = make_run(outputs), Draft("name: a\n", ())
    taken = tmp_path / "a.yaml"
    taken.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_draft(draft, taken)
    with pytest.raises(ConfigError, match="belongs to its training"):
        write_draft(draft, run.path / "b.yaml")
    with pytest.raises(ConfigError, match=r"ends in \.yaml\. Give a name such as .*a\.yaml"):
        write_draft(draft, tmp_path / "a.txt")
    with pytest.raises(ConfigError, match="has faults"):
        write_draft(Draft("", ("wrong",)), tmp_path / "c.yaml")
    assert taken.read_text() == "mine"


def test_a_file_is_replaced_if_a_person_said_so(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("mine")
    write_draft(Draft("name: a\n", ()), file, replace=True)
    assert file.read_text() == "name: a\n"


def test_a_setting_that_was_emptied_stays_empty() -> None:
    base = read_base("preset:quick")
    assert base["training.clip_norm"] == 1.0
    assert form_values(base, {"training.clip_norm": None})["training.clip_norm"] is None


def test_what_is_left_unsaid_follows_from_what_was_said() -> None:
    values = read_base(None, {"task.kind": "binary", "data.images": "/pictures"})
    assert values["data.kind"] == "images"
    assert values["loss.dice_reduction"] == "batch"  # that of images; heights have another
    assert "name" not in values  # must still be given
    assert values["data.images"] == "/pictures"
    assert read_base(None)["data.kind"] == "height_rasters"


def test_settings_are_flattened_and_nested_back() -> None:
    made = from_flat({"epochs": 7}, data="/data")
    flat = flattened(made)
    assert flat["training.epochs"] == 7
    assert load_experiment([], nested(flat)) == made


def test_faults_stand_at_the_settings_they_name() -> None:
    faults = ["training.epochs: 0 is below the minimum 1. Set more.", "optim.x: unknown.", "Nothing fits."]
    assert faults_by_setting(faults, ["training.epochs"]) == {
        "training.epochs": ("0 is below the minimum 1. Set more.",),
        "": ("optim.x: unknown.", "Nothing fits."),
    }


def test_every_setting_that_exists_is_one_of_all_settings() -> None:
    shown = shown_settings(read_base("preset:quick"))
    assert shown.keys() <= all_settings().keys()
    assert "data.tiles.size_px" in shown
    assert not any("[]" in path for path in all_settings())
