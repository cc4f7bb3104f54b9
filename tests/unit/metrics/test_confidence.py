from __future__ import annotations

import math

import numpy as np
import pytest

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics.confidence import (
    bootstrap,
    bootstrap_difference,
    compare_models,
    group_counts,
    interval_note,
    verdict,
)
from maskwright.metrics.scores import accuracy, iou


def blocks(count: int, heights: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, size=(count, heights, 4))


def test_rows_of_one_block_are_added() -> None:
    counts = np.arange(24).reshape(3, 2, 4)

    grouped = group_counts(counts, ["b", "a", "b"])

    assert grouped.dtype == np.int64
    assert np.array_equal(grouped, [counts[0] + counts[2], counts[1]])


def test_one_id_per_row_is_needed() -> None:
    with pytest.raises(ShapeError, match="2 block ids do not fit 3 rows"):
        group_counts(np.zeros((3, 1, 4), dtype=np.int64), [1, 2])


def test_the_interval_of_a_share_is_that_of_the_textbook() -> None:
    """Accuracy over n blocks of one pixel is a share p; its standard error is sqrt(p (1 - p) / n)."""
    n, p = 400, 0.3
    counts = np.zeros((n, 1, 4), dtype=np.int64)
    counts[: int(n * p), 0, 0] = 1
    counts[int(n * p) :, 0, 1] = 1

    low, high = bootstrap(counts, accuracy, draws=5000)

    error = 1.959964 * math.sqrt(p * (1 - p) / n)
    assert low[0] == pytest.approx(p - error, abs=0.004)
    assert high[0] == pytest.approx(p + error, abs=0.004)


def test_the_interval_equals_a_plain_loop_over_draws() -> None:
    counts = blocks(6, 1)
    low, high = bootstrap(counts, iou, draws=40, seed=9)

    ordered = counts[np.lexsort(counts.reshape(6, 4).T[::-1])]
    rng = np.random.Generator(np.random.Philox(9))
    scores = []
    for picked in rng.integers(6, size=(40, 6)):
        tp, fp, fn, _ = sum(ordered[block, 0] for block in picked)
        scores.append(tp / (tp + fp + fn))

    assert low[0] == pytest.approx(np.quantile(scores, 0.025), abs=1e-15)
    assert high[0] == pytest.approx(np.quantile(scores, 0.975), abs=1e-15)


def test_the_seed_decides_and_the_order_of_blocks_does_not() -> None:
    counts = blocks(25)
    shuffled = counts[np.random.default_rng(1).permutation(25)]

    first, again = bootstrap(counts, iou, seed=4), bootstrap(shuffled, iou, seed=4)
    other = bootstrap(counts, iou, seed=5)

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_higher_level_gives_a_wider_interval_around_the_score() -> None:
    counts = blocks(40)
    score = iou(counts.sum(axis=0))
    low_90, high_90 = bootstrap(counts, iou, level=0.9)
    low_99, high_99 = bootstrap(counts, iou, level=0.99)

    assert (low_99 < low_90).all()
    assert (low_90 < score).all()
    assert (score < high_90).all()
    assert (high_90 < high_99).all()


def test_blocks_that_are_all_alike_leave_no_doubt() -> None:
    counts = np.tile([[[3, 1, 0, 6]]], (12, 1, 1))

    low, high = bootstrap(counts, iou)

    assert low == high == 0.75


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_blocks_give_no_interval_and_a_note(count: int) -> None:
    low, high = bootstrap(blocks(count), iou)

    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert low.shape == (2,)
    assert interval_note(count) is not None


def test_the_note_says_how_sure_the_interval_is() -> None:
    assert interval_note(1) == (
        "Only one block of ground: no interval can be given. Add test ground, or use smaller blocks."
    )
    assert (
        interval_note(4) == "Only 4 blocks of ground: the intervals are rough. Add test ground, or use smaller blocks."
    )
    assert interval_note(10) is None


def test_draws_without_any_gap_are_left_out() -> None:
    counts = np.zeros((5, 2, 4), dtype=np.int64)
    counts[:, :, 3] = 10
    counts[0, 0] = (4, 4, 0, 2)  # the only block with a gap, at the first height

    low, high = bootstrap(counts, iou, draws=200)

    assert (low[0], high[0]) == (0.5, 0.5)
    assert math.isnan(low[1])


def test_many_blocks_are_drawn_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = blocks(30)
    whole = bootstrap(counts, iou, draws=101)
    monkeypatch.setattr("maskwright.metrics.confidence._CHUNK_CELLS", 30 * 7)

    assert np.array_equal(bootstrap(counts, iou, draws=101), whole)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"draws 0 and level 0\.95"):
        bootstrap(blocks(3), iou, draws=0)
    with pytest.raises(ConfigError, match="level 1"):
        bootstrap(blocks(3), iou, level=1.0)
    with pytest.raises(ShapeError, match=r"are not \(blocks, K, 4\)"):
        bootstrap(np.zeros((3, 5), dtype=np.int64), iou)
    with pytest.raises(ShapeError, match="score both on the same blocks"):
        bootstrap_difference(blocks(3), blocks(4), iou)


def test_an_answer_does_not_differ_from_itself() -> None:
    counts = blocks(20)

    value, low, high = bootstrap_difference(counts, counts, iou)

    assert not value.any()
    assert not low.any()
    assert not high.any()


def test_pairing_sees_a_small_difference_that_single_intervals_hide() -> None:
    rng = np.random.default_rng(2)
    hits = rng.integers(10, 90, size=30)  # blocks differ a lot in how hard they are
    worse = np.stack((hits, np.zeros(30), 100 - hits, np.full(30, 100)), axis=-1)[:, None].astype(np.int64)
    better = worse + np.array([3, 0, -3, 0])  # a little better on every block

    value, low, high = bootstrap_difference(better, worse, iou)

    assert value[0] == pytest.approx(0.03)
    assert (low[0], high[0]) == pytest.approx((0.03, 0.03))
    assert bootstrap(worse, iou)[1] > bootstrap(better, iou)[0]  # alone, the two overlap


def answers(hits: int, false_alarms: int, count: int = 20) -> np.ndarray:
    """Blocks with 100 gap pixels of 1000 each."""
    return np.tile([[[hits, false_alarms, 100 - hits, 900 - false_alarms]]], (count, 1, 1))


def test_a_model_that_wins_is_told_so_with_the_best_baseline() -> None:
    sentences = verdict(answers(90, 10), {"nothing": answers(0, 0), "all": answers(100, 900)}, (5.0,))

    assert sentences == ['At 5 m the model beats every baseline: IoU 0.818; the best of them, "all", reaches 0.100.']


def test_a_model_that_loses_is_told_so_in_plain_words() -> None:
    sentences = verdict(answers(20, 10), {"nothing": answers(0, 0), "pseudo": answers(60, 10)}, (2.5,))

    assert sentences == [
        'At 2.5 m the model loses to the baseline "pseudo": IoU 0.182 against 0.545 (difference -0.364, 95% interval '
        "-0.364 to -0.364). Do not use it at this height; the baseline is better and needs no training."
    ]


def test_a_model_that_is_no_different_is_told_so() -> None:
    model = np.concatenate((answers(60, 10, 10), answers(40, 10, 10)))  # better on half of the blocks
    baseline = np.concatenate((answers(40, 10, 10), answers(60, 10, 10)))

    (sentence,) = verdict(model, {"pseudo": baseline}, (10.0,))

    assert sentence.startswith('At 10 m the model cannot be told apart from the baseline "pseudo": IoU 0.')
    assert sentence.endswith("More test ground would decide.")


def test_ground_without_gaps_says_nothing_about_the_model() -> None:
    empty = np.tile([[[0, 5, 0, 95]]], (12, 1, 1))

    assert verdict(empty, {"nothing": empty}, (30.0,)) == [
        "At 30 m this ground holds no gap, so nothing can be said about the model there."
    ]


def test_one_block_compares_without_an_interval_and_says_so() -> None:
    sentences = verdict(answers(20, 10, 1), {"pseudo": answers(60, 10, 1)}, (5.0,))

    assert "(difference -0.364). Do not use it" in sentences[0]
    assert sentences[1] == interval_note(1)


def test_each_height_gets_its_own_verdict() -> None:
    model = np.concatenate((answers(90, 10), answers(20, 10)), axis=1)
    baseline = np.concatenate((answers(60, 10), answers(60, 10)), axis=1)

    first, second = verdict(model, {"pseudo": baseline}, (5.0, 10.0))

    assert "At 5 m the model beats" in first
    assert "At 10 m the model loses" in second


def test_without_baselines_the_score_is_stated() -> None:
    assert verdict(answers(90, 10), {}, (5.0,)) == [
        "At 5 m the model reaches IoU 0.818; there is no baseline beside it."
    ]


def right_of(rights: list[int], pixels: int = 10) -> np.ndarray:
    """Blocks of ten pixels, so many of them called rightly."""
    return np.array([[[right, pixels - right, 0, 0]] for right in rights])


def test_the_p_value_of_four_blocks_by_hand() -> None:
    """Model a is better by 1, 2, 3 and 4 pixels: of the 16 exchanges only none and all give as much."""
    better, worse = right_of([6, 7, 8, 9]), right_of([5, 5, 5, 5])

    result = compare_models(better, worse, accuracy)

    assert result.value[0] == pytest.approx(10 / 40)
    assert result.p_value[0] == pytest.approx(2 / 16)
    assert result.low[0] > 0


def test_equal_models_cannot_be_told_apart() -> None:
    result = compare_models(blocks(30), blocks(30), iou, draws=500)

    assert result.p_value.tolist() == [1.0, 1.0]
    assert result.value.tolist() == [0.0, 0.0]


def test_a_model_better_in_every_one_of_many_blocks_has_the_smallest_p_value() -> None:
    rights = np.random.default_rng(1).integers(3, 8, size=40).tolist()

    result = compare_models(right_of([right + 2 for right in rights]), right_of(rights), accuracy, draws=999)

    assert result.p_value[0] == pytest.approx(1 / 1000)


def test_the_order_of_blocks_changes_no_p_value() -> None:
    a, b = blocks(25, seed=1), blocks(25, seed=2)
    order = np.random.default_rng(3).permutation(25)

    first, second = (compare_models(x, y, iou, draws=300, seed=4) for x, y in ((a, b), (a[order], b[order])))

    for one, other in zip(first, second, strict=True):
        assert one.tolist() == other.tolist()


def test_chunks_change_no_exact_p_value(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = blocks(8, seed=1), blocks(8, seed=2)
    whole = compare_models(a, b, iou)
    monkeypatch.setattr("maskwright.metrics.confidence._CHUNK_CELLS", 8 * 7)

    assert compare_models(a, b, iou).p_value.tolist() == whole.p_value.tolist()


def test_without_evidence_there_is_no_small_p_value() -> None:
    assert compare_models(right_of([9]), right_of([1]), accuracy).p_value.tolist() == [1.0]
    assert np.isnan(compare_models(right_of([])[:0].reshape(0, 1, 4), np.zeros((0, 1, 4), np.int64), iou).p_value).all()
    empty = np.zeros((3, 1, 4), dtype=np.int64)
    assert np.isnan(compare_models(empty, empty, iou).p_value).all()
    with pytest.raises(ShapeError, match="cannot be compared"):
        compare_models(blocks(3), blocks(4), iou)
