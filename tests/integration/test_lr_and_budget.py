"""Commands around the learning rate and the length of a run: lr-find, --minutes, --resume auto, the flags of train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskwright.cli.main import main
from maskwright.config import load_experiment
from maskwright.data.synthetic import write_forest
from maskwright.tracking.folder import RunFolder, find_runs
from maskwright.training import budget

EXPERIMENT = """
name: small
task: {{heights_m: [5, 10]}}
data:
  folder: {folder}
  tiles: {{size_px: 32}}
  split: {{keep: none}}
  loader: {{batch_size: 4, samples_per_epoch: 16}}
model: {{base_channels: 4, depth: 2}}
training: {{epochs: 3, threads: 1}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {out}, quiet: true{more}}}
"""


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rasters")
    write_forest(folder, size_px=448, seed=8)
    return folder


@pytest.fixture
def config(rasters: Path, tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT.format(folder=rasters, out=tmp_path / "outputs", more=""), encoding="utf-8")
    return path


def only_run(config: Path) -> RunFolder:
    (run,) = find_runs(config.parent / "outputs")
    return run


def weights(run: RunFolder) -> bytes:
    return (run.model / "model.safetensors").read_bytes()


def test_lr_find_prints_a_suggestion_and_draws_the_curve(config: Path, capsys: Any) -> None:
    out = config.parent / "pictures" / "lr.png"
    assert main(["lr-find", str(config), "--steps", "40", "--start", "1e-4", "--end", "10", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "Suggestion: --set optim.optimizer.lr=" in shown
    assert "(now 1.0e-03)" in shown
    assert out.read_bytes().startswith(b"\x89PNG")
    assert not (config.parent / "outputs").exists()


def test_a_run_with_minutes_is_the_run_with_the_epochs_they_are_laid_out_in(
    config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # However fast this machine is: 90 % of 100 minutes, less 5 s, hold 10 updates at 500 s: 8 epochs of one.
    def slow(*arguments: Any, **options: Any) -> budget.Speed:
        real = measure(*arguments, **options)
        assert real.update_s > 0
        assert real.validation_batch_s > 0
        return budget.Speed(500.0, 0.0)

    measure = budget.measure_speed
    monkeypatch.setattr(budget, "measure_speed", slow)
    assert main(["train", str(config), "--minutes", "100", "--quiet"]) == 0
    run = only_run(config)
    plan = json.loads(run.run_json.read_text())["budget"]
    assert (plan["epochs"], plan["updates_per_epoch"], plan["samples_per_epoch"], plan["minutes"]) == (8, 1, 4, 100)
    assert len(json.loads(run.history.read_text())) == 8

    other = str(tmp_path / "other")
    length = ["--epochs", "8", "--set", "data.loader.samples_per_epoch=4"]
    length += ["--set", "callbacks.early_stopping.enabled=false"]  # as for a budget where nothing is said
    assert main(["train", str(config), *length, "--quiet", "--output-dir", other]) == 0
    (plain,) = find_runs(Path(other))
    assert weights(plain) == weights(run)

    monkeypatch.setattr(budget, "measure_speed", None)  # a resumed run reads its plan
    run.record.update(status="stopped")
    assert main(["train", "--resume", str(run.path), "--quiet"]) == 0
    assert json.loads(run.run_json.read_text())["budget"] == plan


def test_a_budget_that_holds_next_to_nothing_stops_with_one_sentence(
    config: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measure_speed", lambda *_, **__: budget.Speed(1000.0, 0.0))
    assert main(["train", str(config), "--minutes", "1", "--quiet"]) == 2
    assert "do not hold 4 updates at 1e+03 s and the validation of 0 s. Give" in " ".join(
        capsys.readouterr().err.split()
    )


def test_resume_auto_continues_an_unfinished_run_and_begins_one_if_there_is_none(config: Path, capsys: Any) -> None:
    command = ["train", "--config", str(config), "--resume", "auto", "--epochs", "1", "--quiet"]
    assert main(command) == 0
    first = only_run(config)
    assert first.record.status() == "finished"
    assert main(command) == 0  # nothing unfinished: a second run
    second = next(run for run in find_runs(config.parent / "outputs") if run.path != first.path)

    second.record.update(status="stopped")
    assert main(["train", str(config), "--resume", "auto", "--lr", "0.5", "--quiet"]) == 2
    assert "optim.optimizer.lr 0.001 0.5" in " ".join(capsys.readouterr().err.split())
    assert main(["train", "--resume", "auto", "--output-dir", str(config.parent / "outputs"), "--quiet"]) == 0
    assert second.record.load()["attempt"] == 2
    assert main(["train", "--resume", "auto", "--output-dir", str(config.parent / "outputs")]) == 2
    assert "holds no unfinished run" in " ".join(capsys.readouterr().err.split())


def test_resume_takes_the_newest_checkpoint_for_its_run(config: Path, capsys: Any) -> None:
    assert main(["train", str(config), "--epochs", "1", "--quiet"]) == 0
    run = only_run(config)
    run.record.update(status="stopped")
    assert main(["train", "--resume", str(run.checkpoints / "checkpoint_latest.pt"), "--quiet"]) == 0
    assert run.record.load()["attempt"] == 2
    assert main(["train", "--resume", str(run.path), "--epochs", "3", "--quiet"]) == 0
    older = run.checkpoints / "checkpoint_epoch_0001.pt"
    assert main(["train", "--resume", str(older)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "is not the newest checkpoint of its run, which continues from checkpoint_epoch_0003.pt" in said
    assert f"To continue the run: --resume {run.path}" in said


def test_epochs_that_are_said_take_the_place_of_the_plan_of_a_budget(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(budget, "measure_speed", lambda *_, **__: budget.Speed(500.0, 0.0))
    assert main(["train", str(config), "--minutes", "100", "--quiet"]) == 0  # 8 epochs of one update
    run = only_run(config)
    assert main(["train", "--resume", str(run.path), "--minutes", "200"]) == 2
    assert "A budget is measured and laid out once; lengthen the run with --epochs N." in capsys.readouterr().err
    assert main(["train", "--resume", str(run.path), "--epochs", "9", "--quiet"]) == 0
    events = [json.loads(line) for line in run.events.read_text().splitlines()]
    steps = [row["global_step"] for row in events if row["kind"] == "epoch"]
    assert steps == list(range(1, 10))  # the new epoch is as long as those of the plan
    (entry,) = run.record.load()["changes"]
    assert entry["settings"] == {
        "training.budget": {"was": 100.0, "now": None},
        "training.epochs": {"was": 8, "now": 9},
    }


def test_every_flag_of_train_sets_its_setting(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("maskwright.workflows.shape.train", lambda experiment, **_: seen.append(experiment) or 1 / 0)
    flags = "--experiment-name flagged --lr 0.003 --batch-size 2 --epochs 7 --grad-accum 3 --mixed-precision --compile"
    flags += " --device cpu --val-frequency 2 --save-frequency 4 --minutes 9 --quiet"
    flags += f" --output-dir {config.parent / 'elsewhere'}"
    assert main(["train", "--config", str(config), "--set", "training.precision=bf16", *flags.split()]) == 1
    (experiment,) = seen
    assert experiment.name == "flagged"
    assert experiment.optim.optimizer.lr == 0.003
    assert experiment.data.loader.batch_size == 2
    training = experiment.training
    assert (training.epochs, training.accumulate, training.precision, training.device) == (7, 3, "auto", "cpu")
    assert training.compile == "default"
    assert (training.validate_every, experiment.checkpoints.every_epochs, training.budget) == (2, 4, 9)
    assert (experiment.tracking.output_dir, experiment.tracking.quiet) == (config.parent / "elsewhere", True)


def test_a_schedule_that_watches_a_score_nobody_computes_is_refused(config: Path, capsys: Any) -> None:
    more = ["--set", "optim.schedule={kind: plateau, monitor: val/dise}"]
    assert main(["train", str(config), *more, "--quiet"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert 'monitor "val/dise" is never computed (optim.schedule.monitor). Available: train/loss' in shown


def test_a_plateau_with_a_warm_up_trains_by_the_command(config: Path) -> None:
    schedule = {"schedule": {"kind": "ReduceLROnPlateau", "patience": 0, "threshold": 1e9, "monitor": "val_loss"}}
    more = config.parent / "more.yaml"
    more.write_text(yaml.safe_dump({"optim": {"warmup_steps": 2, "optimizer": {"kind": "SGD"}, **schedule}}))
    assert load_experiment([config, more]).optim.schedule.kind == "reduce_on_plateau"
    assert main(["train", str(config), str(more), "--quiet"]) == 0
    history = json.loads(only_run(config).history.read_text())
    events = [json.loads(line) for line in only_run(config).events.read_text().splitlines()]
    drops = [(row["epoch"], row["lr"], row["monitor"]) for row in events if row.get("kind", row.get("event")) == "lr"]
    assert [row["lr/0"] for row in history] == pytest.approx([0.01, 0.01, 0.001])
    assert [(epoch, monitor) for epoch, _, monitor in drops] == [(2, "val/loss"), (3, "val/loss")]
    assert [lr for _, lr, _ in drops] == pytest.approx([0.001, 0.0001])
