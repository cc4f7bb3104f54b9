"""The loops under examples/ run as they stand, in small, and do what they promise."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from maskwright.tracking import read_history

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

torch.set_num_threads(1)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_loop_under_examples_is_run_here() -> None:
    names = {path.stem for path in EXAMPLES.glob("own_loop_*.py")}
    assert names == {
        "own_loop_000_parts_by_hand",
        "own_loop_001_trainer_by_height",
        "own_loop_003_training_manager",
        "own_loop_004_split_files",
    }


def test_a_loop_from_single_parts_learns_and_keeps_its_best(tmp_path: Path) -> None:
    history = example("own_loop_000_parts_by_hand").main(tmp_path, epochs=6)
    assert [entry["epoch"] for entry in history] == list(range(1, 7))
    assert history[-1]["train/loss"] < history[0]["train/loss"]
    assert history[-1]["global_step"] == 6 * 2  # three batches, two updates
    assert read_history(tmp_path / "training_history.json") == history
    assert (tmp_path / "checkpoints" / "checkpoint_best.pt").exists()


def test_a_trainer_scores_by_height_and_predicts_what_is_asked(tmp_path: Path) -> None:
    found = example("own_loop_001_trainer_by_height").main(tmp_path, epochs=3)
    assert len(found["history"]) == 3
    assert 0 <= found["test"]["test/iou"] <= 1
    assert found["best"] == sorted(found["best"])
    assert found["probs"].shape[1] == 2
    assert bool((found["probs"][:, 0] <= 1).all())
    assert (tmp_path / "model_best.pt").exists()


def test_a_loop_with_a_manager_improves_and_can_be_run_again(tmp_path: Path) -> None:
    script = example("own_loop_003_training_manager")
    found = script.main(tmp_path, epochs=4)
    for name in ("quick", "presets", "full"):
        assert found[name]["training_progress"]["total_epochs"] == 4
        assert found[name]["checkpoint_info"]["total_checkpoints"] >= 1
        entries = read_history(tmp_path / name / "training_history.json")
        assert found[name]["model_info"]["best_metric"] == max(entry["val/dice"] for entry in entries)
        assert entries[-1]["train/loss"] < entries[0]["train/loss"]
    assert found["full"]["loss_info"]["schedule"] == "adaptive"
    assert set(found["components"]) >= {"dice_loss", "bce_loss", "total_loss"}
    assert found["alone"]["types"] == {"interval": 3}
    again = script.main(tmp_path, epochs=5)
    assert [again[name]["training_progress"]["total_epochs"] for name in ("quick", "presets", "full")] == [5, 5, 5]


def test_split_files_and_a_stopped_run_end_with_scores(tmp_path: Path) -> None:
    found = example("own_loop_004_split_files").main(tmp_path, epochs=6)
    assert found["resumed_after"] == 3
    assert [entry["epoch"] for entry in found["result"].history] == list(range(1, 7))
    assert not found["result"].stopped
    assert found["result"].history[-1]["train/loss"] < found["result"].history[0]["train/loss"]
    assert found["summary"]["iou"]["images"] == 3
    assert found["summary"]["iou"]["pooled"] == pytest.approx(found["result"].best_score, abs=1e-6)
