from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.data.balance import (
    TileBalance,
    balance_by_foreground,
    balance_by_share,
    build_order,
    class_shares,
    compute_class_weights,
    gap_shares,
)
from maskwright.errors import DataError
from maskwright.types import Place, Window

balances = st.one_of(
    st.none(),
    st.builds(
        lambda weights: TileBalance(weights=np.array(weights)),
        st.lists(st.floats(1.0, 5.0), min_size=12, max_size=12),
    ),
    st.builds(
        lambda held, share, mode, size: balance_by_foreground(
            np.arange(12) < held, target_share=share, mode=mode, batch_size=size
        ),
        st.integers(1, 11),
        st.sampled_from([0.3, 0.5, 0.8]),
        st.sampled_from(["global", "batch", "alternate"]),
        st.integers(1, 5),
    ),
)


@settings(max_examples=60, deadline=None)
@given(balances, st.integers(0, 2**31), st.integers(1, 30), st.randoms())
def test_the_order_is_a_function_of_seed_epoch_and_position_alone(balance, seed, samples, random) -> None:
    order = build_order(12, balance, seed=seed, samples_per_epoch=samples)
    wanted = {(epoch, position): order.tile(epoch, position) for epoch in range(6) for position in range(samples)}
    assert all(0 <= tile < 12 for tile in wanted.values())
    keys = list(wanted)
    random.shuffle(keys)
    fresh = build_order(12, balance, seed=seed, samples_per_epoch=samples)
    assert all(fresh.tile(*key) == wanted[key] for key in keys)
    copied = pickle.loads(pickle.dumps(fresh))
    assert copied.tile(*keys[0]) == wanted[keys[0]]


def test_tiles_come_as_often_as_their_weights_say_in_every_round() -> None:
    weights = np.array([1.0, 1.0, 2.0, 4.0, 5.0, 1.0, 1.0, 1.0])
    order = build_order(8, TileBalance(weights=weights), seed=1, samples_per_epoch=8)
    expected = weights / weights.sum() * 8
    for epoch in range(20):
        counts = Counter(order.tile(epoch, position) for position in range(8))
        assert all(abs(counts[tile] - expected[tile]) < 1 for tile in range(8))
    total = Counter(order.tile(epoch, position) for epoch in range(500) for position in range(8))
    np.testing.assert_allclose([total[tile] / 500 for tile in range(8)], expected, atol=0.1)


def test_equal_weights_change_nothing() -> None:
    plain = build_order(9, None, seed=4, samples_per_epoch=13)
    even = build_order(9, TileBalance(weights=np.full(9, 3.0)), seed=4, samples_per_epoch=13)
    assert all(plain.tile(e, p) == even.tile(e, p) for e in range(4) for p in range(13))


@pytest.mark.parametrize("mode", ["global", "batch", "alternate"])
def test_the_share_of_foreground_holds_where_the_mode_says(mode) -> None:
    foreground = np.arange(40) < 12
    balance = balance_by_foreground(foreground, target_share=0.5, mode=mode, batch_size=4)
    order = build_order(40, balance, seed=2, samples_per_epoch=32)
    for epoch in range(5):
        held = np.array([foreground[order.tile(epoch, position)] for position in range(32)])
        assert held.sum() == 16
        batches = held.reshape(8, 4).sum(axis=1)
        if mode == "batch":
            assert (batches == 2).all()
        if mode == "alternate":
            assert batches.tolist() == [4, 0] * 4


@pytest.mark.parametrize("mode", ["global", "batch", "alternate"])
def test_tiles_of_one_kind_are_seen_equally_often(mode) -> None:
    foreground = np.arange(20) < 7
    balance = balance_by_foreground(foreground, target_share=0.4, mode=mode, batch_size=3)
    order = build_order(20, balance, seed=2, samples_per_epoch=17)
    seen = Counter(order.tile(epoch, position) for epoch in range(30) for position in range(17))
    for kind in (range(7), range(7, 20)):
        assert max(seen[tile] for tile in kind) - min(seen[tile] for tile in kind) <= 1


def test_a_rare_kind_is_repeated_at_most_as_often_as_the_cap_says() -> None:
    balance = balance_by_foreground(np.arange(100) < 2, target_share=0.5, cap=5.0)
    assert balance.target_share == pytest.approx(10 / 108)
    assert "2 of 100 training tiles hold foreground" in balance.notes[0]
    common = balance_by_foreground(np.arange(100) < 98, target_share=0.5, cap=5.0)
    assert common.target_share == pytest.approx(98 / 108)


def test_tiles_of_one_kind_alone_are_told_and_not_balanced() -> None:
    balance = balance_by_foreground(np.zeros(3, bool))
    assert balance.notes == ("All training tiles are without foreground: no balance.",)
    assert sorted(build_order(3, balance, seed=0, samples_per_epoch=3).tile(0, p) for p in range(3)) == [0, 1, 2]


def test_tiles_with_rare_classes_weigh_more_up_to_the_cap() -> None:
    shares = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])  # the second class is an eighth of all
    weights = balance_by_share(shares, cap=50.0).weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([1, 1, 1, (0.5 / 0.875 + 0.5 / 0.125) * 0.875])
    capped = balance_by_share(shares, cap=3.0).weights
    assert capped is not None
    assert capped.tolist() == [1, 1, 1, 3]


def test_a_class_that_never_occurs_does_no_harm() -> None:
    weights = balance_by_share(np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])).weights
    assert weights is not None
    assert np.isfinite(weights).all()


def test_gap_shares_are_those_of_the_measured_pixels() -> None:
    heights = np.array([[1.0, 4.0], [9.0, 0.0]], np.float32)
    valid = np.array([[True, True], [True, False]])
    shares = gap_shares(lambda scene, window: (heights, valid), [Place("a", Window(0, 0, 2, 2))], (2.0, 5.0, 20.0))
    np.testing.assert_allclose(shares[0], [[1 / 3, 2 / 3], [2 / 3, 1 / 3], [1, 0]])
    assert balance_by_share(shares).weights is not None


def test_shares_of_classes_and_of_labels() -> None:
    place = Place("a", Window(0, 0, 2, 2))
    assert class_shares(lambda _: np.array([3, 1]), [place], multilabel=False).tolist() == [[0.75, 0.25]]
    assert class_shares(lambda _: np.array([1, 1, 4]), [place], multilabel=True).tolist() == [[0.25, 0.25, 0.5]]


def test_class_weights_are_inverse_to_the_counts_with_a_mean_of_one() -> None:
    weights = compute_class_weights([800, 100, 100])
    plain = np.array([1000 / (3 * 800), 1000 / 300, 1000 / 300])
    np.testing.assert_allclose(weights, plain / plain.mean())
    absent = compute_class_weights([10, 0, 30])
    assert absent[1] == 0
    assert absent[[0, 2]].mean() == pytest.approx(1.0)
    with pytest.raises(DataError, match="at least one above 0"):
        compute_class_weights([0, 0])


def test_a_balance_of_other_tiles_is_refused() -> None:
    with pytest.raises(DataError, match="A balance of 3 tiles was given for 4 training tiles"):
        build_order(4, TileBalance(weights=np.ones(3)), seed=0, samples_per_epoch=4)
