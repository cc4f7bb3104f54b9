"""Whether a model is worth more than answers that need no training."""

from __future__ import annotations

import numpy as np

from maskwright.workflows.verdicts import class_verdict, few_note, sample_sentences

GOOD = np.tile([[90, 5, 5, 900]], (20, 1))[:, None]  # twenty images of one class
POOR = np.tile([[10, 50, 85, 855]], (20, 1))[:, None]


def sentence(model: np.ndarray, baseline: np.ndarray) -> str:
    options = {"unit": "image", "draws": 200, "level": 0.95}
    (text,) = class_verdict(model, {"nothing": POOR * 0 + [0, 0, 95, 905], "other": baseline}, ["rust"], **options)  # type: ignore[arg-type]
    return text


def test_a_clear_difference_is_said_with_the_best_of_the_answers() -> None:
    text = sentence(GOOD, POOR)
    assert text.startswith('rust: the model beats every baseline; the best of them is "other": IoU 0.900 against 0.069')


def test_a_model_that_loses_is_told_so() -> None:
    assert 'loses to the baseline "other"; do not use it for this class' in sentence(POOR, GOOD)


def test_equal_answers_cannot_be_told_apart() -> None:
    assert "cannot be told apart" in sentence(GOOD, GOOD)


def test_a_class_that_does_not_occur_says_nothing() -> None:
    options = {"unit": "image", "draws": 10, "level": 0.95}
    empty = np.array([[[0, 0, 0, 10]]] * 12)
    assert class_verdict(empty, {"nothing": empty}, ["rust"], **options) == [  # type: ignore[arg-type]
        "rust: it does not occur here, so nothing can be said about it."
    ]


def test_few_images_make_rough_intervals() -> None:
    assert few_note(1, "image") == "Only one image: no interval can be given. Add test data."
    assert few_note(9, "block of ground") == "Only 9 blocks of ground: the intervals are rough. Add test data."
    assert few_note(10, "image") is None


def test_whole_images_are_counted() -> None:
    true, called = np.array([[True], [True], [False]]), np.array([[True], [False], [True]])
    assert sample_sentences(true, called, ["rust"]) == [
        "rust was called in 1 of 2 images that hold it, and in 1 of 1 that do not."
    ]
    assert sample_sentences(~true & False, called, ["rust"]) == []
