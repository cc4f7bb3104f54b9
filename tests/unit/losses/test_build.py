from __future__ import annotations

import pytest

from maskwright.config.loss import CombinedLossConfig, RegressionLossConfig
from maskwright.errors import ConfigError
from maskwright.losses import build_learned_weights, build_loss, build_loss_schedule, build_term
from maskwright.losses.composite import CombinedLoss
from maskwright.losses.weight_schedules import SCHEDULES


def test_every_setting_reaches_the_loss() -> None:
    config = CombinedLossConfig(
        bce=0.6, dice=0.3, focal=0.1, pos_weight=2, label_smoothing=0.05, dice_smooth=3, dice_reduction="batch",
        focal_alpha=0.4, focal_gamma=1.5,
    )  # fmt: skip
    loss = build_loss(config)
    assert isinstance(loss, CombinedLoss)
    assert loss.terms == {"bce": 0.6, "dice": 0.3, "focal": 0.1}
    assert (loss.pos_weight, loss.label_smoothing, loss.dice_smooth) == (2, 0.05, 3)
    assert (loss.dice_reduction, loss.focal_alpha, loss.focal_gamma) == ("batch", 0.4, 1.5)


def test_weights_are_normalised_or_taken_raw_as_asked() -> None:
    parts = {"bce": 1.0, "dice": 2.0, "focal": 1.0}
    assert build_loss(CombinedLossConfig(**parts, weights="raw")).terms == parts
    normalised = build_loss(CombinedLossConfig(**parts, weights="normalize")).terms
    assert normalised == pytest.approx({"bce": 0.25, "dice": 0.5, "focal": 0.25})


def test_settings_of_the_other_terms_reach_them() -> None:
    config = CombinedLossConfig(
        bce=0, dice=0, focal=0, jaccard=0.2, tversky=0.2, lovasz=0.2, boundary=0.1, cldice=0.1, overlap_smooth=3,
        overlap_reduction="batch", tversky_alpha=0.6, tversky_beta=0.5, lovasz_form="sigmoid", boundary_width_px=5,
        boundary_tolerance_px=7, cldice_iterations=2, balanced_bce=0.2, balanced_bce_cap=4,
    )  # fmt: skip
    loss = build_loss(config)
    assert set(loss.terms) == {"jaccard", "tversky", "lovasz", "boundary", "cldice", "balanced_bce"}
    options = {name: loss.functions[name].options for name in loss.terms}
    assert options["jaccard"] == {"smooth": 3, "reduction": "batch", "squared_pred": False}
    assert options["tversky"] == {"smooth": 3, "reduction": "batch", "alpha": 0.6, "beta": 0.5}
    assert options["lovasz"] == {"form": "sigmoid", "reduction": "batch"}
    assert options["boundary"] == {"smooth": 3, "width_px": 5, "tolerance_px": 7}
    assert options["balanced_bce"] == {"cap": 4}
    assert options["cldice"] == {"smooth": 3, "iterations": 2}
    assert not loss.adds_up


def test_the_defaults_of_settings_and_of_losses_are_the_same() -> None:
    loss = build_loss(CombinedLossConfig())
    assert loss.adds_up
    assert all(term.options == build_term(name).options for name, term in loss.functions.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"bce": 0, "dice": 0, "focal": 0},
            "bce, dice, focal, jaccard, tversky, lovasz, boundary, cldice, balanced_bce and likelihood are all 0",
        ),
        ({"jaccard": 0.5}, "bce . dice . focal . jaccard = 1.5, but must be 1"),
        ({"boundary_width_px": 4}, "boundary_width_px is 4, but must be odd"),
        ({"boundary_tolerance_px": 2}, "boundary_tolerance_px is 2, but must be odd"),
        ({"tversky_alpha": 0, "tversky_beta": 0}, "tversky_alpha and tversky_beta are both 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CombinedLossConfig(**settings)


def test_terms_of_exclusive_classes_keep_the_names_of_the_settings() -> None:
    config = CombinedLossConfig(
        bce=0.3, dice=0.3, focal=0.2, lovasz=0.1, tversky=0.1, class_weights=(1, 2), label_smoothing=0.1, focal_gamma=3,
    )  # fmt: skip
    loss = build_loss(config, takes="classes")
    assert loss.takes == "classes"
    assert {name: loss.functions[name].known for name in loss.terms} == {
        "bce": "cross_entropy",
        "dice": "class_dice",
        "focal": "class_focal",
        "lovasz": "lovasz_softmax",
        "tversky": "class_tversky",
    }
    assert loss.functions["bce"].options == {"class_weights": (1.0, 2.0), "label_smoothing": 0.1}
    assert loss.functions["focal"].options == {"class_weights": (1.0, 2.0), "gamma": 3}


def test_errors_of_heights_are_weighed() -> None:
    loss = build_loss(RegressionLossConfig(absolute=0.25, huber=0.75, huber_beta_m=2.5))
    assert loss.takes == "values"
    assert loss.terms == {"absolute": 0.25, "huber": 0.75}
    assert loss.functions["huber"].options == {"beta": 2.5}


@pytest.mark.parametrize(
    ("config", "takes", "told"),
    [
        (CombinedLossConfig(), "values", "Set loss.kind: regression"),
        (RegressionLossConfig(), "channels", "Set loss.kind: combined"),
        (CombinedLossConfig(cldice=0.5, bce=0), "classes", "loss.cldice: there is no such loss of classes"),
        (CombinedLossConfig(pos_weight=3), "classes", "Set loss.class_weights instead"),
        (CombinedLossConfig(class_weights=(1, 2)), "channels", "Set loss.pos_weight instead"),
        (CombinedLossConfig(pos_weight="auto"), "channels", "loss.pos_weight: auto is measured"),
    ],
)
def test_what_does_not_go_with_the_target_is_refused(config: CombinedLossConfig, takes: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build_loss(config, takes=takes)


def test_measured_weights_make_both_sides_count_alike() -> None:
    config = CombinedLossConfig(pos_weight="auto")
    assert build_loss(config, class_counts=[80, 20]).pos_weight == 4
    assert build_loss(config, class_counts=[1000, 1]).pos_weight == 10
    # two labels on 100 pixels: 30 of 200 answers are yes
    assert build_loss(config, class_counts=[20, 10, 100]).pos_weight == pytest.approx(170 / 30)


def test_a_schedule_and_learned_factors_come_only_where_they_are_asked_for() -> None:
    still = CombinedLossConfig()
    assert build_loss_schedule(still, build_loss(still)) is None
    assert build_learned_weights(still, build_loss(still)) is None
    config = CombinedLossConfig(schedule={"kind": "step", "step_size": 2, "lead": "bce"})
    schedule = build_loss_schedule(config, build_loss(config))
    assert schedule is not None
    assert (schedule.kind, schedule.lead) == ("step", "bce")
    assert schedule.params == {"step_size": 2, "weight_step": 0.1, "max_weight": 0.9}
    learned = CombinedLossConfig(learn_weights=True)
    module = build_learned_weights(learned, build_loss(learned))
    assert module is not None
    assert module.names == ("bce", "dice", "focal")


@pytest.mark.parametrize("kind", ["adaptive", "cosine", "step", "performance"])
def test_every_schedule_of_the_settings_has_the_defaults_of_its_rule(kind: str) -> None:
    config = CombinedLossConfig(schedule={"kind": kind})
    schedule = build_loss_schedule(config, build_loss(config))
    assert schedule is not None
    defaults = SCHEDULES[kind].__kwdefaults__ or {}
    assert schedule.params == defaults
    assert schedule.lead == "dice"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dice": 0, "bce": 1, "focal": 0, "schedule": {"kind": "step"}}, "bce is the only one"),
        ({"schedule": {"kind": "step", "lead": "lovasz"}}, "lovasz has no weight"),
        ({"schedule": {"kind": "cosine", "min_weight": 0.8, "max_weight": 0.6}}, "min_weight: 0.8 is above max_weight"),
        ({"schedule": {"kind": "step"}, "learn_weights": True}, "learn_weights moves the weights as well"),
    ],
)
def test_schedules_that_cannot_move_anything_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        CombinedLossConfig(**settings)
