"""The samples least like the others."""

from __future__ import annotations

import numpy as np

from maskwright.data.preflight_look import Look, look_at
from maskwright.data.preflight_odd import oddest


def look(level: float, seed: int, foreground: float = 0.1) -> Look:
    values = np.random.default_rng(seed).normal(level, 10, (1, 40, 40)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((40, 40), bool)
    mask[: round(40 * foreground)] = True
    return look_at(values, np.ones((40, 40), bool), mask, name=f"i{seed}")


def test_the_darkest_of_equal_images_is_the_oddest_and_says_so() -> None:
    looks = [look(120, seed) for seed in range(20)]
    looks[11] = look(30, 11)
    first, *_ = oddest(looks)
    assert first.index == 11
    assert first.why.startswith("darker than most: mean 29.5")


def test_unusual_foreground_is_found() -> None:
    looks = [look(120, seed) for seed in range(20)]
    looks[3] = look(120, 3, foreground=0.9)
    first, *_ = oddest(looks)
    assert first.index == 3
    assert first.why.startswith("more foreground than most: foreground 90")


def test_at_most_as_many_as_asked_come_back_in_order() -> None:
    found = oddest([look(100 + seed, seed) for seed in range(30)], most=5)
    assert len(found) == 5
    assert [odd.distance for odd in found] == sorted((odd.distance for odd in found), reverse=True)


def test_no_samples_are_no_odd_samples() -> None:
    assert oddest([]) == ()
