from __future__ import annotations

import pytest
import torch

from maskwright.errors import ConfigError, ShapeError
from maskwright.losses import composite
from maskwright.losses.composite import CombinedLoss
from maskwright.losses.loops import ComboLoss, LoopLoss
from maskwright.losses.overlap import dice_loss
from maskwright.losses.pixel import bce_sum, focal_sum
from maskwright.losses.terms import Term, build_term

FACTORS = {"bce": 0.5, "dice": 0.3, "focal": 0.2}
ALL = torch.ones(2, 6, 6, dtype=torch.bool)


def batch(samples: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, 2, 6, 6, generator=generator, dtype=torch.float64)
    target = (torch.rand(samples, 2, 6, 6, generator=generator) < 0.4).double()
    valid = torch.rand(samples, 6, 6, generator=generator) > 0.3
    valid[-1] = False
    return logits, target, valid


@pytest.mark.parametrize("squared_pred", [False, True])
@pytest.mark.parametrize("cuts", [(5,), (1, 4), (2, 2, 1), (1, 1, 1, 1, 1)])
def test_batches_of_a_group_add_up_to_the_loss_of_one_big_batch(cuts: tuple[int, ...], squared_pred: bool) -> None:
    logits, target, valid = batch()
    loss = CombinedLoss(FACTORS, squared_pred=squared_pred)
    whole = loss(logits.requires_grad_(), target, valid)
    (whole_gradient,) = torch.autograd.grad(whole.total, logits)
    parts = list(zip(logits.split(cuts), target.split(cuts), valid.split(cuts), strict=True))
    measures = [loss.measure(counts, 2) for _, _, counts in parts]
    weights = {name: torch.stack([measure[name] for measure in measures]).sum() for name in measures[0]}
    outputs = [loss(*part, weights) for part in parts]
    total = torch.stack([output.total for output in outputs]).sum()
    torch.testing.assert_close(total, whole.total, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(total, logits)[0], whole_gradient, rtol=1e-12, atol=1e-15)
    for name in FACTORS:
        added = torch.stack([output.terms[name] for output in outputs]).sum()
        torch.testing.assert_close(added, whole.terms[name], rtol=1e-12, atol=0)


def test_measure_counts_pixels_and_samples_by_channel() -> None:
    valid = torch.zeros(3, 2, 2, dtype=torch.bool)
    valid[0, 0] = True
    valid[1] = True
    measure = CombinedLoss(FACTORS).measure(valid, channels=4)
    assert {name: weight.item() for name, weight in measure.items()} == {"pixels": 24, "samples": 8}
    assert all(weight.dtype == torch.float64 for weight in measure.values())


def test_terms_are_means_and_the_total_is_their_weighted_sum() -> None:
    logits, target, _ = batch(2)
    output = CombinedLoss(FACTORS)(logits, target, ALL)
    torch.testing.assert_close(output.terms["bce"], bce_sum(logits, target, ALL) / 144)
    torch.testing.assert_close(output.terms["dice"], dice_loss(logits, target, ALL).mean())
    torch.testing.assert_close(output.terms["focal"], focal_sum(logits, target, ALL) / 144)
    expected = sum(factor * output.terms[name] for name, factor in FACTORS.items())
    torch.testing.assert_close(output.total, torch.as_tensor(expected))
    assert not any(term.requires_grad for term in output.terms.values())


def test_a_term_of_factor_0_is_left_out() -> None:
    logits, target, _ = batch(2)
    assert list(CombinedLoss({"bce": 1.0, "dice": 0.0})(logits, target, ALL).terms) == ["bce"]


def test_unknown_and_senseless_terms_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown term 'dise'. Available: bce, dice, focal."):
        CombinedLoss({"dise": 1.0})
    with pytest.raises(ConfigError, match="must be 0 or more, and one of them above 0"):
        CombinedLoss({"bce": 0.0})
    with pytest.raises(ConfigError, match="must be 0 or more"):
        CombinedLoss({"bce": 1.0, "dice": -0.1})


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="alike"):
        CombinedLoss(FACTORS)(torch.zeros(2, 1, 6, 6), torch.zeros(2, 2, 6, 6), ALL)


@pytest.mark.parametrize("weights", [(0.7, 0.2, 0.1), (0.4, 0.4, 0.2), (1.0, 0.0, 0.0), (1 / 3, 1 / 3, 1 / 3)])
def test_weights_that_add_up_to_1_are_accepted(weights: tuple[float, float, float]) -> None:
    ComboLoss(*weights)


def test_weights_that_do_not_add_up_to_1_are_refused_with_their_sum() -> None:
    with pytest.raises(ConfigError, match=r"bce_weight \+ dice_weight \+ focal_weight = 1.7, but must be 1"):
        ComboLoss(0.5, 0.3, 0.9)
    with pytest.raises(ConfigError, match="must be 1"):
        ComboLoss(0.5, 0.3, 0.2 + 2e-6)


def test_combo_loss_gives_the_loss_and_its_parts() -> None:
    logits, target, valid = batch(2)
    logits.requires_grad_()
    mask = target.to(torch.uint8).masked_fill(~valid[:, None], 255)
    loss, parts = ComboLoss()(logits, mask)
    expected = CombinedLoss(FACTORS)(logits, target, valid)
    assert list(parts) == ["bce", "dice", "focal", "total"]
    torch.testing.assert_close(loss, expected.total)
    torch.testing.assert_close(parts["total"], expected.total.detach())
    assert loss.requires_grad
    assert not parts["total"].requires_grad


def test_combo_loss_of_a_perfect_prediction_is_nearly_zero() -> None:
    """Probabilities taken for logits would make this 0.37."""
    _, target, _ = batch(2)
    loss, _ = ComboLoss()((target * 2 - 1) * 20, target)
    assert loss.item() < 1e-3


EVERY = {"bce": 0.3, "dice": 0.2, "focal": 0.1, "jaccard": 0.1, "tversky": 0.1, "lovasz": 0.05, "boundary": 0.1,
         "cldice": 0.05, "balanced_bce": 0.1}  # fmt: skip


def test_the_shared_sweep_beside_other_terms_equals_the_formulas_as_written() -> None:
    logits, target, valid = batch()
    logits.requires_grad_()
    loss = CombinedLoss(EVERY, pos_weight=2.0, label_smoothing=0.1)
    swept = loss(logits, target, valid)
    values = loss.values(logits, target, valid)
    total = torch.stack([EVERY[name] * value for name, value in values.items()]).sum()
    torch.testing.assert_close(swept.total, total, rtol=1e-7, atol=0)
    gradients = [torch.autograd.grad(each, logits)[0] for each in (swept.total, total)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-12)
    assert list(swept.terms) == list(EVERY)
    for name, value in values.items():
        torch.testing.assert_close(swept.terms[name], value.detach(), rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("functions", "seats"),
    [
        ({}, {"bce": 1, "dice": 1, "focal": 1}),
        ({"bce": build_term("focal", alpha=0.3)}, {"dice": 1, "focal": 1}),  # the second focal goes by its formula
        ({"dice": build_term("jaccard")}, {"bce": 1, "focal": 1}),
        ({"dice": build_term("dice", squared_pred=True)}, {"bce": 1, "focal": 1}),
        ({"focal": build_term("focal", alpha=None)}, {"bce": 1, "dice": 1}),
    ],
)
def test_terms_share_a_sweep_whatever_their_names_where_it_knows_them(
    functions: dict[str, Term], seats: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def spy(*args: object) -> object:
        options = args[3]
        taken.append({name for name in ("bce", "dice", "focal") if getattr(options, name) > 0})
        return sweep(*args)  # type: ignore[arg-type]

    sweep = composite.fused_loss
    monkeypatch.setattr(composite, "fused_loss", spy)
    logits, target, valid = batch()
    loss = CombinedLoss(FACTORS, functions=functions)
    output = loss(logits, target, valid)
    assert taken == [set(seats)]
    for name, value in loss.values(logits, target, valid).items():
        torch.testing.assert_close(output.terms[name], value, rtol=1e-7, atol=0)


def test_modes_check_divide_or_take_as_given() -> None:
    terms = {"bce": 1.0, "dice": 3.0}
    assert CombinedLoss(terms, mode="raw").terms == terms
    assert CombinedLoss(terms, mode="normalize").terms == {"bce": 0.25, "dice": 0.75}
    with pytest.raises(ConfigError, match=r"bce \+ dice = 4, but must be 1"):
        CombinedLoss(terms, mode="strict")
    with pytest.raises(ConfigError, match="mode 'sum' is none of strict, normalize, raw"):
        CombinedLoss(terms, mode="sum")  # type: ignore[arg-type]


def test_weights_are_updated_for_some_terms_and_the_others_keep_theirs() -> None:
    loss = CombinedLoss({"bce": 0.5, "dice": 0.3, "jaccard": 0.2})
    loss.update_weights({"jaccard": 1.2}, "raw")
    assert loss.terms == {"bce": 0.5, "dice": 0.3, "jaccard": 1.2}
    loss.update_weights({"bce": 0.0})
    assert loss.terms == pytest.approx({"dice": 0.2, "jaccard": 0.8})
    loss.update_weights({"bce": 1.0}, "raw")
    assert list(loss.terms) == ["bce", "dice", "jaccard"]
    logits, target, _ = batch(2)
    assert list(loss(logits, target, ALL).terms) == ["bce", "dice", "jaccard"]


def test_a_senseless_update_changes_nothing() -> None:
    loss = CombinedLoss({"bce": 0.5, "dice": 0.5})
    for weights, mode in (({"focal": 1.0}, "raw"), ({"bce": -1.0}, "raw"), ({"bce": 0.6}, "strict")):
        with pytest.raises(ConfigError):
            loss.update_weights(weights, mode)  # type: ignore[arg-type]
    assert loss.terms == {"bce": 0.5, "dice": 0.5}


def test_every_sample_and_channel_is_weighted_by_its_own() -> None:
    logits, target, valid = batch(3)
    valid[-1] = True
    weights = torch.tensor([[1.0, 2.0], [0.0, 0.5], [3.0, 1.0]])
    output = CombinedLoss(EVERY)(logits, target, valid, None, weights)
    measure = CombinedLoss(EVERY).measure(valid, 2)
    expected = 0.0
    for sample in range(3):
        for channel in range(2):
            one = slice(sample, sample + 1), slice(channel, channel + 1)
            alone = CombinedLoss(EVERY)(logits[one], target[one], valid[one[0]], measure).total
            expected += weights[sample, channel].item() * alone.item()
    assert output.total.item() == pytest.approx(expected, rel=1e-6)


def test_sample_weights_of_1_change_nothing_and_of_another_shape_are_refused() -> None:
    logits, target, valid = batch(3)
    loss = CombinedLoss(EVERY)
    torch.testing.assert_close(
        loss(logits, target, valid, None, torch.ones(3, 1)).total, loss(logits, target, valid).total, rtol=1e-7, atol=0
    )
    with pytest.raises(ShapeError, match=r"sample_weights are \(2, 1\), the loss has \(3, 2\)"):
        loss(logits, target, valid, None, torch.ones(2, 1))


def test_components_are_told_in_one_pass_and_the_total_can_be_trained_on() -> None:
    logits, target, _ = batch(2)
    logits.requires_grad_()
    calls = []

    def own(logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        calls.append(len(logits))
        return (logits - target).square().sum((2, 3))

    loss = LoopLoss(CombinedLoss({"dice": 0.75, "own": 0.25}, functions={"own": Term(own, "pixels")}))
    told = loss.get_loss_components(logits, target)
    assert calls == [2]
    assert list(told) == [
        "dice_loss", "dice_weight", "dice_weighted", "own_loss", "own_weight", "own_weighted", "total_loss"
    ]  # fmt: skip
    assert told["own_weight"] == 0.25
    torch.testing.assert_close(told["own_weighted"], 0.25 * (logits - target).square().mean().detach())
    torch.testing.assert_close(told["total_loss"], told["dice_weighted"] + told["own_weighted"])
    torch.testing.assert_close(told["total_loss"], loss(logits, target))
    told["total_loss"].backward()  # type: ignore[union-attr]
    assert torch.count_nonzero(logits.grad) == logits.numel()  # type: ignore[arg-type]


def test_a_loop_loss_reads_what_does_not_count_from_the_target() -> None:
    logits = torch.randn(2, 3, 4, 4)
    classes = torch.randint(0, 3, (2, 4, 4))
    kept = torch.rand(2, 4, 4) > 0.3
    loss = LoopLoss(CombinedLoss({"cross_entropy": 0.5, "class_dice": 0.3, "lovasz_softmax": 0.2}))
    expected = loss.loss(logits, classes, kept).total
    torch.testing.assert_close(loss(logits, classes.masked_fill(~kept, 255)), expected)
    numbers = torch.randn(2, 3, 4, 4)
    loss = LoopLoss(CombinedLoss({"huber": 1.0}))
    expected = loss.loss(logits, numbers, kept).total
    torch.testing.assert_close(loss(logits, numbers.masked_fill(~kept[:, None], torch.nan)), expected)
