from __future__ import annotations

import math

import pytest
import torch

from maskwright.errors import ConfigError
from maskwright.losses.balance import HeightWeights, UncertaintyWeights, class_weights, height_weights, pos_weight

REAL_SHARES = {10.0: 0.27, 15.0: 0.36, 20.0: 0.49, 25.0: 0.64, 30.0: 0.80}


def test_rare_gaps_weigh_more_on_real_shares() -> None:
    weights = height_weights(REAL_SHARES)
    inverse = [1 / share for share in REAL_SHARES.values()]
    assert list(weights.values()) == pytest.approx([5 * each / sum(inverse) for each in inverse])
    assert list(weights.values()) == sorted(weights.values(), reverse=True)
    assert len(set(weights.values())) == 5
    assert sum(weights.values()) / 5 == pytest.approx(1)


def test_imbalance_also_raises_heights_where_nearly_everything_is_a_gap() -> None:
    weights = height_weights(REAL_SHARES, rule="imbalance")
    ratios = [0.73 / 0.27, 0.64 / 0.36, 0.51 / 0.49, 0.64 / 0.36, 0.80 / 0.20]
    assert list(weights.values()) == pytest.approx([5 * each / sum(ratios) for each in ratios])


@pytest.mark.parametrize("rule", ["rare_gaps", "imbalance"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_equal_shares_give_equal_weights(share: float, rule: str) -> None:
    weights = height_weights({5.0: share, 10.0: share}, rule=rule)  # type: ignore[arg-type]
    assert list(weights.values()) == pytest.approx([1, 1])


def test_weights_are_capped_at_10() -> None:
    weights = height_weights({2.0: 0.0, 5.0: 0.001, 10.0: 0.4, 15.0: 0.5})
    assert weights[2.0] == weights[5.0] == pytest.approx(10 * weights[15.0])
    assert max(weights.values()) <= 10


def test_senseless_shares_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be in 0..1, one for each height, not \{5.0: 1.2\}"):
        height_weights({5.0: 1.2, 10.0: 0.3})
    with pytest.raises(ConfigError, match=r"cap is 0.5, but must be 1 or more"):
        height_weights({5.0: 0.2}, cap=0.5)


def test_each_sample_gets_the_weight_of_its_nearest_height() -> None:
    weights = HeightWeights({20.0: 0.5, 5.0: 2.0, 10.0: 1.0})
    condition = torch.tensor([[5.0, 20.0], [7.4, 7.6], [7.5, 100.0]])
    assert weights.of(condition).tolist() == [[2.0, 0.5], [2.0, 1.0], [2.0, 0.5]]
    with pytest.raises(ConfigError, match="Weights by height must be 0 or more"):
        HeightWeights({5.0: -1.0})


def test_pos_weight_makes_both_classes_count_alike_within_limits() -> None:
    assert pos_weight(25, 75) == 3
    assert pos_weight(75, 25) == pytest.approx(1 / 3)
    assert pos_weight(1, 1000) == 10
    assert pos_weight(0, 5) == 10
    assert pos_weight(5, 0) == pytest.approx(0.1)
    assert pos_weight(0, 0) == 1
    with pytest.raises(ConfigError, match="must be 0 or more"):
        pos_weight(-1, 3)


def test_class_weights_are_inverse_to_pixels_and_add_up_to_the_number_of_classes() -> None:
    assert class_weights([60, 30, 10]) == pytest.approx((3 * 1 / 9, 3 * 2 / 9, 3 * 6 / 9))
    assert class_weights([10, 0, 10]) == pytest.approx((1.5, 0, 1.5))
    with pytest.raises(ConfigError, match="one of them above 0"):
        class_weights([0, 0])


def test_uncertainty_weights_start_at_1_and_pass_gradients_to_both() -> None:
    weights = UncertaintyWeights(["a", "b"])
    values = {"a": torch.tensor(2.0, requires_grad=True), "b": torch.tensor(0.5, requires_grad=True)}
    total = weights(values)
    assert total.item() == pytest.approx(2.5)
    total.backward()
    assert values["a"].grad is not None
    assert values["a"].grad.item() == pytest.approx(1)
    assert weights.log_variance.grad is not None
    assert weights.log_variance.grad.tolist() == pytest.approx([1 - 2.0, 1 - 0.5])


def test_uncertainty_weights_settle_at_one_over_the_value_and_do_not_collapse_on_the_smallest() -> None:
    weights = UncertaintyWeights(["large", "small"])
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        weights({"large": torch.tensor(4.0), "small": torch.tensor(0.25)}).backward()
        optimizer.step()
    assert weights.weights() == pytest.approx({"large": 0.25, "small": 4.0}, rel=1e-2)


def test_uncertainty_weights_stay_bounded_when_a_term_reaches_0_or_explodes() -> None:
    weights = UncertaintyWeights(["gone", "huge"], limit=2.0)
    optimizer = torch.optim.SGD(weights.parameters(), lr=0.5)
    for _ in range(500):
        optimizer.zero_grad()
        weights({"gone": torch.tensor(0.0), "huge": torch.tensor(1e6)}).backward()
        optimizer.step()
    told = weights.weights()
    assert 1 <= told["gone"] <= math.exp(2) + 1e-5
    assert math.exp(-2) - 1e-5 <= told["huge"] <= 1


def test_uncertainty_weights_refuse_other_terms() -> None:
    with pytest.raises(ConfigError, match="are for a, b, not for a"):
        UncertaintyWeights(["a", "b"])({"a": torch.tensor(1.0)})
    with pytest.raises(ConfigError, match="a limit above 0"):
        UncertaintyWeights(["a"], limit=0)
