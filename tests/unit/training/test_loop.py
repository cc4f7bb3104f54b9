"""The loop: averages, accumulation, stopping, errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from maskwright.errors import TrainingError
from maskwright.training import Callback, CallbackList, Recovery, fit
from maskwright.training.loop import groups_of
from maskwright.types import Batch

Toy = Any


class Entries(Callback):
    """The scores of each epoch; asks to stop when told."""

    def __init__(self, stop_at_step: int | None = None, stop_in: str = "") -> None:
        self.scores: list[dict[str, float]] = []
        self.stop_at_step = stop_at_step
        self.stop_in = stop_in

    def on_epoch_end(self, state: Any, scores: Mapping[str, float]) -> None:
        self.scores.append(dict(scores))

    def on_batch_end(self, state: Any, loss: Any) -> None:
        if self.stop_in == "batch" and state.global_step == self.stop_at_step:
            state.request_stop("enough")

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if self.stop_in == "step" and state.global_step == self.stop_at_step:
            state.request_stop("enough")

    def on_validation_batch_end(self, state: Any) -> None:
        if self.stop_in == "validation":
            state.request_stop("enough")


def run(toy: Toy, state: Any, train: Any, val: Any = None, *callbacks: Callback, **options: Any) -> None:
    options.setdefault("epochs", state.epochs)
    fit(state, toy.task, train, val, state.updater, CallbackList(callbacks), **options)


def join(batches: list[Batch]) -> Batch:
    return Batch(
        image=torch.cat([batch.image for batch in batches]),
        target=torch.cat([batch.target for batch in batches]),
        valid=torch.cat([batch.valid for batch in batches]),
        condition=torch.cat([batch.condition for batch in batches if batch.condition is not None]),
        where=tuple(place for batch in batches for place in batch.where),
    )


def same_weights(one: Any, other: Any) -> bool:
    theirs = other.model.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.model.state_dict().items())


def test_groups_hold_so_many_batches_and_the_last_is_shorter() -> None:
    assert [list(group) for group in groups_of(iter("abcdefg"), 3)] == [["a", "b", "c"], ["d", "e", "f"], ["g"]]  # type: ignore[arg-type]
    assert list(groups_of(iter(()), 3)) == []


def test_accumulation_equals_one_big_batch_with_a_ragged_last_group_and_uneven_valid_pixels(toy: Toy) -> None:
    pieces = [toy.batch(seed, 1 + seed % 3, share) for seed, share in enumerate((0.9, 0.1, 0.5, 0.02, 0.7, 0.3, 0.9))]
    big = [join(pieces[0:3]), join(pieces[3:6]), join(pieces[6:7])]
    grouped = toy.state(toy.net(), accumulate=3, batches=7, epochs=1)
    at_once = toy.state(toy.net(), accumulate=1, batches=3, epochs=1)
    entries = Entries(), Entries()
    run(toy, grouped, toy.loader(0).__class__(pieces), None, entries[0])
    run(toy, at_once, toy.loader(0).__class__(big), None, entries[1])
    assert grouped.global_step == at_once.global_step == 3
    for name, value in grouped.model.state_dict().items():
        torch.testing.assert_close(value, at_once.model.state_dict()[name], atol=1e-6, rtol=1e-6)
    assert entries[0].scores[0] == pytest.approx(entries[1].scores[0], abs=1e-6)


def test_every_update_steps_the_schedule_once_and_the_last_group_is_not_lost(toy: Toy) -> None:
    state = toy.state(accumulate=3, batches=4, epochs=2)
    run(toy, state, toy.loader(4))
    assert state.global_step == 4
    assert state.schedule.last_epoch == 4


def test_the_epoch_loss_is_the_weighted_average_not_that_of_the_last_batch(toy: Toy) -> None:
    loader, entries = toy.loader(4), Entries()
    state = toy.state(lr=1e-12, epochs=1)  # weights stand still, so the average can be computed apart
    run(toy, state, loader, None, entries)
    whole = join(list(loader.items))
    with torch.no_grad():
        expected = toy.task.loss(state.model(whole.image, whole.condition), whole)
        means = [float(toy.task.loss(state.model(b.image, b.condition), b).total) for b in loader.items]
    assert entries.scores[0]["train/loss"] == pytest.approx(float(expected.total), abs=1e-6)
    assert entries.scores[0]["train/loss/bce"] == pytest.approx(float(expected.terms["bce"]), abs=1e-6)
    assert abs(means[-1] - float(expected.total)) > 1e-3
    assert abs(sum(means) / 4 - float(expected.total)) > 1e-3


def test_validation_runs_every_so_many_epochs_and_always_after_the_last(toy: Toy) -> None:
    entries = Entries()
    run(toy, toy.state(epochs=5), toy.loader(4), toy.loader(2), entries, validate_every=2)
    assert ["val/iou" in scores for scores in entries.scores] == [False, True, False, True, True]
    assert all("train/loss" in scores for scores in entries.scores)


@pytest.mark.parametrize("stop_at_step", [1, 3, 4, 5, 6, 8, 11])
@pytest.mark.parametrize("stop_in", ["batch", "step"])
def test_a_run_stopped_anywhere_and_continued_ends_with_the_same_bits(
    toy: Toy, stop_at_step: int, stop_in: str
) -> None:
    def fresh() -> Any:
        return toy.state(toy.net(norm=True, dropout=0.3), accumulate=2, batches=7, epochs=3)

    loader, through, entries = toy.loader(7), fresh(), Entries()
    torch.manual_seed(5)
    run(toy, through, loader, toy.loader(2), entries)

    stopped, first = fresh(), Entries(stop_at_step, stop_in)
    torch.manual_seed(5)
    run(toy, stopped, loader, toy.loader(2), first)
    assert stopped.stop_reason == "enough"
    assert stopped.global_step == stop_at_step
    saved = stopped.state_dict()
    torch.manual_seed(99)  # a new process draws something else
    torch.rand(17)
    continued, second = fresh(), Entries()
    continued.load_state_dict(saved)
    run(toy, continued, loader, toy.loader(2), second)
    assert same_weights(continued, through)
    assert first.scores + second.scores == entries.scores
    assert continued.best == through.best


def test_a_stop_inside_validation_repeats_the_validation_only(toy: Toy) -> None:
    loader, through, entries = toy.loader(4), toy.state(epochs=1), Entries()
    run(toy, through, loader, toy.loader(2), entries)
    stopped = toy.state(epochs=1)
    run(toy, stopped, loader, toy.loader(2), Entries(stop_in="validation"))
    assert (stopped.epoch, stopped.position, stopped.global_step) == (0, 4, 4)
    continued, second = toy.state(epochs=1), Entries()
    continued.load_state_dict(stopped.state_dict())
    loader.asked.clear()
    run(toy, continued, loader, toy.loader(2), second)
    assert loader.asked == []  # no batch of training is loaded again
    assert second.scores == entries.scores
    assert same_weights(continued, through)


def test_random_numbers_drawn_by_others_do_not_move_the_training(toy: Toy) -> None:
    class Noisy(Callback):
        def on_step_end(self, state: Any, outcome: Any) -> None:
            torch.rand(11)

        def on_validation_end(self, state: Any, scores: Mapping[str, float]) -> None:
            torch.rand(5)

    states = []
    for callbacks in ([], [Noisy()]):
        torch.manual_seed(5)
        state = toy.state(toy.net(dropout=0.5))
        run(toy, state, toy.loader(4), toy.loader(2), *callbacks)
        states.append(state)
    assert same_weights(*states)


def poisoned(toy: Toy, count: int, bad: int) -> Any:
    loader = toy.loader(count)
    loader.items[bad].image[0, 0, 0, 0] = math.nan
    loader.items[bad].valid[0, 0, 0] = True
    return loader


def test_a_loss_that_is_not_finite_stops_with_epoch_step_and_terms(toy: Toy) -> None:
    state = toy.state(toy.net(norm=True))
    with pytest.raises(TrainingError) as error:
        run(toy, state, poisoned(toy, 4, bad=2))
    message = str(error.value)
    assert message.startswith(
        "Loss or gradient is not finite in epoch 1, step 3 (loss nan, gradient norm nan): first in its image, for toy "
        "(row 2, column 0, 5 x 5 px). Lower"
    )
    assert "Lower optim.optimizer.lr" in message
    assert state.at_boundary
    assert (state.global_step, state.position) == (2, 2)
    assert all(bool(value.isfinite().all()) for value in state.model.state_dict().values())


def test_a_skipped_step_is_counted_noted_and_leaves_no_trace(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    entries = Entries()
    state = toy.state(toy.net(norm=True), epochs=1, recovery=Recovery("skip"))
    run(toy, state, poisoned(toy, 4, bad=2), None, entries)
    assert (state.global_step, state.position, state.updater.skipped) == (3, 0, 1)
    assert math.isfinite(entries.scores[0]["train/loss"])
    assert all(bool(value.isfinite().all()) for value in state.model.state_dict().values())
    assert "The step was skipped, 1 so far." in caplog.text


def test_a_loader_that_gives_fewer_batches_than_promised_is_an_error(toy: Toy) -> None:
    class Short:
        def __len__(self) -> int:
            return 4

        def batches(self, epoch: int, start: int = 0) -> Any:
            return iter([toy.batch(0)])

    with pytest.raises(TrainingError, match="promised 4 batches for epoch 1 and gave 1"):
        run(toy, toy.state(), Short())


def test_a_finished_run_trains_no_further(toy: Toy) -> None:
    state, loader = toy.state(epochs=2), toy.loader(4)
    run(toy, state, loader)
    loader.asked.clear()
    run(toy, state, loader)
    assert loader.asked == []
    assert state.epoch == 2
