from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from maskwright.tracking import EventLog
from maskwright.tracking.facts import (
    Best,
    ago_text,
    best_epoch,
    clock_text,
    duration_text,
    facts_of,
    number_text,
    score_groups,
    score_name,
    size_text,
)
from maskwright.tracking.shelf import RunShelf, Snapshot

from ..conftest import make_run

NOW = datetime.datetime(2026, 11, 21, 9, 30, tzinfo=datetime.UTC)


def test_the_cards_of_a_run_at_work(outputs: Path) -> None:
    run = make_run(outputs)
    facts = facts_of(RunShelf(outputs).look(run.path))
    assert (facts.epoch, facts.epochs, facts.progress) == (2, 4, 0.5)
    assert (facts.monitor, facts.last, facts.best) == ("val/iou", 0.75, Best(2, 0.75))
    assert (facts.left_s, facts.images_per_s, facts.epoch_s) == (120.0, 12.5, 60.0)
    assert facts.lr == pytest.approx(0.001)
    assert facts.paused is False


def test_a_run_that_is_over_has_no_time_left(outputs: Path) -> None:
    run = make_run(outputs, status="finished")
    assert facts_of(RunShelf(outputs).look(run.path)).left_s is None


def test_a_run_is_paused_from_the_command_until_it_goes_on(outputs: Path) -> None:
    run = make_run(outputs)
    log, shelf = EventLog(run.events), RunShelf(outputs)
    for command, paused in (("pause", True), ("checkpoint", True), ("resume", False), ("pause", True)):
        log.write("command", command=command)
        assert facts_of(shelf.look(run.path)).paused is paused
    log.write("train_begin", epochs=4)
    assert facts_of(shelf.look(run.path)).paused is False


def test_nothing_known_gives_empty_cards() -> None:
    facts = facts_of(Snapshot(Path("none")))
    assert (facts.epoch, facts.epochs, facts.progress, facts.monitor, facts.best, facts.lr) == (0, *[None] * 5)


def test_the_best_epoch_is_the_first_with_the_best_finite_score() -> None:
    values = [0.2, float("nan"), 0.5, 0.5, None, "x", True]
    history = tuple({"epoch": place, "s": value} for place, value in enumerate(values, 1))
    assert best_epoch(history, "s", "max") == Best(3, 0.5)
    assert best_epoch(history, "s", "min") == Best(1, 0.2)
    assert best_epoch(history, "missing", "max") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (-3, "0 s"), (45.2, "45 s"), (720, "12 min"), (11100, "3 h 05 min"), (187200, "2 d 4 h")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("2026-11-21T09:29:15+00:00", "45 s ago"),
        ("2026-11-21T09:29:00", "1 min ago"),
        ("2026-11-21T10:30:00+00:00", "just now"),  # the clock of the other computer is ahead
        ("2026-11-21T11:29:57+02:00", "just now"),
        ("yesterday", "-"),
        (None, "-"),
    ],
)
def test_how_long_ago_by_two_clocks(time: str | None, text: str) -> None:
    assert ago_text(time, NOW) == text


def test_numbers_sizes_times_and_names() -> None:
    assert [number_text(value) for value in (None, float("nan"), 0.0, 0.81314, 12.5, 3e-5, 250000.0)] == [
        "-",
        "-",
        "0.0000",
        "0.8131",
        "12.5",
        "3.00e-05",
        "2.50e+05",
    ]
    assert [size_text(count) for count in (7, 22_300_000, 280_000_000, 1.2e9, 5e13)] == [
        "7 B",
        "22.3 MB",
        "280 MB",
        "1.2 GB",
        "50000 GB",
    ]
    assert clock_text("2026-11-21T09:30:59+00:00") == "2026-11-21 09:30"
    assert (clock_text("?"), clock_text(None)) == ("?", "-")
    names = ("val/iou", "val/iou@5m", "val/dice@2.5m", "val/iou@crack", "val/iou_images_skip", "val/gap_share_true")
    assert [score_name(name) for name in names] == [
        "IoU",
        "IoU at 5 m",
        "Dice at 2.5 m",
        "IoU, crack",
        "IoU images skip",
        "Gap share true",
    ]


def test_names_are_sorted_by_what_they_are() -> None:
    names = ("epoch", "train/loss", "train/loss/dice", "train/loss_weight/dice", "lr/0", "elapsed_s")
    groups = score_groups([*names, "val/iou", "val/iou@10m", "val/iou@2.5m", "val/iou@5m", "val/f1@crack"])
    assert groups.losses == ("train/loss",)
    assert groups.terms == ("train/loss/dice",)
    assert groups.weights == ("train/loss_weight/dice",)
    assert groups.rates == ("lr/0",)
    assert groups.scores == ("val/iou",)
    assert groups.columns == {
        "val/iou": ("val/iou@2.5m", "val/iou@5m", "val/iou@10m"),
        "val/f1": ("val/f1@crack",),
    }
