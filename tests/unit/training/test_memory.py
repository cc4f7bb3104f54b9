"""Memory that runs short: how it is known, what is advised, and smaller pieces that make the same updates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maskwright.errors import TrainingError
from maskwright.training import Callback, CallbackList, Recovery, fit, is_out_of_memory, out_of_memory_advice
from maskwright.training.memory import pieces
from maskwright.types import Mixed

Toy = Any


class Small(nn.Module):
    """A network on a device that holds so many images at once."""

    def __init__(self, net: nn.Module, most: int, fails_in: str = "training") -> None:
        super().__init__()
        self.net = net
        self.most = most
        self.fails_in = fails_in
        self.sizes: list[int] = []

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        self.sizes.append(len(image))
        if len(image) > self.most and self.fails_in == ("training" if self.training else "validation"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        outputs: Tensor = self.net(image, condition)
        return outputs


class Watch(Callback):
    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.warnings: list[str] = []
        self.scores: list[dict[str, float]] = []
        self.batch_losses: list[float] = []

    def on_batch_end(self, state: Any, loss: Any) -> None:
        self.batch_losses.append(float(loss.total.detach()))

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.stop_at:
            state.request_stop("enough")

    def on_epoch_end(self, state: Any, scores: Any) -> None:
        self.scores.append(dict(scores))

    def on_note(self, state: Any, note: Any) -> None:
        if note.kind == "warning":
            self.warnings.append(note.fields["message"])


def state_of(toy: Toy, most: int, out_of_memory: str = "smaller", **options: Any) -> Any:
    options = {"accumulate": 2, "batches": 3, "epochs": 2, "clip_norm": 0.05} | options
    fails_in = options.pop("fails_in", "training")
    recovery = Recovery(out_of_memory=out_of_memory)  # type: ignore[arg-type]
    return toy.state(Small(toy.net(), most, fails_in), recovery=recovery, **options)


def run(toy: Toy, state: Any, *callbacks: Callback, samples: int = 8) -> None:
    loader, val = toy.loader(3, samples), toy.loader(2, samples)
    fit(state, toy.task, loader, val, state.updater, CallbackList(callbacks), epochs=state.epochs)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you ..."
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_memory_that_is_used_up_is_known_on_every_device(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory")]
)
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_the_advice_names_settings_with_numbers() -> None:
    advice = out_of_memory_advice(torch.empty(8, 3, 512, 384), accumulate=2)
    assert "with 8 images of 512 x 384 px at once" in advice
    assert "data.loader.batch_size: 4 with training.accumulate: 4 (the same images in an update)" in advice
    assert "training.gradient_checkpointing: true" in advice
    assert "data.tiles.size_px: 256" in advice
    assert "training.out_of_memory: smaller" in advice
    assert "GB in use) in training" in advice


def test_the_advice_leaves_out_what_is_done_already() -> None:
    advice = out_of_memory_advice(torch.empty(8, 3, 32, 32), at_once=1, automatic=True, checkpointing=True)
    assert "with 1 image of 32 x 32 px at once" in advice
    for done in ("batch_size", "gradient_checkpointing", "size_px", "out_of_memory"):
        assert done not in advice


def test_a_run_ends_with_the_advice_and_can_be_saved(toy: Toy) -> None:
    state = state_of(toy, most=4, out_of_memory="advise")
    with pytest.raises(
        TrainingError, match=r"Out of memory on cpu .* with 8 images of 5 x 5 px.*training.accumulate: 4"
    ):
        run(toy, state)
    assert state.at_boundary
    assert state.global_step == 0


def test_an_error_that_is_not_about_memory_stays_what_it_is(toy: Toy) -> None:
    state = state_of(toy, most=4)
    state.model.forward = lambda image, condition: image @ torch.ones(3, 3)
    with pytest.raises(RuntimeError, match=r"[Ss]ize|shape"):
        run(toy, state)


def test_pieces_hold_all_of_a_batch_in_order(toy: Toy) -> None:
    batch = toy.batch(0, samples=5)
    batch.mix = Mixed(batch.target + 1, batch.valid, torch.arange(5.0))
    batch.instances = list("abcde")
    parts = list(pieces(batch, 2))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.image for part in parts]), batch.image)
    assert torch.equal(torch.cat([part.condition for part in parts]), batch.condition)
    assert [place for part in parts for place in part.where] == list(batch.where)
    assert [each for part in parts for each in part.instances or ()] == list("abcde")
    assert torch.equal(torch.cat([part.mix.share for part in parts if part.mix]), torch.arange(5.0))
    assert next(pieces(batch, 5)) is batch
    assert next(pieces(batch, None)) is batch


def test_smaller_pieces_make_the_same_updates_and_scores_as_the_whole_batch(toy: Toy) -> None:
    whole, small = state_of(toy, most=8), state_of(toy, most=3)
    one, other = Watch(), Watch()
    run(toy, whole, one)
    run(toy, small, other)
    assert (whole.micro_batch, small.micro_batch) == (None, 2)  # 8, 4, 2
    assert small.model.sizes[:2] == [8, 4]
    assert "Out of memory in training with 8 images at once: from here on 4 are computed at once" in other.warnings[0]
    assert len(other.warnings) == 2
    assert small.global_step == whole.global_step == 4
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(small.model.state_dict()[name], value, atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(one.scores, other.scores, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-6)
    assert one.batch_losses == pytest.approx(other.batch_losses[:], abs=1e-6)


def test_a_single_image_that_does_not_fit_ends_the_run_with_advice(toy: Toy) -> None:
    state = state_of(toy, most=0)
    with pytest.raises(TrainingError, match=r"with 1 image of 5 x 5 px at once\. Needs less: training.gradient_check"):
        run(toy, state)


def test_validation_is_cut_as_well(toy: Toy) -> None:
    whole, small = state_of(toy, most=8, fails_in="validation"), state_of(toy, most=3, fails_in="validation")
    one, other = Watch(), Watch()
    run(toy, whole, one)
    run(toy, small, other)
    assert small.micro_batch == 2
    assert "Out of memory in validation with 8 images at once" in other.warnings[0]
    for mine, theirs in zip(one.scores, other.scores, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-6)
    state = state_of(toy, most=3, out_of_memory="advise", fails_in="validation")
    with pytest.raises(TrainingError, match=r"Out of memory on cpu .* in validation with 8 images"):
        run(toy, state)


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_a_resumed_run_goes_on_with_the_smaller_pieces_and_the_same_bits(toy: Toy, stop_at: int) -> None:
    through = state_of(toy, most=3)
    run(toy, through)
    stopped = state_of(toy, most=3)
    run(toy, stopped, Watch(stop_at))
    continued, watch = state_of(toy, most=3), Watch()
    continued.load_state_dict(stopped.state_dict())
    assert continued.micro_batch == 2
    run(toy, continued, watch)
    assert watch.warnings == []
    for name, value in through.model.state_dict().items():
        assert torch.equal(continued.model.state_dict()[name], value)


def test_a_checkpoint_is_asked_for_when_the_pieces_become_smaller(toy: Toy) -> None:
    class Asked(Callback):
        first: bool | None = None

        def on_step_end(self, state: Any, outcome: Any) -> None:
            self.first = state.checkpoint_wanted if self.first is None else self.first

    asked = Asked()
    run(toy, state_of(toy, most=3), asked)
    assert asked.first is True


def test_memory_that_runs_short_while_weights_are_written_is_not_tried_again(toy: Toy) -> None:
    state = state_of(toy, most=8)

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    state.optimizer.step = fail
    with pytest.raises(TrainingError, match="Out of memory"):
        run(toy, state)
    assert not state.at_boundary  # the weights may be half written


def test_the_whole_batch_stays_whole_where_memory_suffices(toy: Toy) -> None:
    state = state_of(toy, most=8)
    run(toy, state)
    assert set(state.model.sizes) == {8}
