"""What a command line with --resume asks for, and what may change while a run lasts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from maskwright.checkpoints import CheckpointStore
from maskwright.config import Experiment, Override, load_experiment, save_experiment
from maskwright.errors import ConfigError, RunError
from maskwright.tracking.folder import RunFolder
from maskwright.workflows.resume_plan import (
    Begin,
    Change,
    Continue,
    record_changes,
    require_more_to_do,
    settled,
    start_of,
)


def values(tmp_path: Path, **training: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "data": {"folder": str(tmp_path)},
        "training": {"epochs": 10, **training},
        "tracking": {"output_dir": str(tmp_path / "outputs")},
    }


def file_of(tmp_path: Path, **training: Any) -> str:
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(values(tmp_path, **training)), encoding="utf-8")
    return str(path)


def run(tmp_path: Path, status: str = "stopped", epochs_done: int = 0, **training: Any) -> RunFolder:
    folder = RunFolder.create(tmp_path / "outputs", "toy")
    save_experiment(Experiment.model_validate(values(tmp_path, **training)), folder.config)
    if epochs_done:
        CheckpointStore(folder).save({"epoch": epochs_done}, epoch=epochs_done, global_step=epochs_done)
    folder.record.update(status=status)
    return folder


def asked(folder: RunFolder, *overrides: str | Override) -> Experiment:
    start = start_of(str(folder.path), (), overrides)
    assert isinstance(start, Continue)
    return start.experiment


def changes(folder: RunFolder, *overrides: str | Override) -> list[str]:
    return [str(change) for change in settled(folder, asked(folder, *overrides))[1]]


# --- what is meant ----------------------------------------------------------------------------------------------------


def test_without_resume_the_files_are_a_new_run(tmp_path: Path) -> None:
    start = start_of(None, [file_of(tmp_path)], ["training.epochs=3"])
    assert isinstance(start, Begin)
    assert (start.experiment.training.epochs, start.parent) == (3, None)
    with pytest.raises(ConfigError, match="Name a file of settings, or --resume RUN"):
        start_of(None, [])


def test_a_run_alone_goes_on_with_its_own_settings(tmp_path: Path) -> None:
    folder = run(tmp_path)
    assert start_of(str(folder.path), ()) == Continue(folder, load_experiment([folder.config]))
    assert changes(folder) == []


def test_the_name_of_the_run_itself_begins_no_new_one(tmp_path: Path) -> None:
    folder = run(tmp_path)
    assert start_of(str(folder.path), (), ["name=toy"]) == Continue(folder, load_experiment([folder.config]))


def test_auto_continues_the_newest_unfinished_run_with_what_was_asked(tmp_path: Path) -> None:
    folder, file = run(tmp_path), file_of(tmp_path)
    start = start_of("auto", [file], [Override("training.epochs", 12, "--epochs 12")])
    assert isinstance(start, Continue)
    assert (start.folder, start.experiment.training.epochs) == (folder, 12)
    outputs = tmp_path / "outputs"
    here = Override("tracking.output_dir", str(outputs), "--output-dir")
    start = start_of("auto", [], [here, "training.device=cpu"], outputs)
    assert isinstance(start, Continue)
    assert (start.folder, start.experiment.training.device) == (folder, "cpu")


def test_auto_begins_the_experiment_where_nothing_is_unfinished_and_needs_one_to_begin(tmp_path: Path) -> None:
    run(tmp_path, "finished")
    assert isinstance(start_of("auto", [file_of(tmp_path)]), Begin)
    with pytest.raises(ConfigError, match="holds no unfinished run called other"):
        start_of("auto", [], ["name=other"], tmp_path / "outputs")


def test_a_run_that_is_continued_stays_where_it_is(tmp_path: Path) -> None:
    folder = run(tmp_path)
    with pytest.raises(ConfigError, match=r"--output-dir: .* is continued where it is"):
        start_of(str(folder.path), (), [Override("tracking.output_dir", "x", "--output-dir x")])


def test_a_folder_without_settings_says_who_must_continue_it(tmp_path: Path) -> None:
    folder = run(tmp_path)
    folder.config.unlink()
    with pytest.raises(RunError, match=r"has no config.yaml: it ended before it began, or another program"):
        start_of(str(folder.path), ())


# --- what may change --------------------------------------------------------------------------------------------------


def test_what_may_change_is_taken_and_listed(tmp_path: Path) -> None:
    folder = run(tmp_path)
    given = [
        "training.epochs=12",
        "training.device=cpu",
        "training.threads=2",
        "data.loader.workers=3",
        "tracking.log_every_steps=5",
        "tracking.mlflow=true",
        "callbacks.early_stopping.patience=30",
        "checkpoints.max_checkpoints=9",
    ]
    experiment, found = settled(folder, asked(folder, *given))
    assert [change.setting for change in found] == sorted(each.partition("=")[0] for each in given)
    assert Change("training.epochs", 10, 12) in found
    assert experiment.training.epochs == 12


@pytest.mark.parametrize(
    ("given", "row"),
    [
        ("training.seed=7", "training.seed 42 7"),
        ("data.loader.batch_size=2", "data.loader.batch_size 8 2"),
        ("optim.optimizer.kind=sgd", "optim.optimizer.kind adamw sgd"),
        ("loss.weights=raw", "loss.weights"),
        ("model.base_channels=16", "model.base_channels 32 16"),
        ("task.heights_m=[3]", "task.heights_m"),
        ("data.split.seed=1", "data.split.seed"),
        ("training.accumulate=4", "training.accumulate 1 4"),
        ("callbacks.monitor=val/loss", "callbacks.monitor None val/loss"),
    ],
)
def test_what_makes_another_run_is_refused_with_both_values(tmp_path: Path, given: str, row: str) -> None:
    folder = run(tmp_path)
    with pytest.raises(ConfigError) as error:
        changes(folder, given)
    text = " ".join(str(error.value).split())
    assert "was begun with other settings, which cannot change while it lasts: setting the run's yours" in text
    assert row in text
    assert "add --experiment-name NAME." in text
    assert "What may change: callbacks.early_stopping.*, checkpoints.*" in text


def test_another_learning_rate_is_refused_with_the_command_that_sets_it(tmp_path: Path) -> None:
    folder = run(tmp_path)
    with pytest.raises(ConfigError, match=r"is set by: maskwright runs lr .* VALUE"):
        changes(folder, "optim.optimizer.lr=0.5")


def test_data_that_lies_elsewhere_now_is_no_other_data(tmp_path: Path) -> None:
    folder = run(tmp_path)
    assert changes(folder, f"data.folder={tmp_path / 'moved'}") == [
        f"data.folder {tmp_path} -> {tmp_path / 'moved'}",
    ]


def test_files_need_not_repeat_where_weights_came_from_or_where_the_run_lies(tmp_path: Path) -> None:
    folder = run(tmp_path)
    own = load_experiment([folder.config], [f"model.initial_weights={tmp_path / 'w.pt'}"])
    save_experiment(own, folder.config)
    start = start_of(str(folder.path), [file_of(tmp_path)])
    experiment, found = settled(folder, start.experiment)
    assert found == ()
    assert experiment == own


def test_epochs_may_fall_to_those_that_are_done_and_no_further(tmp_path: Path) -> None:
    folder = run(tmp_path, epochs_done=4)
    assert changes(folder, "training.epochs=4") == ["training.epochs 10 -> 4"]
    with pytest.raises(ConfigError, match="has 4 epochs behind it, and 3 are asked for"):
        changes(folder, "training.epochs=3")


def test_epochs_that_are_said_end_a_budget_and_another_budget_is_refused(tmp_path: Path) -> None:
    folder = run(tmp_path, epochs_done=2, budget=20)
    folder.record.update(budget={"epochs": 6})
    assert changes(folder) == []
    assert changes(folder, "training.epochs=10") == ["training.budget 20.0 -> None", "training.epochs 6 -> 10"]
    with pytest.raises(ConfigError, match="A budget is measured and laid out once; lengthen the run with --epochs N"):
        changes(folder, "training.budget=40")


# --- a run that has reached its end -----------------------------------------------------------------------------------


def finished(folder: RunFolder, *overrides: str) -> None:
    experiment, found = settled(folder, asked(folder, *overrides))
    require_more_to_do(folder, experiment, found)


def test_a_finished_run_needs_more_epochs(tmp_path: Path) -> None:
    folder = run(tmp_path, "finished", epochs_done=10)
    with pytest.raises(RunError) as error:
        finished(folder, "training.device=cpu")
    assert str(error.value) == (
        f"{folder.path} is finished: 10 epochs are done. Train it longer with --resume {folder.path} --epochs 20. "
        f"Begin a new run from its weights with --resume {folder.path} --experiment-name NAME, or score it again with: "
        f"maskwright evaluate {folder.path}"
    )
    finished(folder, "training.epochs=11")


def test_a_run_that_stopped_early_needs_more_patience_and_not_more_epochs(tmp_path: Path) -> None:
    folder = run(tmp_path, "finished", epochs_done=5)
    folder.record.update(reason="early stopping: val/iou is best with 0.5 in epoch 1, 4 validated epochs without")
    with pytest.raises(RunError, match=r"more epochs alone change nothing\. Let it wait longer with .*patience=N"):
        finished(folder, "training.epochs=20")
    finished(folder, "callbacks.early_stopping.patience=30")
    finished(folder, "callbacks.early_stopping.enabled=false")


def test_a_stopped_run_has_more_to_do_even_if_its_epochs_are_done(tmp_path: Path) -> None:
    finished(run(tmp_path, "stopped", epochs_done=10))


# --- what is written --------------------------------------------------------------------------------------------------


def test_changes_are_kept_with_their_attempt_and_the_settings_before(tmp_path: Path) -> None:
    folder = run(tmp_path)
    before = folder.config.read_bytes()
    for epochs, device in ((12, "auto"), (14, "cpu")):
        experiment, found = settled(folder, asked(folder, f"training.epochs={epochs}", f"training.device={device}"))
        folder.record.begin_attempt()
        lines = record_changes(folder, experiment, found)
    assert lines == [
        "Changed: training.device auto -> cpu; training.epochs 12 -> 14. The settings before: config_attempt_2.yaml",
        "training.device: sums are rounded otherwise from here on, so the run goes on, not bit for bit.",
    ]
    assert (folder.path / "config_attempt_1.yaml").read_bytes() == before
    assert load_experiment([folder.path / "config_attempt_2.yaml"]).training.epochs == 12
    assert load_experiment([folder.config]).training.epochs == 14
    recorded = [(entry["attempt"], entry["settings"]["training.epochs"]) for entry in folder.record.load()["changes"]]
    assert recorded == [(2, {"was": 10, "now": 12}), (3, {"was": 12, "now": 14})]


def test_nothing_changed_writes_nothing(tmp_path: Path) -> None:
    folder = run(tmp_path)
    assert record_changes(folder, load_experiment([folder.config]), ()) == []
    assert not list(folder.path.glob("config_attempt*"))
    assert "changes" not in folder.record.load()
