from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from maskwright.errors import ConfigError
from maskwright.losses.composite import CombinedLoss
from maskwright.losses.loops import LoopLoss
from maskwright.losses.presets import LossManager
from maskwright.losses.weight_schedules import SCHEDULE_PRESETS, LossScheduler, get_preset_schedule_config


def two(dice: float = 0.7) -> LoopLoss:
    return LoopLoss(CombinedLoss({"dice": dice, "bce": 1 - dice}))


def trace(kind: str, scores: Sequence[float | None], loss: LoopLoss | None = None, **params: float) -> list[float]:
    """The Dice weight after each epoch; checks that the other weight is the rest."""
    loss = loss or two()
    scheduler = LossScheduler(loss, kind, **params)
    weights = []
    for epoch, score in enumerate(scores):
        told = scheduler.step(epoch, {} if score is None else {"val_dice": score})
        assert loss.weights == pytest.approx(told)
        assert sum(told.values()) == pytest.approx(1)
        weights.append(told["dice"])
    return weights


def test_adaptive_rises_while_the_score_is_high_and_falls_while_it_is_low() -> None:
    assert trace("adaptive", [0.85] * 4) == pytest.approx([0.77, 0.847, 0.9, 0.9])
    assert trace("adaptive", [0.3] * 5) == pytest.approx([0.63, 0.567, 0.5103, 0.5, 0.5])


def test_adaptive_stays_between_the_limits_and_without_a_score() -> None:
    assert trace("adaptive", [0.8, 0.4, 0.6, None, float("nan")]) == pytest.approx([0.7] * 5)


def test_cosine_goes_from_the_highest_to_the_lowest_and_stays_there() -> None:
    weights = trace("cosine", [None] * 131)
    assert [weights[epoch] for epoch in (0, 50, 100, 130)] == pytest.approx([0.9, 0.7, 0.5, 0.5])


def test_step_rises_every_so_many_epochs_but_not_in_the_first() -> None:
    assert trace("step", [None] * 6, step_size=2) == pytest.approx([0.7, 0.7, 0.8, 0.8, 0.9, 0.9])


def test_performance_falls_from_the_third_epoch_on_while_the_score_falls() -> None:
    falling = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    assert trace("performance", falling) == pytest.approx([0.7, 0.7, 0.65, 0.6, 0.55, 0.5, 0.5])


def test_performance_looks_at_the_epoch_before_and_forgives_a_small_drop() -> None:
    assert trace("performance", [0.5, 0.5, 0.495, 0.6, 0.5, 0.6]) == pytest.approx([0.7, 0.7, 0.7, 0.7, 0.65, 0.65])


def test_other_terms_divide_the_rest_as_they_did_at_the_start_and_the_sum_stays() -> None:
    loss = LoopLoss(CombinedLoss({"dice": 1.4, "bce": 0.4, "focal": 0.2}))
    weights = LossScheduler(loss, "adaptive").step(0, {"val/dice": 0.9})
    assert weights == pytest.approx({"dice": 1.54, "bce": 0.46 * 2 / 3, "focal": 0.46 / 3})
    assert loss.weights == pytest.approx(weights)


def test_the_lead_may_be_named_and_is_the_first_term_without_dice() -> None:
    loss = LoopLoss(CombinedLoss({"bce": 0.4, "jaccard": 0.6}))
    assert LossScheduler(loss, "cosine").step(0)["bce"] == pytest.approx(0.9)
    assert LossScheduler(loss, "cosine", lead="jaccard").step(0)["jaccard"] == pytest.approx(0.9)


def test_history_keeps_epoch_weights_and_metrics() -> None:
    scheduler = LossScheduler(two(), "adaptive")
    scheduler.step(0, {"val_dice": 0.9, "val_loss": 0.2})
    assert scheduler.history == [
        {
            "epoch": 0,
            "weights": pytest.approx({"dice": 0.77, "bce": 0.23}),
            "metrics": {"val_dice": 0.9, "val_loss": 0.2},
        }
    ]


@pytest.mark.parametrize("kind", ["adaptive", "cosine", "step", "performance"])
def test_a_resumed_schedule_goes_on_as_if_never_interrupted(kind: str) -> None:
    scores = [0.9, 0.85, 0.7, 0.3, 0.35, 0.2]
    whole = LossScheduler(two(), kind)
    expected = [whole.step(epoch, {"val_dice": score}) for epoch, score in enumerate(scores)]
    first = LossScheduler(two(), kind)
    for epoch in range(3):
        first.step(epoch, {"val_dice": scores[epoch]})
    state = json.loads(json.dumps(first.state_dict()))
    loss = two()
    second = LossScheduler(loss, kind)
    second.load_state_dict(state)
    assert loss.weights == expected[2]
    assert [second.step(epoch, {"val_dice": scores[epoch]}) for epoch in range(3, 6)] == expected[3:]
    assert second.history == whole.history


def test_a_state_of_other_terms_or_of_another_kind_is_refused() -> None:
    state = LossScheduler(two(), "cosine").state_dict()
    with pytest.raises(ConfigError, match="The saved loss schedule is"):
        LossScheduler(two(), "step").load_state_dict(state)


def test_presets_are_copies_and_build() -> None:
    assert list(SCHEDULE_PRESETS) == ["adaptive", "cosine_annealing", "step_increase", "performance_based"]
    get_preset_schedule_config("step_increase")["params"]["weight_step"] = 9
    assert get_preset_schedule_config("step_increase")["params"]["weight_step"] == 0.05
    for name in SCHEDULE_PRESETS:
        scheduler = LossManager.create_loss_scheduler(two(), name)
        assert scheduler.kind == get_preset_schedule_config(name)["type"]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("cosin", {}, "loss schedule 'cosin' is unknown. Available: adaptive, cosine, step, performance"),
        ("step", {"step": 3}, "'step' has no parameter 'step'. Available: step_size, weight_step, max_weight"),
        ("step", {"step_size": 0}, "step_size is 0, but must be at least 1"),
        ("cosine", {"min_weight": 0.95}, "0 <= min_weight 0.95 <= max_weight 0.9 <= 1 must hold"),
        ("cosine", {"lead": "focal"}, "the loss has no term 'focal'. Available: bce, dice"),
    ],
)
def test_senseless_schedules_are_refused(kind: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LossScheduler(two(), kind, **options)  # type: ignore[arg-type]


def test_a_loss_of_one_term_has_nothing_to_schedule() -> None:
    with pytest.raises(ConfigError, match="this loss has dice only"):
        LossScheduler(LoopLoss(CombinedLoss({"dice": 1.0})), "step")
    with pytest.raises(ConfigError, match="preset 'nightly' is unknown"):
        get_preset_schedule_config("nightly")
