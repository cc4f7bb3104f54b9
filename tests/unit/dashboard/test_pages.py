"""Every page in Streamlit's own test harness, against a run folder whose numbers are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from maskwright.config import load_experiment
from maskwright.dashboard import steering
from maskwright.dashboard.app import PAGES, choose_run
from maskwright.dashboard.pages.checkpoints import verified
from maskwright.dashboard.pages.system import gauges
from maskwright.tracking import ControlFolder, EventLog, RunFolder
from maskwright.tracking.shelf import RunSummary

from ..conftest import RESOURCES, make_run


def page(folder: Path, name: str | None, *, read_only: bool = False) -> AppTest:
    def script(folder: str, name: str | None, read_only: bool) -> None:
        from pathlib import Path

        from maskwright.dashboard.app import show

        show(Path(folder), page=name, read_only=read_only)

    test = AppTest.from_function(script, args=(str(folder), name, read_only), default_timeout=600).run()
    assert not test.exception, test.exception[0].message
    return test


def button(test: AppTest, label: str) -> Any:
    return next(one for one in test.button if one.label == label)


def labels(test: AppTest) -> list[str]:
    return [one.label for one in test.button]


def tables(test: AppTest) -> list[Any]:
    return [one.value for one in test.dataframe]


def run_again(test: AppTest) -> AppTest:
    test.run()
    assert not test.exception, test.exception[0].message
    return test


@pytest.mark.parametrize("name", [None, *PAGES])
def test_an_empty_folder_has_a_page_that_says_what_to_do(outputs: Path, name: str | None) -> None:
    test = page(outputs, name)
    assert any("no run" in one.value for one in test.info)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_survives_foreign_torn_and_deleted_runs(outputs: Path, name: str) -> None:
    kept = make_run(outputs, "kept")
    gone = make_run(outputs, "gone")
    (outputs / "foreign").mkdir()
    (outputs / "foreign" / "run.json").write_text('{"hello": [1]}')
    with open(gone.events, "ab") as file:
        file.write(b'{"kind": "st')
    gone.history.write_text("[{")
    gone.manifest.write_text("[]")
    gone.config.write_text("a: [")
    test = page(outputs, name)
    for run in (gone.path.name, "foreign", kept.path.name):
        test.selectbox(key="run").select(run)
        run_again(test)
    shutil.rmtree(kept.path)
    run_again(test)


def test_live_shows_the_numbers_of_the_run(outputs: Path) -> None:
    test = page(make_run(outputs).path, "Live")
    cards = {one.label: one.value for one in test.metric}
    assert cards == {
        "Epoch": "2 / 4",
        "Best IoU": "0.7500",
        "Time left": "2 min",
        "Images/s": "12.5",
        "Learning rate": "0.0010",
    }
    titles = [one.value.strip("*") for one in test.markdown]
    for title in ("Loss by epoch", "IoU by height", "Terms of the loss", "Weights of the terms", "Learning rate"):
        assert title in titles
    assert "Predictions on the same tiles" in titles
    assert test.select_slider(key="refresh").options == ["1 s", "2 s", "5 s", "10 s", "30 s", "60 s"]


def test_live_follows_a_run_that_grows(outputs: Path) -> None:
    run = make_run(outputs)
    test = page(outputs, "Live")
    EventLog(run.events).write("resources", **RESOURCES | {"images_per_s": 99.0, "left_s": 30.0})
    run_again(test)
    cards = {one.label: one.value for one in test.metric}
    assert (cards["Images/s"], cards["Time left"]) == ("99", "30 s")


def test_commands_go_to_the_control_folder_after_a_yes_only(outputs: Path) -> None:
    run = make_run(outputs)
    test = page(outputs, "Live")
    for label, command in (
        ("Yes, pause", "pause"),
        ("Yes, save checkpoint", "checkpoint"),
        ("Yes, stop", "stop"),
    ):
        assert ControlFolder(run.control).poll() == []
        button(test, label).click()
        run_again(test)
        assert any(f"not yet obeyed: {command}." in one.value for one in test.caption)
        (sent,) = ControlFolder(run.control).poll()
        assert sent.kind == command
    test.number_input(key="lr_wanted").set_value(0.005)
    button(test, "Yes, change learning rate").click()
    run_again(test)
    (sent,) = ControlFolder(run.control).poll()
    assert (sent.kind, dict(sent.values)) == ("set_lr", {"lr": 0.005})


def test_a_paused_run_can_go_on(outputs: Path) -> None:
    run = make_run(outputs)
    EventLog(run.events).write("command", command="pause")
    test = page(outputs, "Live")
    assert "Yes, pause" not in labels(test)
    button(test, "Yes, go on").click()
    run_again(test)
    assert [one.kind for one in ControlFolder(run.control).poll()] == ["resume"]


def test_a_stopped_run_is_continued_by_a_process_of_its_own(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(outputs, status="stopped")
    begun: list[list[str]] = []

    def start(words: list[str]) -> Any:
        begun.append(words)
        return SimpleNamespace(command=tuple(words), code=2, said=lambda: "config.yaml is damaged")

    monkeypatch.setattr(steering, "start", start)
    test = page(outputs, "Live")
    assert labels(test) == ["Yes, continue"]
    button(test, "Yes, continue").click()
    run_again(test)
    assert begun == [["maskwright", "train", "--resume", str(run.path)]]
    assert any("ended with exit code 2" in one.value for one in test.error)
    assert any("config.yaml is damaged" in one.value for one in test.code)


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_read_only_has_no_button_that_acts(outputs: Path, status: str) -> None:
    run = make_run(outputs, status=status)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    for name in PAGES:
        test = page(outputs, name, read_only=True)
        assert set(labels(test)) <= {"Check its bytes", "Paired tests of the differences"}
        assert not [one for one in test.text_input if one.key == "file"]
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_compare_holds_runs_against_the_first(outputs: Path) -> None:
    first, second = make_run(outputs, "a", best=0.5), make_run(outputs, "b", best=0.75)
    for run, value in ((first, 0.4), (second, 0.6)):
        model = [{"height_m": 5, "scores": {"iou": value}, "intervals": {"iou": [value - 0.1, value + 0.1]}}]
        (run.path / "evaluation.json").write_text(json.dumps({"score": "iou", "part": "test", "model": model}))
    first.config.write_text(first.config.read_text().replace("name: gaps", "name: other"))
    test = page(outputs, "Compare")
    test.multiselect(key="compared").set_value([first.path.name, second.path.name])
    run_again(test)
    best, measured, settings = tables(test)
    assert best["difference of best"].tolist()[1] == 0.25
    assert measured["95% interval"].tolist() == ["0.300 to 0.500", "0.500 to 0.700"]
    assert settings.to_dict("records") == [{"setting": "name", first.path.name: "other", second.path.name: "gaps"}]
    button(test, "Paired tests of the differences").click()
    run_again(test)
    assert any("have no paired test" in one.value for one in test.caption)


def test_checkpoints_are_listed_and_checked(outputs: Path) -> None:
    run = make_run(outputs)
    test = page(outputs, "Checkpoints")
    (frame,) = tables(test)
    assert frame["val/iou"].tolist() == [0.75]
    assert frame["file is"].tolist() == ["not checked"]
    assert any(f"maskwright train --resume {run.path}" in one.value for one in test.code)
    button(test, "Check its bytes").click()
    run_again(test)
    assert tables(test)[0]["file is"].tolist() == ["whole"]
    (run.checkpoints / "checkpoint_epoch_0002.pt").write_bytes(b"wrong")
    button(test, "Check its bytes").click()
    run_again(test)
    assert tables(test)[0]["file is"].tolist() == ["damaged"]
    assert verified(run.checkpoints / "missing.pt", "") == "missing"


def test_system_shows_levels_and_versions(outputs: Path) -> None:
    make_run(outputs)
    test = page(outputs, "System")
    assert dict(tables(test)[0].values.tolist())["torch"] == "2.14.1"
    assert any("12.5 images/s, 1 min an epoch · 10 GB free" in one.value for one in test.caption)
    gpu = {"gpu_percent": 70.0, "gpu_memory_mb": 2048.0, "gpu_memory_most_mb": 3072.0}
    assert gauges(RESOURCES | gpu) == [
        ("Processor", 50.0, 100.0, "%"),
        ("Memory", 4.0, 8.0, "GB"),
        ("Waiting for data", 25.0, 100.0, "%"),
        ("GPU", 70.0, 100.0, "%"),
        ("GPU memory", 2.0, 3.0, "GB"),
    ]


def test_settings_can_be_searched(outputs: Path) -> None:
    make_run(outputs)
    test = page(outputs, "Settings")
    test.text_input(key="find_setting").input("training.seed")
    run_again(test)
    assert tables(test)[0]["setting"].tolist() == ["training.seed"]


def test_the_form_writes_a_new_experiment_and_begins_it(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun: list[list[str]] = []

    def start(words: list[str]) -> Any:
        begun.append(words)
        return SimpleNamespace(command=tuple(words), code=None)

    monkeypatch.setattr(steering, "start", start)
    run = make_run(outputs)
    test = page(outputs, "Settings")
    epochs = f"{run.config} training.epochs"
    test.number_input(key=epochs).set_value(0)
    run_again(test)
    assert any("training.epochs: 0 is below the minimum 1" in one.value for one in test.error)
    assert "Write the file" not in labels(test)
    for wanted in (5, 9):
        test.number_input(key=epochs).set_value(wanted)
        run_again(test)
        assert f"Changed: `training.epochs` = {wanted}" in [one.value for one in test.caption]
    button(test, "Write the file").click()
    run_again(test)
    assert load_experiment([tmp_path / "experiment.yaml"]).training.epochs == 9
    button(test, "Yes, write and train").click()
    run_again(test)
    assert any("is there already" in one.value for one in test.error)
    test.text_input(key="file").input(str(tmp_path / "second.yaml"))
    button(test, "Yes, write and train").click()
    run_again(test)
    assert begun == [["maskwright", "train", str(tmp_path / "second.yaml"), "--output-dir", str(outputs)]]


def test_the_form_keeps_changes_from_section_to_section_and_follows_kinds(outputs: Path) -> None:
    run = make_run(outputs)
    test = page(outputs, "Settings")
    test.number_input(key=f"{run.config} training.epochs").set_value(5)
    run_again(test)
    sections = test.segmented_control(key="section").options
    assert {"data", "model", "loss", "optim", "training"} <= set(sections)
    for section in sections:
        test.segmented_control(key="section").set_value(section)
        run_again(test)
        assert any("`training.epochs` = 5" in one.value for one in test.caption)
    test.segmented_control(key="section").set_value("optim")
    run_again(test)
    test.selectbox(key=f"{run.config} optim.optimizer.kind").select("sgd")
    run_again(test)
    assert test.text_input(key=f"{run.config} optim.optimizer.momentum").value == "0.9"
    assert any("`optim.optimizer.kind` = sgd" in one.value for one in test.caption)
    assert not test.error


def test_logs_show_events_and_lines_that_contain_a_word(outputs: Path) -> None:
    run = make_run(outputs)
    with open(run.events, "ab") as file:
        file.write(b"torn\n")
    test = page(outputs, "Logs")
    assert tables(test)[0]["message"].tolist() == ["The disk is slow."]
    assert test.code[0].value == "INFO three\nWARNING two\nINFO one"
    assert any("1 lines of the event log cannot be read" in one.value for one in test.caption)
    test.text_input(key="wanted").input("warning")
    run_again(test)
    assert test.code[0].value == "WARNING two"


def test_one_run_folder_opens_on_that_run(outputs: Path) -> None:
    old = make_run(outputs, "old", status="finished")
    make_run(outputs, "new")
    assert page(old.path, "Live").title[0].value == old.path.name
    assert page(outputs, None).title[0].value.startswith("new")


def test_the_run_at_work_is_shown_first() -> None:
    runs = [RunSummary(name, Path(name), status, "") for name, status in (("b", "finished"), ("a", "running"))]
    assert choose_run(runs, None) == 1
    assert choose_run(runs, "b") == 0
    assert choose_run(runs, "gone") == 1
    assert choose_run(runs[:1], None) == 0


def test_two_hundred_runs_are_listed(outputs: Path) -> None:
    run = make_run(outputs, status="finished")
    for number in range(199):
        shutil.copytree(run.path, outputs / f"copy_{number:03d}")
    test = page(outputs, "Compare")
    assert len(test.selectbox(key="run").options) == 200
    assert RunFolder.open(outputs / "copy_000").record.status() == "finished"
