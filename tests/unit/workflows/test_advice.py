"""The sentence that says what would help most."""

from __future__ import annotations

from typing import Any

from maskwright.workflows.advice import what_would_help


def history(*scores: float, train: float = 1.0, val: float = 1.0) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "val/iou": score, "train/loss": train, "val/loss": val}
        for epoch, score in enumerate(scores, start=1)
    ]


def advice(entries: list[dict[str, float]], best_epoch: int, **options: Any) -> str:
    usual: dict[str, Any] = {"scores": {"5 m": 0.4, "10 m": 0.8}, "epochs": len(entries), "train_tiles": 12}
    usual |= {"monitor": "val/iou", "higher_is_better": True, "best_epoch": best_epoch}
    return what_would_help(entries, **(usual | options))


def test_a_score_that_still_rises_asks_for_time() -> None:
    text = advice(history(0.1, 0.2, 0.3, 0.5), best_epoch=4)
    assert text.startswith("Time: val/iou still gained 0.300 over the last 2 epochs")
    assert text.endswith("--set training.epochs=6.")


def test_an_epoch_or_two_ask_for_more_of_them() -> None:
    text = advice(history(0.1, 0.2), best_epoch=2)
    assert text == (
        "Time: after 2 epochs nothing shows yet where val/iou ends; train longer, for example --set training.epochs=3."
    )
    assert advice(history(0.1), best_epoch=1).startswith("Time: after 1 epoch nothing")


def test_losing_to_a_naive_answer_asks_for_twice_the_time() -> None:
    text = advice(history(0.5, 0.5, 0.4, 0.4), best_epoch=1, lost_to="nothing")
    assert 'not better than the answer "nothing" yet; train longer, for example --set training.epochs=8' in text


def test_a_loss_that_is_higher_on_validation_asks_for_data() -> None:
    text = advice(history(0.5, 0.5, 0.4, 0.4, val=1.5), best_epoch=1)
    assert text.startswith("Data: the loss on validation ground is 1.50 times that on training ground; more sites")
    assert "these 12 training tiles" in text


def test_else_the_weakest_column_is_named() -> None:
    flat = history(0.5, 0.5, 0.4, 0.4)
    assert advice(flat, best_epoch=1).startswith("Height: 5 m is the weakest with IoU 0.400")
    classes = {"scores": {"rust": 0.7, "pit": 0.2}, "things": "classes"}
    assert advice(flat, best_epoch=1, **classes).startswith("Class: pit is the weakest with IoU 0.200")


def test_where_nothing_can_be_compared_it_says_what_is_missing() -> None:
    flat = history(0.5, 0.5, 0.4, 0.4)
    assert "no gap of any listed height" in advice(flat, best_epoch=1, scores={"5 m": float("nan")})
    assert "no class lies on the test images" in advice(flat, best_epoch=1, scores={}, things="classes")
