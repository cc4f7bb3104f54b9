from __future__ import annotations

import pytest

from maskwright.config.loss import CombinedLossConfig
from maskwright.errors import ConfigError
from maskwright.losses import build_loss, build_term
from maskwright.losses.composite import CombinedLoss


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
            "bce, dice, focal, jaccard, tversky, lovasz, boundary, cldice and balanced_bce are all 0",
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
