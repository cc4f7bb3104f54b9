"""Two and three processes on the CPU train as one does: the same updates, the same numbers, one decision for all."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.tracking import RunFolder, read_events, read_history, read_manifest

SCENARIOS = (
    "steps:1",
    "steps:2",
    "scores:1",
    "scores:2",
    "scores:3",
    "resumed:2",
    "short_of_memory:1",
    "short_of_memory:2",
    "not_finite:1",
    "not_finite:2",
    "windows:2",
    "disagreeing:2",
    "failing:2",
    "told_a_rate:1",
    "told_a_rate:2",
    "divided:1",
    "divided:2",
    "divided_and_resumed:2",
    "divided_and_resumed:1",
    "whole_then_divided:2",
)
WHERE = {2: "out", 3: "by_three"}
TWO_AND_THREE = [2, pytest.param(3, marks=pytest.mark.slow)]
LOSSES = ("pixels and samples", "overlap of the batch", "lovasz and tversky", "learned weights")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return carried_out(tmp_path_factory.mktemp("ranks"), SCENARIOS)


@pytest.fixture(scope="module")
def by_three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return carried_out(tmp_path_factory.mktemp("three"), ("steps:3", "resumed:3"))


def carried_out(folder: Path, scenarios: Sequence[str]) -> Path:
    script = Path(__file__).with_name("ranks.py")
    subprocess.run([sys.executable, str(script), str(folder), *scenarios], check=True, timeout=900)
    return folder


def results(out: Path, scenario: str, processes: int) -> list[Any]:
    """What each process returned."""
    found = []
    for number in range(processes):
        file = out / f"{scenario}_{processes}_{number}"
        error = file.with_suffix(".err")
        assert not error.exists(), error.read_text()
        found.append(pickle.loads(file.with_suffix(".pkl").read_bytes()))
    return found


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, rtol=1e-4, atol=1e-6)


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in one["weights"].items():
        assert torch.equal(other["weights"][name], value), name
    assert one["history"] == other["history"]


@pytest.mark.parametrize("processes", TWO_AND_THREE)
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_an_epoch_of_several_processes_equals_that_of_one_with_the_joined_batches(
    out: Path, loss: str, accumulate: int, processes: int, request: pytest.FixtureRequest
) -> None:
    """Batches of 3 and a last one of 1: shares are uneven, and one or two processes have nothing of the last."""
    name = f"{loss}, {accumulate}"
    (alone,) = results(out, "steps", 1)
    together = results(request.getfixturevalue(WHERE[processes]), "steps", processes)
    assert_close(together[0][name], alone[name])
    for mine, expected in zip(together[0][name]["factors"], alone[name]["factors"], strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
    assert together[0][name]["steps"] == alone[name]["steps"] == (4 if accumulate == 1 else 2)
    for other in together[1:]:
        assert_same(other[name], together[0][name])


@pytest.mark.parametrize("processes", TWO_AND_THREE)
@pytest.mark.parametrize("name", ["average", "pieces"])
def test_so_does_one_with_averaged_weights_and_one_that_exchanges_after_all_passes(
    out: Path, name: str, processes: int, request: pytest.FixtureRequest
) -> None:
    (alone,) = results(out, "steps", 1)
    for each in results(request.getfixturevalue(WHERE[processes]), "steps", processes):
        assert_close(each[name], alone[name])


def test_losses_of_training_are_those_of_all_processes(out: Path) -> None:
    (alone,) = results(out, "scores", 1)
    for each in results(out, "scores", 2):
        for name in ("train/loss", "train/loss/bce", "train/loss/dice"):
            assert each[name] == pytest.approx(alone[name], rel=1e-5)


@pytest.mark.parametrize("processes", [2, 3])
def test_losses_and_scores_of_validation_are_the_same_to_the_last_bit(out: Path, processes: int) -> None:
    """Five batches of 2, 3, 1, 2 and 2 tiles: neither batches nor tiles divide evenly."""
    (alone,) = results(out, "scores", 1)
    names = [name for name in alone if name.startswith("val/")]
    assert {"val/loss", "val/iou", "val/iou_images_skip"} <= set(names)
    for each in results(out, "scores", processes):
        assert {name: each[name] for name in names} == {name: alone[name] for name in names}


@pytest.mark.parametrize("processes", TWO_AND_THREE)
def test_any_process_may_stop_a_run_and_resumed_it_ends_with_the_same_bits(
    processes: int, request: pytest.FixtureRequest
) -> None:
    for each in results(request.getfixturevalue(WHERE[processes]), "resumed", processes):
        assert each["first"]["stop_reason"] == f"process {processes - 1} has enough"
        assert each["first"]["position"] == (1, 2)
        assert_same(each["second"], each["through"])


def test_one_process_writes_the_run_folder(out: Path) -> None:
    (first, _) = results(out, "resumed", 2)
    folder = RunFolder(Path(first["run"]))
    assert [entry["epoch"] for entry in read_history(folder.history)] == [1, 2, 3]
    begins = [event for event in read_events(folder.events) if event["kind"] == "train_begin"]
    assert len(begins) == 2  # one for each attempt
    files = [record.file for record in read_manifest(folder.manifest).records]
    assert len(files) == len(set(files))
    assert not [file for file in folder.path.rglob("*") if ".tmp" in file.name]


def test_memory_that_is_short_in_one_process_makes_the_pieces_of_all_smaller(out: Path) -> None:
    (alone,) = results(out, "short_of_memory", 1)
    assert alone["micro_batch"] is None  # it is the second process whose memory is short
    for each in results(out, "short_of_memory", 2):
        assert each["micro_batch"] == 1
        assert_close(each, alone)


def test_a_number_that_is_not_finite_in_one_process_is_skipped_by_all_or_ends_all(out: Path) -> None:
    (alone,) = results(out, "not_finite", 1)
    for each in results(out, "not_finite", 2):
        assert each["steps"] == alone["steps"] == 3
        assert_close(each, alone)
        assert "first in its image, for invented (row 1, column 32, 16 x 16 px)" in each["error"]


def test_windows_are_answered_by_all_processes_and_come_back_in_order(out: Path) -> None:
    assert results(out, "windows", 2) == [[8.0 * number for number in range(7)], "served"]


def test_processes_that_disagree_are_refused_in_all_of_them(out: Path) -> None:
    for told in results(out, "disagreeing", 2):
        assert told.startswith(
            "Process 1 of 2 does not agree on the experiment with process 0: optim.optimizer.lr is 0.1"
        )
        assert "in process 0 and 1.1 there" in told


def test_the_first_that_fails_says_why_and_the_others_end_without_a_word(out: Path) -> None:
    assert "its data is damaged" in (out / "failing_2_1.err").read_text().strip().splitlines()[-1]
    assert (out / "failing_2_0.err").read_text().strip().splitlines()[-1] == "SystemExit: 75"


def test_a_learning_rate_that_one_process_is_told_of_is_that_of_all(out: Path) -> None:
    (alone,) = results(out, "told_a_rate", 1)
    both = results(out, "told_a_rate", 2)
    assert [each["lr"] for each in both] == [alone["lr"]] * 2 == [0.02] * 2
    assert_same(both[1], both[0])


# --- a network that is divided ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LOSSES, "average", "checkpointed"])
def test_processes_that_divide_the_network_train_as_one_that_has_it_whole(out: Path, name: str) -> None:
    """Losses and scores included, with batches of the validation that do not divide evenly; the average is clipped."""
    (alone,) = results(out, "divided", 1)
    both = results(out, "divided", 2)
    assert_close(both[0][name], alone[name])
    assert_same(both[1][name], both[0][name])
    for mine, expected in zip(both[0][name]["factors"], alone[name]["factors"], strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
    for entry, expected in zip(both[0][name]["history"], alone[name]["history"], strict=True):
        assert entry == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True)


def test_each_process_holds_a_share_of_every_weight(out: Path) -> None:
    shares = [each["average"]["shares"] for each in results(out, "divided", 2)]
    (alone,) = results(out, "divided", 1)
    for name, value in alone["average"]["weights"].items():
        rows = value.shape[0]
        assert [share[name] * rows // value.numel() for share in shares] == [-(-rows // 2), rows // 2]


def test_a_divided_run_resumed_ends_with_the_same_bits_and_its_files_hold_no_pickle(out: Path) -> None:
    both = results(out, "divided_and_resumed", 2)
    for each in both:
        assert each["first"]["position"] == (1, 2)
        assert_same(each["second"], each["through"])
    folder = RunFolder(Path(both[0]["run"])).checkpoints
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors"}
    newest = read_manifest(folder / "manifest.json").records[-1]
    (shares,) = folder.glob(f"{Path(newest.file).stem}.*.shares")
    assert len(list(shares.iterdir())) == 2  # one of each process


def test_one_process_takes_up_the_checkpoint_of_two_as_it_was(out: Path) -> None:
    (alone,) = results(out, "divided_and_resumed", 1)
    first = results(out, "divided_and_resumed", 2)[0]["first"]
    state = alone["state"]
    for name, value in first["weights"].items():
        assert torch.equal(state["ema"]["weights"][name], value)
    assert (state["epoch"], state["position"]) == first["position"]
    assert alone["record"].file.endswith(".json")
    assert [entry["epoch"] for entry in alone["second"]["history"]] == [1, 2, 3]


def test_two_that_divide_go_on_from_what_was_saved_whole(out: Path) -> None:
    """The same bits in both processes, and the weights of a run that was never stopped."""
    one, other = results(out, "whole_then_divided", 2)
    assert_same(other, one)
    through = results(out, "divided_and_resumed", 2)[0]["through"]
    assert_close(one, through)
