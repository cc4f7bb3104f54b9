"""What is said below an augmented sample."""

from __future__ import annotations

from maskwright.workflows.check_augmented import said


def test_what_is_off_or_empty_is_left_out() -> None:
    assert said({"turns": 2, "flip": False, "noise": None, "zoom": 1.10001, "crop": ()}) == "turns 2, zoom 1.1"


def test_values_inside_values_stand_in_brackets() -> None:
    assert said({"light": {"gain": 1.5, "off": None}, "shift": (0.25, 3)}) == "light (gain 1.5), shift [0.25, 3]"


def test_nothing_is_an_empty_text() -> None:
    assert said({}) == ""
