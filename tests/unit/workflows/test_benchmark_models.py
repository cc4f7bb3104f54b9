"""Several kinds over several seeds: what is repeated, what is not, and the numbers that come of it."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maskwright.config import Experiment, save_experiment
from maskwright.errors import ConfigError, DataError
from maskwright.files import write_json
from maskwright.tracking import History, RunFolder
from maskwright.workflows.benchmark_models import Benchmark, Trial, benchmark_models, summarise
from maskwright.workflows.benchmark_page import difference_rows, kind_rows, write_benchmark
from maskwright.workflows.compare import Column, ComparedRun

EXPERIMENT = """
name: parts
task: {kind: binary}
data: {kind: images, folder: data}
model: {kind: unet, depth: 2}
training: {epochs: 1}
"""


def run_of(score: float, counts: dict[str, list[list[int]]] | None = None, column: str = "crack") -> ComparedRun:
    columns = {column: Column(score, score - 0.1, score + 0.1)}
    return ComparedRun("run", "finished", ({"epoch": 1, "val/iou": score},), {}, "iou", "test", columns, counts or {})


def trial(kind: str, seed: int, score: float, counts: dict[str, list[list[int]]] | None = None) -> Trial:
    return Trial(kind, seed, run_of(score, counts), minutes=2.0, parameters=1_500_000)


class Trainer:
    """Stands for training: makes the run folder a real one would, and fails, stops or finishes as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fates: dict[str, str] = {}
        monkeypatch.setattr("maskwright.workflows.shape.train_shaped", self.train)
        monkeypatch.setattr("maskwright.workflows.shape.resume_shaped", self.resume)

    def train(self, experiment: Experiment, **_: Any) -> Any:
        folder = RunFolder.create(experiment.tracking.output_dir, experiment.name)
        save_experiment(experiment, folder.config)
        return self._end(folder, experiment.name, "train")

    def resume(self, run: Path, **_: Any) -> Any:
        folder = RunFolder.open(run)
        return self._end(folder, str(folder.record.load()["name"]), "resume")

    def _end(self, folder: RunFolder, name: str, verb: str) -> Any:
        self.calls.append((verb, name))
        fate = self.fates.get(name, "finish")
        if fate == "fail":
            folder.record.update(status="failed")
            raise DataError("a.png cannot be read.\nMend it.")
        if fate == "kill":
            folder.record.update(status="interrupted")
            raise KeyboardInterrupt
        if fate == "stop":
            folder.record.update(status="stopped")
            return SimpleNamespace(finished=False, stop_reason="signal SIGTERM", folder=folder)
        History(folder.history).append({"epoch": 1, "val/iou": 0.5})
        rows = [{"column": "foreground", "scores": {"iou": 0.5}, "intervals": {"iou": [0.4, 0.6]}}]
        write_json(folder.path / "evaluation.json", {"score": "iou", "part": "test", "model": rows, "mean": 0.5})
        folder.record.update(status="finished", minutes=1.5)
        return SimpleNamespace(finished=True, stop_reason=None, folder=folder)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    return Trainer(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "parts.yaml"
    path.write_text(EXPERIMENT)
    return str(path)


def bench(file: str, kinds: str = "unet resunet", seeds: tuple[int, ...] = (1, 2), **options: Any) -> Benchmark:
    return benchmark_models([file], kinds=kinds.split(), seeds=seeds, folder=Path(file).parent / "bench", **options)


def test_every_kind_is_trained_with_every_seed_as_an_ordinary_run(trainer: Trainer, file: str, tmp_path: Path) -> None:
    result = bench(file)
    names = [f"parts_{kind}_seed{seed}" for kind in ("unet", "resunet") for seed in (1, 2)]
    assert trainer.calls == [("train", name) for name in names]
    assert all(one.folder is not None and (one.folder / "run.json").exists() for one in result.trials)
    assert {path.name for path in (tmp_path / "bench").glob("benchmark*")} == {
        "benchmark.html",
        "benchmark.csv",
        "benchmark_runs.csv",
    }


def test_a_killed_benchmark_continues_the_unfinished_run_and_repeats_nothing(trainer: Trainer, file: str) -> None:
    trainer.fates["parts_unet_seed2"] = "kill"
    with pytest.raises(KeyboardInterrupt):
        bench(file)
    trainer.fates.clear()
    trainer.calls.clear()
    bench(file)
    assert trainer.calls == [
        ("resume", "parts_unet_seed2"),
        ("train", "parts_resunet_seed1"),
        ("train", "parts_resunet_seed2"),
    ]
    trainer.calls.clear()
    assert all(one.run is not None for one in bench(file).trials)
    assert trainer.calls == []


def test_a_run_that_fails_leaves_the_others_their_chance(trainer: Trainer, file: str) -> None:
    trainer.fates["parts_unet_seed1"] = "fail"
    result = bench(file)
    assert [one.failure for one in result.trials] == ["a.png cannot be read.\nMend it.", None, None, None]
    assert [row[1] for row in kind_rows(result)[1]] == ["1 of 2", "2 of 2"]


def test_a_signal_stops_the_benchmark_and_not_only_the_run(trainer: Trainer, file: str) -> None:
    trainer.fates["parts_unet_seed2"] = "stop"
    result = bench(file)
    assert result.stopped == "signal SIGTERM"
    assert [name for _, name in trainer.calls] == ["parts_unet_seed1", "parts_unet_seed2"]


def test_runs_with_other_settings_are_not_mixed_in(trainer: Trainer, file: str) -> None:
    bench(file, seeds=(1,))
    Path(file).write_text(EXPERIMENT.replace("epochs: 1", "epochs: 2"))
    with pytest.raises(ConfigError, match=r"other settings: training.epochs was 1 and is 2.*--out"):
        bench(file, seeds=(1,))


def test_a_kind_that_does_not_suit_the_task_is_refused_before_anything_is_trained(trainer: Trainer, file: str) -> None:
    with pytest.raises(ConfigError, match="film_unet"):
        bench(file, kinds="unet film_unet")
    with pytest.raises(ConfigError, match="--kinds: name at least one, and each only once; got unet, unet"):
        bench(file, kinds="unet unet")
    assert trainer.calls == []


def test_mean_and_spread_are_those_of_the_seeds() -> None:
    trials = [trial("unet", 1, 0.5), trial("unet", 2, 0.7), trial("resunet", 1, 0.6), trial("resunet", 2, 0.75)]
    first, second = summarise(trials).rows
    assert (first.mean, first.spread) == (pytest.approx(0.6), pytest.approx(math.sqrt(0.02)))
    assert second.pairs == pytest.approx((0.1, 0.05))
    assert (second.difference, second.better) == (pytest.approx(0.075), 2)
    assert second.difference_spread == pytest.approx(math.sqrt(2 * 0.025**2))
    assert math.isnan(summarise(trials[:1]).rows[0].spread)


def test_seeds_that_one_kind_lacks_are_in_no_difference() -> None:
    trials = [trial("unet", 1, 0.5), Trial("unet", 2), trial("resunet", 1, 0.6), trial("resunet", 2, 0.9)]
    _, second = summarise(trials).rows
    assert second.values == {1: 0.6, 2: 0.9}
    assert second.pairs == pytest.approx((0.1,))


def test_of_errors_the_lower_one_is_better() -> None:
    trials = [trial("unet", 1, 2.0), trial("resunet", 1, 1.5)]
    trials = [replace(one, run=replace(one.run, score="rmse")) for one in trials if one.run is not None]
    assert summarise(trials).rows[1].better == 1


def test_the_paired_test_adds_the_counts_of_all_seeds() -> None:
    def counts(tp: int) -> dict[str, list[list[int]]]:
        return {f"image {n}": [[tp + n, 2, 20 - tp - n, 78]] for n in range(8)}  # 20 true pixels in each

    trials = [
        *(trial("unet", seed, 0.4, counts(tp)) for seed, tp in ((1, 8), (2, 10))),
        *(trial("resunet", seed, 0.6, counts(tp)) for seed, tp in ((1, 10), (2, 12))),
    ]
    paired = summarise(trials).rows[1].paired
    assert paired is not None
    rise = sum(range(8))
    before, after = (2 * rise + 8 * 18) / (16 * 22), (2 * rise + 8 * 22) / (16 * 22)  # TP over TP + FP + FN
    assert paired.value == pytest.approx(after - before)
    assert paired.p_value < 0.05


def test_without_counts_the_reason_is_said() -> None:
    result = summarise([trial("unet", 1, 0.5), trial("resunet", 1, 0.6)])
    assert result.rows[1].paired is None
    assert result.notes[0].startswith("resunet and unet have no paired test: run has no counts")


def test_the_tables_hold_the_numbers_and_the_page_opens_without_results(tmp_path: Path) -> None:
    trials = [trial("unet", 1, 0.5), trial("unet", 2, 0.7), trial("resunet", 1, 0.6), Trial("resunet", 2, failure="x")]
    result = summarise(trials)
    assert kind_rows(result)[1][0] == ["unet", "2 of 2", "1.50 M", "2.0", "0.600 +- 0.141"]
    assert difference_rows(result)[1] == [["resunet", "unet", "crack", "+0.100", "1 of 1", "-", "", "-"]]
    write_benchmark(result, tmp_path)
    with open(tmp_path / "benchmark.csv", newline="") as file:
        first, _ = csv.DictReader(file)
    assert (first["kind"], first["runs"], float(first["mean"])) == ("unet", "2", pytest.approx(0.6))
    with open(tmp_path / "benchmark_runs.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["finished", "finished", "finished", "failed"]
    assert "failed: x" in (tmp_path / "benchmark.html").read_text()
    write_benchmark(summarise([Trial("unet", 1)]), tmp_path)
    assert "not finished yet" in (tmp_path / "benchmark.html").read_text()
