"""Early stopping: really stops, at the right epoch, also after a resume."""

from __future__ import annotations

import math
from typing import Any

import pytest

from maskwright.training import EarlyStopping, Monitor

Toy = Any


def feed(state: Any, rule: EarlyStopping, scores: list[float], name: str = "val/iou") -> list[int]:
    """Give one score per epoch until the rule stops; returns the epochs seen."""
    seen = []
    for score in scores:
        if state.stop_reason is not None:
            break
        state.finish_epoch({name: score, "train/loss": 1.0})
        rule.on_epoch_end(state, state.scores)
        seen.append(state.epoch)
    return seen


def test_the_run_stops_after_patience_epochs_without_improvement(toy: Toy) -> None:
    state, rule = toy.state(epochs=50), EarlyStopping(patience=3)
    assert feed(state, rule, [0.1, 0.3, 0.2, 0.3, 0.29, 0.9]) == [1, 2, 3, 4, 5]
    assert state.stop_reason == (
        "early stopping: val/iou is best with 0.3000 in epoch 2, 3 validated epochs without improvement"
    )
    assert state.is_finished


def test_a_loss_is_better_low(toy: Toy) -> None:
    state = toy.state(epochs=50, monitor=Monitor("val/loss", "min"))
    assert feed(state, EarlyStopping(patience=2), [0.9, 0.5, 0.6, 0.7, 0.1], "val/loss") == [1, 2, 3, 4]


def test_a_gain_below_min_delta_is_no_improvement(toy: Toy) -> None:
    state = toy.state(epochs=50)
    assert feed(state, EarlyStopping(patience=2, min_delta=0.05), [0.50, 0.54, 0.549, 0.56, 0.9]) == [1, 2, 3]
    state = toy.state(epochs=50)
    assert feed(state, EarlyStopping(patience=2, min_delta=0.05), [0.50, 0.54, 0.56, 0.58, 0.60]) == [1, 2, 3, 4, 5]


def test_before_min_epochs_nothing_stops_but_the_best_already_counts(toy: Toy) -> None:
    state, rule = toy.state(epochs=50), EarlyStopping(patience=2, min_epochs=6)
    assert feed(state, rule, [0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]) == [1, 2, 3, 4, 5, 6]
    assert rule.best_epoch == 1


def test_epochs_without_validation_do_not_count(toy: Toy) -> None:
    state, rule = toy.state(epochs=50), EarlyStopping(patience=1)
    feed(state, rule, [0.5])
    for _ in range(3):
        state.finish_epoch({"train/loss": 1.0})
        rule.on_epoch_end(state, state.scores)
    assert state.stop_reason is None


def test_a_score_that_never_has_a_value_stops_with_words_that_say_so(toy: Toy) -> None:
    state = toy.state(epochs=50)
    assert feed(state, EarlyStopping(patience=2), [math.nan] * 5) == [1, 2]
    assert state.stop_reason == "early stopping: val/iou never had a value, 2 validated epochs without improvement"


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_patience_and_best_survive_a_resume(toy: Toy, cut: int) -> None:
    scores = [0.1, 0.3, 0.2, 0.3, 0.29, 0.9]
    state, rule = toy.state(epochs=50), EarlyStopping(patience=3)
    feed(state, rule, scores[:cut])
    again = EarlyStopping(patience=3)
    again.load_state_dict(rule.state_dict())
    assert feed(state, again, scores[cut:]) == list(range(cut + 1, 6))
    assert again.best == 0.3


def test_a_run_that_stopped_early_stays_stopped_when_resumed_unless_patience_is_raised(toy: Toy) -> None:
    rule = EarlyStopping(patience=1)
    feed(toy.state(epochs=50), rule, [0.5, 0.4])
    for patience, stopped in ((1, True), (2, False)):
        state, again = toy.state(epochs=50), EarlyStopping(patience=patience)
        state.epoch = 2
        again.load_state_dict(rule.state_dict())
        again.on_train_begin(state)
        assert (state.stop_reason is not None) == stopped
