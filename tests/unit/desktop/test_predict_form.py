from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QSpinBox

from maskwright.config import PredictionConfig, field_specs
from maskwright.desktop.model_facts import ModelFacts
from maskwright.desktop.predict_form import PredictForm

GAPS = ModelFacts("height_gaps", (), (5.0, 10.0), 0.5, sees_images=False)
CRACKS = ModelFacts("binary", ("crack",), prediction={"tta": 2, "min_area_px": 30})


@pytest.fixture
def form(qtbot: Any) -> PredictForm:
    form = PredictForm()
    qtbot.addWidget(form)
    form.show()
    return form


def _filled(form: PredictForm) -> PredictForm:
    form.set_model(Path("run"))
    form.set_inputs([Path("a.png"), Path("b.png")])
    form.propose_out(Path("out"))
    return form


def test_every_setting_of_the_schema_has_a_place_with_its_help(form: PredictForm) -> None:
    specs = field_specs(PredictionConfig)
    assert set(form.rows) == {spec.name for spec in specs}
    for spec in specs:
        assert spec.help.split(".")[0][:20] in form.rows[spec.name].editor.focusProxy().toolTip().replace("&#x27;", "'")


def test_the_documented_ranges(form: PredictForm) -> None:
    def box(name: str, kind: type[Any]) -> Any:
        return form.rows[name].editor.findChild(kind)

    views = box("tta", QComboBox)
    assert [views.itemText(place) for place in range(views.count())] == ["1", "2", "4", "8"]
    assert (box("min_area_px", QSpinBox).minimum(), box("min_area_px", QSpinBox).maximum()) == (0, 10_000)
    assert (box("closing_px", QSpinBox).minimum(), box("closing_px", QSpinBox).maximum()) == (0, 21)
    assert box("overlap", QDoubleSpinBox).maximum() <= 1


def test_a_model_brings_its_own_settings_and_only_changes_are_passed_on(form: PredictForm) -> None:
    form.show_model(CRACKS)
    _filled(form)
    config = form.config()
    assert config is not None
    assert config.settings == {"probabilities": True}  # what the slider needs
    assert (config.model, config.inputs, config.out) == (Path("run"), (Path("a.png"), Path("b.png")), Path("out"))
    assert form.rows["min_area_px"].editor.value() == 30
    form.rows["tta"].editor.set_value("8")
    form.rows["min_area_px"].editor.set_value(31)
    form.set_threshold(0.25)
    config = form.config()
    assert config is not None
    assert config.settings == {
        "probabilities": True,
        "tta": 8,
        "min_area_px": 31,
        "probability_threshold": 0.25,
    }


def test_fields_that_do_not_apply_are_hidden(form: PredictForm) -> None:
    form.show_model(CRACKS)
    assert not form.rows["heights_m"].editor.isVisible()
    assert form.rows["probability_threshold"].editor.isVisible()
    form.show_model(GAPS)
    assert form.rows["heights_m"].editor.isVisible()
    form.show_model(ModelFacts("height", (), sees_images=False))
    assert not form.rows["probability_threshold"].editor.isVisible()


def test_heights_are_passed_on_as_numbers(form: PredictForm, qtbot: Any) -> None:
    form.show_model(GAPS)
    _filled(form)
    config = form.config()
    assert config is not None
    assert config.heights_m == ()
    qtbot.keyClicks(form.rows["heights_m"].editor.focusProxy(), "5, 7.5")
    config = form.config()
    assert config is not None
    assert config.heights_m == (5.0, 7.5)
    assert "heights_m" not in config.settings


def test_what_is_missing_is_said_beside_it(form: PredictForm) -> None:
    assert form.config() is None
    assert form.model_message.text() == "Choose the folder of a run, a model folder or a checkpoint."
    assert form.input_message.text() == "Add files or a folder, or drop them here."
    assert form.out_message.text() == "Name a folder for the results."


def test_what_cannot_be_read_is_said_at_the_field_and_nothing_starts(form: PredictForm, qtbot: Any) -> None:
    _filled(form)
    line: Any = form.rows["probability_threshold"].editor.focusProxy()
    qtbot.keyClicks(line, "half")
    assert form.rows["probability_threshold"].message.text().startswith('"half" is not a number')
    assert form.config() is None
    line.selectAll()
    qtbot.keyClicks(line, "0.3")
    assert form.rows["probability_threshold"].message.text() == ""
    assert form.config() is not None


def test_settings_that_contradict_each_other_are_refused(form: PredictForm, qtbot: Any) -> None:
    _filled(form)
    form.rows["probability_rule"].editor.set_value("otsu")
    qtbot.keyClicks(form.rows["probability_threshold"].editor.focusProxy(), "0.3")
    assert "otsu finds the cut itself" in form.rows["probability_rule"].message.text()
    assert form.config() is None


def test_a_threshold_that_is_written_moves_the_slider(form: PredictForm, qtbot: Any) -> None:
    with qtbot.waitSignal(form.threshold_changed, check_params_cb=lambda value: value == 0.3):
        qtbot.keyClicks(form.rows["probability_threshold"].editor.focusProxy(), "0.3")


def test_inputs_come_once_and_a_folder_a_person_named_stays(form: PredictForm, qtbot: Any) -> None:
    form.set_inputs([Path("a.png")])
    form.add_inputs([Path("a.png"), Path("b"), Path("b")])
    assert form.inputs == (Path("a.png"), Path("b"))
    form.propose_out(Path("one"))
    form.propose_out(Path("two"))
    assert form.out_line.text() == "two"
    form.out_line.clear()
    qtbot.keyClicks(form.out_line, "mine")
    form.propose_out(Path("three"))
    assert form.out_line.text() == "mine"


@pytest.mark.parametrize("points", [9.0, 18.0])
def test_it_is_never_narrower_than_what_it_holds(form: PredictForm, points: float) -> None:
    font = form.font()
    font.setPointSizeF(points)
    form.setFont(font)
    form.show()
    form.resize(form.minimumSizeHint().width(), 300)
    page = form.widget()
    assert page is not None
    assert form.viewport().width() >= page.minimumSizeHint().width()


def test_of_a_long_folder_of_results_the_end_is_in_sight(form: PredictForm) -> None:
    form.show()
    form.propose_out(Path("/a/folder/with/a/long/name" * 9) / "photos_predicted")
    assert form.out_line.cursorPosition() == len(form.out_line.text())


def test_the_rest_of_the_settings_stands_under_advanced(form: PredictForm) -> None:
    form.show_model(CRACKS)
    rest = form.rows["blend"].editor
    assert not rest.isVisible()
    form.advanced.setChecked(True)
    assert rest.isVisible()
