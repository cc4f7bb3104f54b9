from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maskwright.config import presets
from maskwright.config.drafts import read_base, shown_settings
from maskwright.desktop.document_fields import DATA, MODEL, TRAINING, initial_settings
from maskwright.desktop.draft import DraftModel
from maskwright.desktop.examine import Verdict
from maskwright.desktop.forms import SettingsTab
from maskwright.desktop.train_dialog import sections_of_tabs

SECTIONS = ("optim", "training", "callbacks", "checkpoints")
EVERY_DAY = ("cabruca_light", "coronary_document", "defects_document", "forestgaps_default")  # of each kind of task one


@pytest.fixture
def draft(qtbot: Any, tmp_path: Path) -> DraftModel:
    paths = {"images_dir": str(tmp_path), "masks_dir": str(tmp_path), "checkpoint_dir": str(tmp_path)}
    return DraftModel(initial_settings({"encoder_weights": None}, paths))


def shown(qtbot: Any, tab: SettingsTab) -> SettingsTab:
    qtbot.addWidget(tab)
    tab.resize(800, 600)
    tab.show()
    return tab


def visible(tab: SettingsTab) -> list[str]:
    return [label.replace("&", "") for label, (_, row) in tab.fields.lines.items() if row.label.isVisible()]


def test_what_is_written_in_a_field_is_in_the_draft(qtbot: Any, draft: DraftModel) -> None:
    tab = shown(qtbot, SettingsTab(draft, TRAINING, SECTIONS))
    tab.row("training.epochs").editor.part.setValue(7)  # type: ignore[union-attr]
    assert draft.changes["training.epochs"] == 7
    draft.change({"training.epochs": 9})
    assert tab.row("training.epochs").editor.value() == 9  # type: ignore[union-attr]


def test_fields_that_do_not_apply_are_hidden(qtbot: Any, draft: DraftModel) -> None:
    tab = shown(qtbot, SettingsTab(draft, MODEL, ("model", "loss")))
    assert visible(tab)[-2:] == ["Dice weight", "BCE weight"]
    tab.fields.lines["L&oss"][1].editor.edited.emit("Focal")
    assert visible(tab) == ["Architecture", "Encoder", "ImageNet weights", "Loss"]
    assert draft.values["loss.focal"] == 1.0
    draft.change({"model.kind": "unet"})
    assert visible(tab) == ["Architecture", "Loss"]


def test_the_rest_of_the_schema_stands_under_advanced(qtbot: Any, draft: DraftModel) -> None:
    sections, fields = sections_of_tabs(), {"Model": MODEL, "Training": TRAINING, "Data": DATA}
    tabs = [shown(qtbot, SettingsTab(draft, fields[title], sections[title])) for title in fields]
    paths: set[str] = {"name"}  # stands above the tabs
    for tab in tabs:
        assert tab.boxes == {}  # nothing is made before it is asked for
        tab.advanced.open()
        for box in tab.boxes.values():
            box.open(at_once=True)
            paths |= box.rows.keys()
        paths |= {entry.path for entry in tab.fields.entries}
    assert paths >= shown_settings(draft.values).keys()


def test_settings_of_another_kind_take_the_place_of_the_former(qtbot: Any, draft: DraftModel) -> None:
    tab = shown(qtbot, SettingsTab(draft, TRAINING, SECTIONS))
    tab.advanced.open()
    box = tab.boxes["optim.optimizer"]
    box.open(at_once=True)
    assert "optim.optimizer.betas" in box.rows
    assert "optim.optimizer.lr" not in box.rows  # stands above
    draft.change({"optim.optimizer.kind": "sgd"})
    assert "optim.optimizer.momentum" in box.rows
    assert "optim.optimizer.betas" not in box.rows
    box.rows["optim.optimizer.momentum"].editor.edited.emit(0.8)
    assert draft.values["optim.optimizer.momentum"] == 0.8


def test_faults_stand_at_their_field_or_are_named_above_what_is_folded_away(qtbot: Any, draft: DraftModel) -> None:
    tab = shown(qtbot, SettingsTab(draft, TRAINING, SECTIONS))
    counts: list[int] = []
    tab.faults_changed.connect(counts.append)
    verdict = Verdict(
        None, {}, {"training.epochs": ("0 is too few.",), "optim.optimizer.betas": ("Both lie below 1.",)}
    )
    tab.show_faults(verdict)
    assert counts == [2]
    assert tab.row("training.epochs").message.text() == "0 is too few."  # type: ignore[union-attr]
    assert tab.others.text() == "optim.optimizer.betas: Both lie below 1."
    assert tab.go_to("optim.optimizer.betas")
    tab.show_faults(verdict)
    assert tab.row("optim.optimizer.betas").message.isVisible()  # type: ignore[union-attr]
    assert not tab.others.isVisible()
    tab.show_faults(Verdict(None, {}, {}))
    assert not tab.row("training.epochs").message.isVisible()  # type: ignore[union-attr]
    assert counts[-1] == 0
    assert not tab.go_to("data.images")  # of another tab


def test_advice_stands_at_its_field_and_is_no_fault(qtbot: Any, draft: DraftModel) -> None:
    tab = shown(qtbot, SettingsTab(draft, MODEL, ("model", "loss")))
    counts: list[int] = []
    tab.faults_changed.connect(counts.append)
    tab.show_faults(Verdict(None, {}, {}, {"model.encoder_weights": "The hub does not answer."}))
    assert tab.row("model.encoder_weights").message.text() == "The hub does not answer."  # type: ignore[union-attr]
    assert counts == [0]


def test_many_settings_are_made_a_few_at_a_time(qtbot: Any, draft: DraftModel) -> None:
    tab = shown(qtbot, SettingsTab(draft, DATA, ("data",)))
    tab.advanced.open()
    box = tab.boxes["data.augment"]
    box.open()
    some = len(box.rows)
    assert some < len(box._specs)
    qtbot.waitUntil(lambda: len(box.rows) == len(box._specs))


@pytest.mark.parametrize(
    "name", [name if name in EVERY_DAY else pytest.param(name, marks=pytest.mark.slow) for name in sorted(presets())]
)
def test_every_preset_can_be_shown_with_all_its_settings(qtbot: Any, draft: DraftModel, name: str) -> None:
    edits: list[Any] = []
    for title, entries in {"Model": MODEL, "Training": TRAINING, "Data": DATA}.items():
        tab = shown(qtbot, SettingsTab(draft, entries, sections_of_tabs()[title]))
        tab.advanced.open()
        draft.values = read_base(f"preset:{name}")
        draft.changed.emit()
        for box in tab.boxes.values():
            box.open(at_once=True)
            for path, row in box.rows.items():
                row.editor.edited.connect(edits.append)
                value, on_show = draft.values.get(path), row.editor.value()
                on_show = pytest.approx(on_show, abs=1e-12) if isinstance(value, float) else on_show
                assert value == on_show or (value is None and on_show in ("", False, 0)), path
    assert edits == []  # showing is no editing
