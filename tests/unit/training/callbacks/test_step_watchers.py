"""Callbacks around the steps: memory that is given back, rates of DropPath, profiles, saved predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

from maskwright.errors import ConfigError, ModelError, TrainingError
from maskwright.losses import CombinedLoss
from maskwright.models.droppath import DropPath
from maskwright.tasks import Binary, Multiclass, Multilabel
from maskwright.training import Callback, CallbackList, fit
from maskwright.training.callbacks import CacheClearing, DropPathSchedule, Profiler, SavePredictions
from maskwright.types import Batch, Place, Window

Toy = Any


class Notes(Callback):
    def __init__(self) -> None:
        self.notes: list[Any] = []

    def on_note(self, state: Any, note: Any) -> None:
        self.notes.append(note)

    @property
    def warnings(self) -> list[str]:
        return [note.fields["message"] for note in self.notes if note.kind == "warning"]


def run(toy: Toy, state: Any, *callbacks: Callback, batches: int = 4) -> None:
    fit(state, toy.task, toy.loader(batches), None, state.updater, CallbackList(callbacks), epochs=state.epochs)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_on_the_cpu_there_is_nothing_to_clear_and_one_note_says_so(toy: Toy) -> None:
    notes = Notes()
    run(toy, toy.state(), CacheClearing(2), notes)
    assert notes.warnings == [
        "training.empty_cache_every: 2 does nothing on cpu, where torch keeps no memory of its own."
    ]


def test_memory_is_given_back_every_so_many_batches(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[str] = []
    where = "maskwright.training.callbacks.cache_clearing.clear_cache"
    monkeypatch.setattr(where, lambda device: cleared.append(device.type))
    run(toy, toy.state(epochs=2, batches=5), CacheClearing(3), batches=5)
    assert cleared == ["cpu"] * 3  # after batches 3, 6 and 9 of 10


# --- DropPath ---------------------------------------------------------------------------------------------------------


class WithBranch(nn.Module):
    def __init__(self, inner: nn.Module, rate: float) -> None:
        super().__init__()
        self.inner = inner
        self.drop = DropPath(rate)

    def forward(self, image: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.drop(self.inner(image, condition))
        return outputs


def test_rates_rise_with_the_epochs_and_follow_from_their_number_alone(toy: Toy) -> None:
    class Rates(Callback):
        def __init__(self) -> None:
            self.rates: list[float] = []

        def on_epoch_end(self, state: Any, scores: Any) -> None:
            self.rates.append(round(float(state.model.drop.chance), 6))

    def fresh() -> Any:
        return toy.state(WithBranch(toy.net(), 0.4), epochs=10)

    rates = Rates()
    state = fresh()
    run(toy, state, DropPathSchedule("linear"), rates)
    assert rates.rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.4])
    assert "drop.chance" not in state.model.state_dict()
    half, later = fresh(), fresh()
    half.load_state_dict(state.state_dict())
    half.epoch = 4
    later_rates = Rates()
    run(toy, half, DropPathSchedule("linear"), later_rates)
    assert later_rates.rates == pytest.approx(rates.rates[4:])
    assert later.epoch == 0


def test_a_network_without_branches_has_no_rate_to_raise(toy: Toy) -> None:
    with pytest.raises(TrainingError, match=r"drops no branches.*Set model.drop_path above 0") as error:
        run(toy, toy.state(), DropPathSchedule())
    assert isinstance(error.value.__cause__, ModelError)


# --- profile ----------------------------------------------------------------------------------------------------------


def test_a_profile_holds_the_operations_of_its_window(toy: Toy, tmp_path: Path) -> None:
    notes = Notes()
    run(toy, toy.state(epochs=2), Profiler(tmp_path / "profile", 2, 3), notes)
    events = json.loads((tmp_path / "profile" / "trace.json").read_text("utf-8"))["traceEvents"]
    convolutions = [event for event in events if event.get("name") == "aten::convolution"]
    assert len(convolutions) == 2  # one in each of two batches
    assert "aten::convolution" in (tmp_path / "profile" / "table.txt").read_text("utf-8")
    (note,) = [note for note in notes.notes if note.kind == "profile"]
    assert note.fields["batches"] == "2 to 3"


def test_a_window_that_reaches_past_the_run_records_what_there_is(toy: Toy, tmp_path: Path) -> None:
    notes = Notes()
    run(toy, toy.state(epochs=1), Profiler(tmp_path, 3, 20), notes)
    assert (tmp_path / "trace.json").is_file()
    assert next(note for note in notes.notes if note.kind == "profile").fields["batches"] == "3 to 4"


def test_a_window_behind_the_run_records_nothing_and_says_so(toy: Toy, tmp_path: Path) -> None:
    notes = Notes()
    run(toy, toy.state(epochs=1), Profiler(tmp_path, 10, 20), notes)
    assert list(tmp_path.iterdir()) == []
    assert notes.warnings == ["Nothing was profiled: the run had 4 batches, training.profile_batches begins at 10."]


def test_a_run_that_fails_inside_the_window_leaves_no_profiler_behind(toy: Toy, tmp_path: Path) -> None:
    class Fails(Callback):
        def on_batch_end(self, state: Any, loss: Any) -> None:
            raise ValueError("broken")

    profiler = Profiler(tmp_path, 1, 3)
    with pytest.raises(TrainingError, match="broken"):
        run(toy, toy.state(), profiler, Fails())
    run(toy, toy.state(epochs=1), Profiler(tmp_path, 1, 2))  # another one can begin
    assert (tmp_path / "trace.json").is_file()


@pytest.mark.parametrize("window", [(0, 3), (5, 4)])
def test_a_window_that_makes_no_sense_is_refused(window: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"profile_batches: \[\d, \d\] is no window"):
        Profiler(tmp_path, *window)


# --- predictions ------------------------------------------------------------------------------------------------------


class Says(nn.Module):
    """Logits that are its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return image + self.weight


def batch_of(logits: torch.Tensor, target: torch.Tensor) -> Batch:
    count, _, height, width = logits.shape
    where = tuple(Place(f"folder/photo {n}.tif", Window(0, 4 * n, height, width)) for n in range(count))
    return Batch(logits, target, torch.ones(count, height, width, dtype=torch.bool), None, where)


def save(toy: Toy, task: Any, batch: Batch, folder: Path, *, epoch: int = 3, every: int = 3) -> list[str]:
    state = toy.state(Says(), epochs=5)
    state.epoch = epoch
    SavePredictions(task, [batch], folder, every).on_epoch_end(state, {})
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_yes_or_no_question_is_saved_as_black_and_white(toy: Toy, tmp_path: Path) -> None:
    logits = torch.tensor([[[[1.0, -1.0], [-2.0, 3.0]]], [[[-1.0, -1.0], [-1.0, 5.0]]]])
    task = Binary(("crack",), CombinedLoss({"bce": 1.0}))
    files = save(toy, task, batch_of(logits, torch.zeros(2, 2, 2)), tmp_path)
    assert files == ["epoch_0003/folder_photo_0.tif_r0_c0.png", "epoch_0003/folder_photo_1.tif_r0_c4.png"]
    assert np.asarray(Image.open(tmp_path / files[0])).tolist() == [[255, 0], [0, 255]]
    assert np.asarray(Image.open(tmp_path / files[1])).tolist() == [[0, 0], [0, 255]]


def test_classes_are_saved_as_ids_and_labels_that_overlap_each_for_itself(toy: Toy, tmp_path: Path) -> None:
    logits = torch.tensor([[[[5.0, 0.0]], [[0.0, 5.0]], [[0.0, 6.0]]]])
    target = torch.zeros(1, 1, 2, dtype=torch.long)
    classes = Multiclass(("ground", "crack", "hole"), CombinedLoss({"cross_entropy": 1.0}))
    (file,) = save(toy, classes, batch_of(logits, target), tmp_path / "classes")
    assert np.asarray(Image.open(tmp_path / "classes" / file)).tolist() == [[0, 2]]
    labels = Multilabel(("wet", "old", "new"), CombinedLoss({"bce": 1.0}))
    files = save(toy, labels, batch_of(logits - 1, target), tmp_path / "labels")
    assert [name.rsplit("_", 1)[1] for name in files] == ["new.png", "old.png", "wet.png"]
    assert np.asarray(Image.open(tmp_path / "labels" / files[0])).tolist() == [[0, 255]]


def test_heights_are_saved_as_numbers(toy: Toy, tmp_path: Path) -> None:
    from maskwright.tasks import Height

    task = Height(30.0, None)
    (file,) = save(toy, task, batch_of(torch.tensor([[[[0.5, 1.0]]]]), torch.zeros(1, 1, 2)), tmp_path)
    assert tifffile.imread(tmp_path / file).tolist() == [[15.0, 30.0]]


def test_files_are_written_every_so_many_epochs_and_after_the_last(toy: Toy, tmp_path: Path) -> None:
    task = Binary(("crack",), CombinedLoss({"bce": 1.0}))
    batch = batch_of(torch.ones(1, 1, 2, 2), torch.zeros(1, 2, 2))
    for epoch, expected in ((1, 0), (2, 1), (3, 1), (4, 2), (5, 3)):
        assert len(save(toy, task, batch, tmp_path, epoch=epoch, every=2)) == expected


def test_a_folder_that_cannot_be_made_is_a_warning_and_training_goes_on(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    notes, state = Notes(), toy.state(toy.net(), epochs=1)
    run(toy, state, SavePredictions(toy.task, toy.loader(1), tmp_path / "taken", 1), notes)
    assert state.epoch == 1
    assert notes.warnings[0].startswith("The predictions of epoch 1 were not written: ")
