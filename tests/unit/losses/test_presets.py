from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from maskwright.errors import ConfigError
from maskwright.losses.composite import CombinedLoss
from maskwright.losses.pixel import focal_sum
from maskwright.losses.presets import (
    FOCUSES,
    LOSS_PRESETS,
    CombinedFocalDiceLoss,
    LossManager,
    combine_losses,
    get_loss_function,
    get_preset_loss_config,
    loss_config_for_data,
    loss_config_for_focus,
)
from maskwright.losses.terms import available_terms, build_term

ALL = torch.ones(2, 6, 5, dtype=torch.bool)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 6, 5, generator=generator), (torch.rand(2, 1, 6, 5, generator=generator) < 0.4).float()


def value(loss: CombinedLoss) -> torch.Tensor:
    total: torch.Tensor = loss(*batch(), ALL).total
    return total


@pytest.mark.parametrize(
    ("name", "terms", "options"),
    [
        ("forestgaps_combo", {"bce": 0.5, "dice": 0.3, "focal": 0.2}, {}),
        ("focal_dice", {"focal": 0.5, "dice": 0.5}, {"focal_alpha": 0.5}),
        ("default_segmentation", {"dice": 0.7, "bce": 0.3}, {}),
        ("focal_segmentation", {"dice": 0.6, "bce": 0.4}, {"functions": {"bce": build_term("focal", alpha=0.25)}}),
        ("balanced_segmentation", {"dice": 0.5, "bce": 0.5}, {}),
        ("dice_focused", {"dice": 0.8, "bce": 0.2}, {"squared_pred": True}),
        ("jaccard_based", {"dice": 0.7, "bce": 0.3}, {"functions": {"dice": build_term("jaccard")}}),
        ("defect_combined", {"dice": 0.5, "bce": 0.3, "focal": 0.2}, {}),
    ],
)
def test_a_preset_is_the_combination_it_says(name: str, terms: dict[str, float], options: dict[str, Any]) -> None:
    loss = LossManager.create_loss_function(get_preset_loss_config(name))
    assert loss.weights == pytest.approx(terms)
    torch.testing.assert_close(loss(*batch()), value(CombinedLoss(terms, **options)))


def test_changing_a_preset_changes_no_other_copy() -> None:
    before = copy.deepcopy(LOSS_PRESETS)
    config = get_preset_loss_config("focal_segmentation")
    config["bce_config"]["gamma"] = 99
    config["dice_weight"] = 0
    loss_config_for_focus("recall")["tversky_config"]["alpha"] = 99
    assert get_preset_loss_config("focal_segmentation") == before["focal_segmentation"]
    assert loss_config_for_focus("recall")["tversky_config"]["alpha"] == 0.3
    with pytest.raises(ConfigError, match=r"loss preset 'best' is unknown. Available: forestgaps_combo, focal_dice"):
        get_preset_loss_config("best")


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({}, {"dice": 0.7, "bce": 0.3}),
        ({"type": "mixed", "dice_weight": 2, "bce_weight": 2}, {"dice": 0.5, "bce": 0.5}),
        ({"dice_weight": 2, "bce_weight": 2, "normalize_weights": False}, {"dice": 2, "bce": 2}),
        ({"dice_weight": 1, "lovasz_weight": 3, "scheduler": {"type": "step"}}, {"dice": 0.25, "lovasz": 0.75}),
        ({"type": "combo"}, {"bce": 0.5, "dice": 0.3, "focal": 0.2}),
        ({"type": "combined_focal_dice"}, {"focal": 0.5, "dice": 0.5}),
        ({"type": "IoU"}, {"jaccard": 1}),
        ({"type": "huber", "huber_config": {"beta": 2}}, {"huber": 1}),
    ],
)
def test_settings_become_weights(config: dict[str, Any], weights: dict[str, float]) -> None:
    assert LossManager.create_loss_function(config).weights == pytest.approx(weights)


def test_options_of_settings_reach_the_terms() -> None:
    config = {"type": "combined", "dice_config": {"smooth": 3.0, "jaccard": True}, "bce_config": {"pos_weight": 2.0}}
    functions = LossManager.create_loss_function(config).loss.functions
    assert (functions["dice"].known, functions["dice"].options["smooth"]) == ("jaccard", 3.0)
    assert functions["bce"].options["pos_weight"] == 2.0
    loss = LossManager.create_loss_function({"type": "bce", "bce_config": {"gamma": 2.0}})
    logits, target = batch()
    torch.testing.assert_close(loss(logits, target), focal_sum(logits, target, ALL, alpha=None, gamma=2.0) / 60)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "dise"}, "loss type 'dise' is unknown. Available: combined, combo, focal_dice, bce"),
        ({"dice_wieght": 1}, "unknown setting 'dice_wieght'. Available: type, weights"),
        ({"type": "dice", "bce_weight": 1}, "type 'dice' is one term; bce_weight belongs to combined"),
        ({"focal_config": {"gamma": 1}}, "focal_config is given, but the loss has no term 'focal'"),
        ({"dice_config": {"smoth": 1}}, "term 'dice' has no option 'smoth'"),
        ({"bce_config": {"gamma": 2, "pos_weight": 3}}, "pos_weight does not go with gamma or alpha"),
        ({"bce_config": {"gamma": 2, "label_smoothing": 0.1}}, "label_smoothing does not go with gamma or alpha"),
        ({"dice_weight": -1}, "must be 0 or more"),
        ({"dice_weight": "half"}, "dice_weight is 'half', but must be a number"),
        ({"dice_config": 3}, "dice_config is 3, but must hold options by name"),
        ({"dice_weight": 0.5, "bce_weight": 0.3, "weights": "strict"}, "but must be 1"),
        ({"weights": "raw", "normalize_weights": True}, "say the same thing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LossManager.create_loss_function(config)


def test_a_schedule_is_made_from_the_settings_of_the_loss() -> None:
    config = {
        **get_preset_loss_config("default_segmentation"),
        "scheduler": {"type": "step", "params": {"step_size": 1}},
    }
    loss = LossManager.create_loss_function(config)
    scheduler = LossManager.create_loss_scheduler(loss, config)
    scheduler.step(1)
    assert loss.weights == pytest.approx({"dice": 0.8, "bce": 0.2})
    with pytest.raises(ConfigError, match="unknown setting 'step_size'"):
        LossManager.create_loss_scheduler(loss, {"type": "step", "step_size": 1})


def test_a_loss_by_name_ignores_weights_that_are_of_no_consequence_and_nothing_else() -> None:
    options = {"dice_weight": 0.5, "bce_weight": 0.5, "focal_weight": 0.0}
    torch.testing.assert_close(get_loss_function("Dice", **options)(*batch()), value(CombinedLoss({"dice": 1.0})))
    assert get_loss_function("combined", **options).weights == {"dice": 0.5, "bce": 0.5}
    assert get_loss_function("combined").weights == {"dice": 0.5, "bce": 0.3, "focal": 0.2}
    assert get_loss_function("iou", smooth=2.0).loss.functions["jaccard"].options["smooth"] == 2.0
    with pytest.raises(ConfigError, match="'dice' has no option 'alpha'"):
        get_loss_function("dice", alpha=0.5)
    with pytest.raises(ConfigError, match="'dice' has no option 'dise_weight'"):
        get_loss_function("dice", dise_weight=0.5)
    with pytest.raises(ConfigError, match="'combined' has no option 'alpha'"):
        get_loss_function("combined", alpha=0.5)
    with pytest.raises(ConfigError, match=r"loss 'dise' is unknown. Available: combined, bce, dice"):
        get_loss_function("dise")


@pytest.mark.parametrize("name", available_terms())
def test_every_term_is_found_by_its_name(name: str) -> None:
    assert get_loss_function(name, dice_weight=0.5).weights == {name: 1.0}


def test_losses_are_combined_under_names_of_ones_own() -> None:
    loss = combine_losses({"wide": build_term("dice", smooth=9.0), "sharp": "dice"}, {"wide": 1, "sharp": 3})
    assert loss.weights == {"wide": 0.25, "sharp": 0.75}
    wide, sharp = (value(CombinedLoss({"dice": 1.0}, dice_smooth=smooth)) for smooth in (9.0, 1.0))
    torch.testing.assert_close(loss(*batch()), 0.25 * wide + 0.75 * sharp)
    with pytest.raises(ConfigError, match=r"weight 'sharp' has no loss. Losses: wide"):
        combine_losses({"wide": "dice"}, {"wide": 1, "sharp": 3})


@pytest.mark.parametrize("focus", [*FOCUSES, "class_imbalanced"])
def test_every_focus_builds_a_loss_whose_weights_add_up_to_1(focus: str) -> None:
    config = loss_config_for_focus(focus)
    assert sum(weight for key, weight in config.items() if key.endswith("_weight")) == pytest.approx(1)
    assert torch.isfinite(LossManager.create_loss_function(config)(*batch()))


def test_recall_charges_misses_more_and_precision_false_alarms() -> None:
    target = torch.zeros(1, 1, 10, 10)
    target[..., :5] = 1
    missed, alarmed = target.clone(), target.clone()
    missed[..., 3:5], alarmed[..., 5:7] = 0, 1
    costs = {
        focus: [
            LossManager.create_loss_function(loss_config_for_focus(focus))((area * 2 - 1) * 9, target).item()
            for area in (missed, alarmed)
        ]
        for focus in ("recall", "precision")
    }
    assert costs["recall"][0] > costs["recall"][1]
    assert costs["precision"][0] < costs["precision"][1]


@pytest.mark.parametrize(
    ("shares", "focus"),
    [
        ({"positive_share": 0.04}, "imbalance"),
        ({"positive_share": 0.04, "boundary_share": 0.5}, "imbalance"),
        ({"positive_share": 0.3, "object_share": 0.01, "boundary_share": 0.5}, "recall"),
        ({"positive_share": 0.3, "object_share": 0.2, "boundary_share": 0.11}, "boundary"),
        ({"positive_share": 0.05, "object_share": 0.05, "boundary_share": 0.1}, "balanced"),
    ],
)
def test_data_choose_the_loss(shares: dict[str, float], focus: str) -> None:
    assert loss_config_for_data(**shares) == FOCUSES[focus]  # type: ignore[arg-type]


def test_senseless_shares_and_focuses_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"object_share is 3, but a share must be in 0..1"):
        loss_config_for_data(0.1, object_share=3)
    with pytest.raises(ConfigError, match=r"loss focus 'speed' is unknown. Available: balanced, recall"):
        loss_config_for_focus("speed")


def test_focal_dice_mixes_and_weighs_classes_with_the_same_alpha_unless_told() -> None:
    logits, target = batch()
    parts = {"focal": 0.3, "dice": 0.7}
    torch.testing.assert_close(
        CombinedFocalDiceLoss(alpha=0.3)(logits, target), value(CombinedLoss(parts, focal_alpha=0.3))
    )
    torch.testing.assert_close(
        CombinedFocalDiceLoss(alpha=0.3, class_alpha=0.25)(logits, target),
        value(CombinedLoss(parts, focal_alpha=0.25)),
    )


def test_focal_dice_of_probabilities_equals_that_of_their_logits() -> None:
    logits, target = batch()
    loss = CombinedFocalDiceLoss(from_logits=False)
    torch.testing.assert_close(loss(torch.sigmoid(logits), target), CombinedFocalDiceLoss()(logits, target))
    assert torch.isfinite(loss(target, 1 - target))


def test_focal_dice_weighs_each_sample_by_its_own_height_and_not_by_the_mean_of_the_batch() -> None:
    logits, target = batch()
    weighted = CombinedFocalDiceLoss(threshold_weights={5.0: 3.0, 20.0: 0.5})
    plain = CombinedFocalDiceLoss()
    each = [plain(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(weighted(logits, target, torch.tensor([5.0, 19.0])), (3 * each[0] + 0.5 * each[1]) / 2)
    with pytest.raises(ConfigError, match="give it the heights of the samples"):
        weighted(logits, target)
