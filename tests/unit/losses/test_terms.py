"""Every known term answers the same questions."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import pytest
import torch

from maskwright.errors import ConfigError, ShapeError
from maskwright.losses.composite import CombinedLoss
from maskwright.losses.terms import TERMS, available_terms, build_term

SHAPE = (3, 3, 9, 8)
OF_OVERLAP = ("dice", "jaccard", "tversky", "class_dice", "class_jaccard", "class_tversky")
BATCHED: dict[str, dict[str, Any]] = {name: {"reduction": "batch"} for name in (*OF_OVERLAP, "lovasz")}


def target_of(name: str, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    takes = build_term(name).takes
    if takes == "classes":
        return torch.randint(0, SHAPE[1], (SHAPE[0], *SHAPE[2:]), generator=generator)
    if takes == "values":
        return torch.randn(SHAPE, generator=generator, dtype=torch.float64) * 5
    return (torch.rand(SHAPE, generator=generator) < 0.4).double()


def batch(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    valid = torch.rand(SHAPE[0], *SHAPE[2:], generator=generator) > 0.3
    return logits, target_of(name), valid


def with_gradient(loss: CombinedLoss, logits: torch.Tensor, *rest: torch.Tensor) -> tuple[Any, torch.Tensor]:
    logits = logits.detach().requires_grad_()
    output = loss(logits, *rest)
    output.total.backward()
    assert logits.grad is not None
    return output, logits.grad


@pytest.mark.parametrize("left", [1e4, torch.inf, torch.nan])
@pytest.mark.parametrize("name", [*available_terms(), "bce, dice and focal"])
def test_pixels_that_do_not_count_change_nothing_and_receive_a_gradient_of_exactly_0(name: str, left: float) -> None:
    terms = {"bce": 1.0, "dice": 1.0, "focal": 1.0} if " " in name else {name: 1.0}
    logits, target, valid = batch(next(iter(terms)))
    loss = CombinedLoss(terms, label_smoothing=0.1)
    before, gradient = with_gradient(loss, logits, target, valid)
    everywhere = valid[:, None].expand(SHAPE)
    changed = torch.where(everywhere, logits, torch.where(logits > 0, left, -left))
    shown = valid if target.ndim == 3 else everywhere
    other = 255 if target.ndim == 3 else (torch.nan if loss.takes == "values" else 1 - target)
    after, gradient_after = with_gradient(loss, changed, torch.where(shown, target, other), valid)
    assert torch.equal(before.total, after.total)
    assert torch.equal(gradient, gradient_after)
    assert torch.count_nonzero(gradient[~everywhere]) == 0
    assert torch.count_nonzero(gradient) > 0


@pytest.mark.parametrize("name", available_terms())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("filled", [0, 1])
def test_extreme_logits_and_uniform_targets_stay_finite(
    name: str, dtype: torch.dtype, logit: float, filled: int
) -> None:
    logits = torch.full(SHAPE, logit, dtype=dtype)
    logits[:, 0] = -logits[:, 0]
    valid = torch.ones(SHAPE[0], *SHAPE[2:], dtype=torch.bool)
    output, gradient = with_gradient(CombinedLoss({name: 1.0}), logits, torch.full_like(target_of(name), filled), valid)
    assert torch.isfinite(output.total)
    assert output.total.dtype == torch.float32
    assert output.total >= -1e-6
    assert torch.isfinite(gradient.float()).all()


@pytest.mark.parametrize("name", available_terms())
@pytest.mark.parametrize("logit", [0.3, -1e4, 1e4])
def test_a_batch_of_ignored_pixels_costs_nothing_and_teaches_nothing(name: str, logit: float) -> None:
    valid = torch.zeros(SHAPE[0], *SHAPE[2:], dtype=torch.bool)
    output, gradient = with_gradient(CombinedLoss({name: 1.0}), torch.full(SHAPE, logit), target_of(name), valid)
    assert output.total.item() == 0
    assert torch.count_nonzero(gradient) == 0


@pytest.mark.parametrize("name", available_terms())
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    logits, target, valid = batch(name)
    logits, target, valid = logits[:2, :, :5, :4], target[:2, ..., :5, :4], valid[:2, :5, :4]
    term = build_term(name)
    assert torch.autograd.gradcheck(
        lambda each: term.by_sample(each, target, valid), logits.clone().requires_grad_(), eps=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("cuts", [(1, 2), (2, 1), (1, 1, 1)])
@pytest.mark.parametrize("name", available_terms())
def test_batches_of_a_group_add_up_to_the_loss_of_one_big_batch(name: str, cuts: tuple[int, ...]) -> None:
    logits, target, valid = batch(name)
    valid[1] = False
    loss = CombinedLoss({name: 1.0})
    assert loss.adds_up
    whole = loss(logits, target, valid).total
    total = added(loss, logits, target, valid, cuts)
    torch.testing.assert_close(total, whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", BATCHED)
def test_a_loss_over_the_batch_says_that_grouping_matters_and_it_does(name: str) -> None:
    loss = CombinedLoss({name: 1.0}, functions={name: build_term(name, **BATCHED[name])})
    assert not loss.adds_up
    logits, target, valid = batch(name)
    whole = loss(logits, target, valid).total
    assert not torch.isclose(added(loss, logits, target, valid, (1, 2)), whole, rtol=1e-6)


def added(loss: CombinedLoss, *tensors: Any) -> torch.Tensor:
    *tensors, cuts = tensors  # type: ignore[assignment]
    parts = list(zip(*(tensor.split(cuts) for tensor in tensors), strict=True))
    measures = [loss.measure(valid, SHAPE[1]) for _, _, valid in parts]
    weights = {weight: torch.stack([measure[weight] for measure in measures]).sum() for weight in measures[0]}
    return torch.stack([loss(*part, weights).total for part in parts]).sum()


@pytest.mark.parametrize("name", [*OF_OVERLAP[:3], "lovasz", "boundary", "cldice"])
def test_nothing_to_find_and_nothing_found_costs_about_0(name: str) -> None:
    loss = CombinedLoss({name: 1.0})
    valid = torch.ones(1, 40, 40, dtype=torch.bool)
    assert loss(torch.full((1, 1, 40, 40), -20.0), torch.zeros(1, 1, 40, 40), valid).total.item() < 1e-4


@pytest.mark.parametrize(
    ("name", "options"), [("dice", {}), ("jaccard", {}), ("tversky", {}), ("lovasz", {"form": "sigmoid"})]
)
def test_nothing_to_find_and_everything_painted_costs_about_1(name: str, options: dict[str, Any]) -> None:
    loss = CombinedLoss({name: 1.0}, functions={name: build_term(name, **options)})
    valid = torch.ones(1, 100, 100, dtype=torch.bool)
    total = loss(torch.full((1, 1, 100, 100), 20.0), torch.zeros(1, 1, 100, 100), valid).total
    assert total.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", available_terms())
def test_right_and_sure_costs_less_than_undecided_than_wrong_and_sure(name: str) -> None:
    _, target, valid = batch(name)
    right = target.double()
    if build_term(name).takes == "classes":
        right = torch.nn.functional.one_hot(target, SHAPE[1]).movedim(-1, 1).double()
    if build_term(name).takes != "values":
        right = 2 * right - 1
    costs = [CombinedLoss({name: 1.0})(sure * right, target, valid).total.item() for sure in (1.0, 0.0, -1.0)]
    assert costs[0] < costs[1]
    if name != "boundary":  # an area and what surrounds it share their boundary
        assert costs == sorted(costs)


def test_terms_of_questions_are_listed_with_what_divides_them() -> None:
    assert set(TERMS) == set(available_terms("channels"))
    assert all(build_term(name).weight == weight for name, weight in TERMS.items())


def test_options_reach_the_formula() -> None:
    logits, target, valid = batch("tversky")
    strict, mild = (build_term("tversky", alpha=alpha, beta=0.5) for alpha in (0.9, 0.1))
    assert (strict.by_sample(logits, target, valid) > mild.by_sample(logits, target, valid)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("dise", {}), "unknown term 'dise'. Available: bce, dice, focal, jaccard"),
        (("dice", {"smoth": 1}), "term 'dice' has no option 'smoth'. Available: smooth, reduction, squared_pred."),
        (("class_dice", {"activation": "sigmoid"}), "has no option 'activation'"),
        (("absolute", {"beta": 1}), "has no option 'beta'. It has none."),
        (("dice", {"smooth": 0}), "dice.smooth: 0 must be above 0"),
        (("focal", {"alpha": 1.5}), "focal.alpha: 1.5 must be at least 0 and at most 1"),
        (("bce", {"pos_weight": float("nan")}), "bce.pos_weight: nan must be above 0"),
        (("bce", {"label_smoothing": 0.6}), "at most 0.5"),
        (("huber", {"beta": 0}), "huber.beta: 0 must be above 0"),
        (("dice", {"smooth": "1"}), "dice.smooth: '1' must be a number"),
        (("cldice", {"iterations": 2.5}), "cldice.iterations: 2.5 must be a whole number"),
        (("dice", {"reduction": "tile"}), "dice.reduction: 'tile' is none of sample, batch"),
        (("boundary", {"width_px": 4}), "boundary.width_px: 4 must be odd"),
        (("tversky", {"alpha": 0, "beta": 0}), "tversky.alpha and tversky.beta are both 0"),
        (("cross_entropy", {"class_weights": [1, -1]}), "class_weights: .* must be 0 or more"),
    ],
)
def test_unknown_names_and_senseless_options_are_refused(call: tuple[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        functools.partial(build_term, call[0])(**call[1])


@pytest.mark.parametrize("name", available_terms())
def test_a_loss_can_be_sent_to_another_process(name: str) -> None:
    loss = CombinedLoss({name: 1.0})
    again = pickle.loads(pickle.dumps(loss))
    assert torch.equal(again(*batch(name)).total, loss(*batch(name)).total)


def test_a_term_with_another_kind_of_target_is_refused_beside_the_first() -> None:
    with pytest.raises(ConfigError, match="'dice' takes channels for a target, 'cross_entropy' takes classes"):
        CombinedLoss({"dice": 0.5, "cross_entropy": 0.5})


@pytest.mark.parametrize("name", available_terms())
def test_shapes_that_differ_are_refused_and_never_broadcast(name: str) -> None:
    logits, target, valid = batch(name)
    with pytest.raises(ShapeError):
        CombinedLoss({name: 1.0})(logits, target[:1], valid)
    with pytest.raises(ShapeError):
        CombinedLoss({name: 1.0})(logits, target, valid[:1])


@pytest.mark.parametrize("name", available_terms())
def test_a_mask_that_is_not_bool_is_refused(name: str) -> None:
    logits, target, valid = batch(name)
    with pytest.raises(ShapeError, match=r"valid is torch.float32, but must be torch.bool"):
        CombinedLoss({name: 1.0})(logits, target, valid.float())


@pytest.mark.parametrize("name", available_terms())
def test_every_option_may_be_given_as_its_own_default(name: str) -> None:
    options = dict(build_term(name).options)
    assert build_term(name, **options).options == options
