"""The table of document 004, field by field, and every word of every choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maskwright.config import from_flat, load_experiment
from maskwright.config.drafts import all_settings, form_values, nested, read_base
from maskwright.desktop.document_fields import DATA, DEFAULTS, MODEL, TRAINING, Entry, initial_settings
from maskwright.errors import ConfigError

SPECS = all_settings()
ENTRIES = {entry.label.replace("&", ""): entry for entry in (*MODEL, *TRAINING, *DATA)}
PATHS = {"images_dir": "/pictures", "masks_dir": "/masks", "split_dir": "/lists", "checkpoint_dir": "/runs"}
BEGUN = initial_settings({}, PATHS)
CHOICES = [(label, option.label) for label, entry in ENTRIES.items() for option in entry.options]


@pytest.mark.parametrize(
    ("label", "least", "most", "default"),
    [
        ("Dice weight", 0, 1, 0.5),
        ("BCE weight", 0, 1, 0.5),
        ("Epochs", 1, 1000, 50),
        ("Batch size", 1, 128, 8),
        ("Learning rate", 1e-6, 1, 1e-4),
        ("Weight decay", 0, 0.1, 1e-5),
        ("Patience", 1, 100, 10),
        ("Image width", 128, 2048, 512),
        ("Image height", 128, 2048, 512),
        ("Augmentation probability", 0, 1, 0.5),
    ],
)
def test_numbers_have_the_range_and_default_of_the_document(
    label: str, least: float, most: float, default: float
) -> None:
    entry = ENTRIES[label]
    spec = entry.spec(SPECS[entry.path])
    assert (spec.minimum, spec.maximum, spec.above_minimum) == (least, most, False)
    values = read_base(None, BEGUN)
    assert entry.applies(values)
    assert entry.shows(values) == default


@pytest.mark.parametrize(
    ("label", "words", "default"),
    [
        ("Architecture", ("U-Net", "DeepLabV3+", "FPN"), "U-Net"),
        ("Loss", ("Combined", "Dice", "BCE", "Focal", "IoU"), "Combined"),
        ("Optimizer", ("Adam", "AdamW", "SGD"), "Adam"),
        ("Scheduler", ("ReduceLROnPlateau", "CosineAnnealing", "StepLR", "None"), "ReduceLROnPlateau"),
        ("Encoder", None, "resnet34"),
        ("ImageNet weights", (), True),
    ],
)
def test_choices_have_the_words_of_the_document(label: str, words: tuple[str, ...] | None, default: Any) -> None:
    entry = ENTRIES[label]
    said = tuple(option.label for option in entry.options)
    assert said == words if words is not None else len(said) == 8
    assert entry.shows(read_base(None, BEGUN)) == default


def test_the_tabs_hold_the_fields_of_the_document_in_its_order() -> None:
    def labels(entries: tuple[Entry, ...]) -> list[str]:
        values = read_base(None, BEGUN)
        return [entry.label.replace("&", "") for entry in entries if entry.applies(values)]

    assert labels(MODEL) == ["Architecture", "Encoder", "ImageNet weights", "Loss", "Dice weight", "BCE weight"]
    assert labels(TRAINING) == [
        "Epochs",
        "Batch size",
        "Learning rate",
        "Weight decay",
        "Optimizer",
        "Scheduler",
        "Patience",
    ]
    assert labels(DATA) == [
        "Split lists",
        "Images",
        "Masks",
        "Checkpoints",
        "Image width",
        "Image height",
        "Augmentation probability",
    ]


def test_the_dialog_begins_with_the_experiment_its_dictionary_means() -> None:
    begun = load_experiment([], nested(BEGUN))
    meant = from_flat(DEFAULTS | PATHS, name="training")
    assert begun.tracking.log_every_steps == 1  # every batch is told to the window
    tracking = meant.tracking.model_copy(update={"log_every_steps": 1})
    assert begun == meant.model_copy(update={"tracking": tracking})


def test_folders_are_left_open_until_somebody_names_them() -> None:
    begun = initial_settings({"num_epochs": 3}, {})
    assert "data.images" not in begun
    assert (begun["training.epochs"], begun["data.resize_px"], begun["task.kind"]) == (3, [512, 512], "binary")
    assert initial_settings({}, {"images_dir": ""}).get("data.images") is None
    assert initial_settings({}, {"checkpoint_dir": "a"})["tracking.output_dir"] == str(Path("a").absolute())
    with pytest.raises(ConfigError, match="Did you mean num_epochs"):
        initial_settings({"num_epoch": 3}, {})


@pytest.mark.parametrize(("label", "word"), CHOICES)
def test_every_word_of_every_choice_makes_an_experiment(label: str, word: str) -> None:
    entry = ENTRIES[label]
    values = read_base(None, BEGUN)
    changes = BEGUN | {"model.encoder_weights": "none"} | entry.settings(word, values)
    after = form_values(values, changes)
    assert entry.shows(after) == word
    load_experiment([], nested(changes))


@pytest.mark.parametrize(
    ("label", "shown", "settings"),
    [
        ("ImageNet weights", False, {"model.encoder_weights": "none"}),
        ("ImageNet weights", True, {"model.encoder_weights": "imagenet"}),
        ("Split lists", "/lists", {"data.split.files": "/lists", "data.split.by": "files"}),
        ("Split lists", None, {"data.split.files": None, "data.split.by": "auto"}),
        ("Image width", 768, {"data.resize_px": [512, 768], "data.tiles.size_px": 768}),
        ("Image height", 256, {"data.resize_px": [256, 512], "data.tiles.size_px": 512}),
        ("Augmentation probability", 0.25, {"data.augment.enabled": True, "data.augment.strength": 0.5}),
        ("Augmentation probability", 0.0, {"data.augment.enabled": False}),
        ("Epochs", 7, {"training.epochs": 7}),
        ("Loss", "no such word", {}),
    ],
)
def test_what_is_chosen_becomes_settings(label: str, shown: Any, settings: dict[str, Any]) -> None:
    values = read_base(None, BEGUN)
    assert ENTRIES[label].settings(shown, values) == settings
    if settings:
        assert ENTRIES[label].shows(form_values(values, BEGUN | settings)) == shown


def test_what_does_not_apply_is_hidden() -> None:
    dice = read_base(None, BEGUN | ENTRIES["Loss"].settings("Dice", {}))
    assert not ENTRIES["Dice weight"].applies(dice)
    heights = read_base(None, {"data.folder": "/rasters"})
    shown = [label for label, entry in ENTRIES.items() if entry.applies(heights)]
    assert "Data folder" in shown
    assert not {"Encoder", "ImageNet weights", "Images", "Masks", "Split lists", "Image height"} & set(shown)
    assert ENTRIES["Architecture"].shows(heights) == "height_cdf"
    own = read_base("preset:light")
    assert ENTRIES["Image width"].settings(64, own) == {"data.tiles.size_px": 64}


def test_no_letter_leads_to_two_fields_of_a_tab() -> None:
    of_the_dialog = ["N", "R", "V", "T", "S", "P"]  # name, begin from, save, check data, start, stop
    values = read_base(None, BEGUN)
    for entries in (MODEL, TRAINING, DATA):
        letters = [entry.label.partition("&")[2][:1].upper() for entry in entries if entry.applies(values)]
        assert all(letters)
        assert len({*letters, *of_the_dialog}) == len(letters) + len(of_the_dialog)
