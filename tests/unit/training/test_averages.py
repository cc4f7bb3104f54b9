"""Averages of losses over an epoch."""

from __future__ import annotations

import math

import pytest
import torch

from maskwright.tasks import LossTerm
from maskwright.training.averages import LossSums
from maskwright.types import LossOutput

TERMS = {"bce": LossTerm(0.5, "pixels"), "dice": LossTerm(2.0, "samples")}


def add(sums: LossSums, weights: tuple[float, float], *batches: tuple[float, float], keep: bool = True) -> None:
    """One accumulation group: its weights (pixels, samples) and the terms (bce, dice) of its batches."""
    named = {"pixels": torch.tensor(weights[0]), "samples": torch.tensor(weights[1])}
    sums.begin_group(named)
    for bce, dice in batches:
        terms = {"bce": torch.tensor(bce), "dice": torch.tensor(dice)}
        sums.add(LossOutput(torch.tensor(0.0), terms), named)
    if keep:
        sums.end_group()
    else:
        sums.drop_group()


def test_each_term_is_averaged_with_its_own_weight() -> None:
    sums = LossSums(TERMS)
    add(sums, (100.0, 1.0), (1.0, 0.4))
    add(sums, (300.0, 1.0), (2.0, 0.8))
    bce, dice = (100 * 1.0 + 300 * 2.0) / 400, (0.4 + 0.8) / 2
    assert sums.averages("train") == pytest.approx(
        {"train/loss": 0.5 * bce + 2.0 * dice, "train/loss/bce": bce, "train/loss/dice": dice}
    )


def test_batches_of_a_group_share_its_weight() -> None:
    sums = LossSums(TERMS)
    add(sums, (400.0, 4.0), (0.25, 0.1), (0.75, 0.3))  # parts of one average
    assert sums.averages("val")["val/loss/bce"] == pytest.approx(1.0)
    assert sums.averages("val")["val/loss/dice"] == pytest.approx(0.4)


def test_a_dropped_group_leaves_no_trace() -> None:
    sums = LossSums(TERMS)
    add(sums, (100.0, 1.0), (1.0, 0.4))
    add(sums, (100.0, 1.0), (math.nan, math.inf), keep=False)
    assert sums.averages("train")["train/loss/bce"] == pytest.approx(1.0)


def test_nothing_valid_has_no_average() -> None:
    sums = LossSums(TERMS)
    add(sums, (0.0, 0.0), (0.0, 0.0))
    assert all(math.isnan(value) for value in sums.averages("val").values())


def test_a_term_that_nothing_is_valid_for_adds_nothing_to_the_total() -> None:
    sums = LossSums(TERMS)
    add(sums, (4.0, 0.0), (3.0, 0.0))
    found = sums.averages("train")
    assert found["train/loss"] == pytest.approx(0.5 * 3.0)
    assert math.isnan(found["train/loss/dice"])


def test_sums_continued_from_a_saved_state_are_the_same_bit_for_bit() -> None:
    numbers = torch.rand(200, 4, generator=torch.Generator().manual_seed(1)).tolist()
    through, first, second = LossSums(TERMS), LossSums(TERMS), LossSums(TERMS)
    for index, (pixels, samples, bce, dice) in enumerate(numbers):
        add(through, (pixels, samples), (bce, dice))
        if index == 77:
            second.load_state_dict(first.state_dict())
        add(first if index < 77 else second, (pixels, samples), (bce, dice))
        first.averages("train")  # looking at it changes nothing
    assert second.state_dict() == through.state_dict()


def test_the_total_takes_factors_that_have_moved() -> None:
    sums = LossSums(TERMS)
    add(sums, (100.0, 1.0), (1.0, 0.4))
    moved = {"bce": LossTerm(0.25, "pixels"), "dice": LossTerm(4.0, "samples")}
    assert sums.averages("train", moved)["train/loss"] == pytest.approx(0.25 * 1.0 + 4.0 * 0.4)


def test_rows_replayed_in_order_give_the_sums_of_one_process_to_the_last_bit() -> None:
    numbers = [(3.0, 1.0, 0.1, 0.7), (7.0, 2.0, 0.3, 0.2), (1.0, 1.0, 0.7, 0.9), (9.0, 3.0, 0.9, 0.4)]
    alone, first, second = LossSums(TERMS), LossSums(TERMS, keep_rows=True), LossSums(TERMS, keep_rows=True)
    for index, (pixels, samples, bce, dice) in enumerate(numbers):
        add(alone, (pixels, samples), (bce, dice))
        add(first if index < 2 else second, (pixels, samples), (bce, dice))
    merged = LossSums(TERMS)
    for part in (first, second):
        part.settle()
        assert part.rows is not None
        merged.replay(part.rows)
    assert merged.state_dict() == alone.state_dict()


def test_the_terms_of_a_group_can_be_replaced_by_those_of_all_processes() -> None:
    sums = LossSums(TERMS)
    weights = {"pixels": torch.tensor(4.0), "samples": torch.tensor(2.0)}
    sums.begin_group(weights)
    for _ in range(2):
        terms = {"bce": torch.tensor(0.25), "dice": torch.tensor(0.5)}
        sums.add(LossOutput(torch.tensor(0.0), terms), weights)
    assert sums.group_total().tolist() == [2.0, 2.0]
    sums.set_group_total(torch.tensor([3.0, 5.0], dtype=torch.float64))
    sums.end_group()
    assert sums.state_dict() == {"sums": {"bce": 3.0, "dice": 5.0}, "weights": {"pixels": 4.0, "samples": 2.0}}
