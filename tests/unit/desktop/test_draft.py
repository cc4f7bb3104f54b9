from __future__ import annotations

from pathlib import Path
from typing import Any

from maskwright.config import load_experiment
from maskwright.desktop.document_fields import initial_settings
from maskwright.desktop.draft import DraftModel
from maskwright.desktop.examine import Verdict


def model(tmp_path: Path) -> DraftModel:
    paths = {"images_dir": str(tmp_path), "masks_dir": str(tmp_path), "checkpoint_dir": str(tmp_path)}
    return DraftModel(initial_settings({"encoder_weights": None}, paths))


def test_a_change_is_shown_at_once_and_looked_at_soon(qtbot: Any, tmp_path: Path) -> None:
    draft = model(tmp_path)
    with qtbot.waitSignal(draft.checked) as checked, qtbot.waitSignal(draft.changed):
        draft.change({"training.epochs": 7})
        assert draft.values["training.epochs"] == 7
        assert draft.verdict is None
    verdict: Verdict = checked.args[0]
    assert verdict.experiment is not None
    assert verdict.experiment.training.epochs == 7
    assert draft.verdict is verdict


def test_only_the_last_of_many_changes_is_told_of(qtbot: Any, tmp_path: Path) -> None:
    draft = model(tmp_path)
    verdicts: list[Verdict] = []
    draft.checked.connect(verdicts.append)
    for epochs in (0, 1, 2, 3):
        draft.change({"training.epochs": epochs})
        draft._examine()
    qtbot.waitUntil(lambda: bool(verdicts))
    qtbot.wait(50)
    assert [verdict.experiment.training.epochs for verdict in verdicts if verdict.experiment] == [3]


def test_settings_of_a_kind_that_was_given_up_are_forgotten(qtbot: Any, tmp_path: Path) -> None:
    draft = model(tmp_path)
    draft.change({"optim.optimizer.betas": [0.8, 0.9]})
    draft.change({"optim.optimizer.kind": "sgd"})
    assert draft.values["optim.optimizer.lr"] == 1e-4  # said, and SGD has it too
    assert draft.values["optim.optimizer.momentum"] == 0.9  # its default
    assert "optim.optimizer.betas" not in draft.changes
    seen: list[Verdict] = []
    draft.when_checked(seen.append)
    qtbot.waitUntil(lambda: bool(seen))
    assert seen[0].can_start


def test_what_follows_from_a_change_is_shown_after_the_look(qtbot: Any, tmp_path: Path) -> None:
    draft = model(tmp_path)
    assert draft.values["callbacks.early_stopping.min_epochs"] == 25
    with qtbot.waitSignal(draft.checked):
        draft.change({"training.epochs": 10})
    assert draft.values["callbacks.early_stopping.min_epochs"] == 5  # half the epochs where nobody said


def test_a_file_or_a_preset_takes_the_place_of_everything(qtbot: Any, tmp_path: Path) -> None:
    draft = model(tmp_path)
    draft.change({"training.epochs": 7})
    draft.load("preset:quick")
    qtbot.waitUntil(lambda: draft.source is not None)
    assert (draft.source, draft.changes, draft.values["training.epochs"]) == ("preset:quick", {}, 5)
    file = tmp_path / "a.yaml"
    file.write_text("name: mine\ndata: {folder: x}\ntraining: {epochs: 3}\n")
    draft.load(str(file))
    qtbot.waitUntil(lambda: draft.source == str(file))
    assert (draft.values["name"], draft.values["training.epochs"]) == ("mine", 3)
    draft.begin_with({"training.epochs": 9})
    assert (draft.source, draft.values["training.epochs"]) == (None, 9)


def test_a_file_that_cannot_be_read_is_told_and_changes_nothing(qtbot: Any, tmp_path: Path) -> None:
    draft = model(tmp_path)
    before = dict(draft.values)
    with qtbot.waitSignal(draft.failed) as failed:
        draft.load(str(tmp_path / "none.yaml"))
    assert "none.yaml cannot be read" in failed.args[0]
    assert draft.values == before


def test_a_defect_of_the_look_itself_is_told(qtbot: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def broken(*given: Any) -> Verdict:
        raise ZeroDivisionError("by 0")

    monkeypatch.setattr("maskwright.desktop.draft.examine", broken)
    draft = model(tmp_path)
    seen: list[Verdict] = []
    draft.when_checked(seen.append)
    qtbot.waitUntil(lambda: bool(seen))
    assert not seen[0].can_start
    assert "ZeroDivisionError" in seen[0].faults[""][0]


def test_what_a_form_cannot_hold_stays_as_the_file_says(qtbot: Any, tmp_path: Path) -> None:
    file = tmp_path / "sites.yaml"
    file.write_text(
        "name: sites\ntask: {heights_m: [5]}\n"
        "data:\n  sites:\n    - {name: a, dsm: a.tif, chm: a_CHM.tif}\n    - {name: b, dsm: b.tif, chm: b_CHM.tif}\n"
        "stages:\n  - {name: coarse, epochs: 2}\n"
    )
    draft = model(tmp_path)
    draft.load(str(file))
    qtbot.waitUntil(lambda: draft.source == str(file))
    draft.change({"training.epochs": 7})
    seen: list[Verdict] = []
    draft.when_checked(seen.append)
    qtbot.waitUntil(lambda: bool(seen))
    assert seen[0].faults == {}
    assert seen[0].experiment == load_experiment([file], {"training": {"epochs": 7}})
