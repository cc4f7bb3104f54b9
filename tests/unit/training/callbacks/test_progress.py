"""What a person sees of a run."""

from __future__ import annotations

import io
import re
from typing import Any

from maskwright.training import Callback, CallbackList, ProgressCallback, fit

Toy = Any


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(toy: Toy, progress: ProgressCallback, *others: Callback, val: bool = True) -> Any:
    state, loader = toy.state(epochs=2), toy.loader(4)
    callbacks = CallbackList([*others, progress])
    fit(state, toy.task, loader, toy.loader(2) if val else None, state.updater, callbacks, epochs=2)
    return state


def test_where_there_is_no_terminal_each_epoch_is_a_line(toy: Toy) -> None:
    stream = io.StringIO()
    state = run(toy, ProgressCallback(stream))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    number = r"\d+\.\d{4}"
    assert re.fullmatch(
        rf"epoch 1/2  train/loss {number}  val/loss {number}  val/iou {number}  best {number} \(epoch 1\)  "
        r"lr 1.00e-01  \d+\.\d images/s  0:00:\d\d left",
        lines[0],
    )
    assert f"val/iou {state.scores['val/iou']:.4f}" in lines[1]
    assert "left" not in lines[1]
    assert lines[2] == (
        f"Training ended: all 2 epochs are done; best val/iou {state.best.score:.4f} in epoch {state.best.epoch}"
    )


def test_long_epochs_say_where_they_are(toy: Toy) -> None:
    stream = io.StringIO()
    run(toy, ProgressCallback(stream, line_every_s=0.0))
    inside = [line for line in stream.getvalue().splitlines() if "batch" in line]
    assert [line.partition("  loss")[0] for line in inside[:4]] == [
        f"epoch 1/2  batch {batch}/4" for batch in (1, 2, 3, 4)
    ]


def test_quiet_says_nothing(toy: Toy) -> None:
    for stream in (io.StringIO(), Terminal()):
        run(toy, ProgressCallback(stream, quiet=True))
        assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_and_the_lines_of_the_epochs(toy: Toy) -> None:
    stream = Terminal()
    progress = ProgressCallback(stream)
    run(toy, progress)
    assert "epoch 1/2  train/loss" in stream.getvalue()
    assert "Training ended: all 2 epochs are done" in stream.getvalue()
    assert progress._bar is None  # the terminal is given back


def test_the_terminal_is_given_back_after_an_error(toy: Toy) -> None:
    class Bomb(Callback):
        def on_step_end(self, state: Any, outcome: Any) -> None:
            raise KeyboardInterrupt

    progress = ProgressCallback(Terminal())
    try:
        run(toy, progress, Bomb())
    except KeyboardInterrupt:
        assert progress._bar is None
    else:
        raise AssertionError("the interrupt was lost")


def test_the_reason_of_a_stop_is_said(toy: Toy) -> None:
    class Stop(Callback):
        def on_step_end(self, state: Any, outcome: Any) -> None:
            state.request_stop("signal SIGTERM")

    stream = io.StringIO()
    run(toy, ProgressCallback(stream), Stop())
    assert stream.getvalue() == "Training ended: signal SIGTERM\n"


def test_a_notebook_gets_a_line_that_changes_and_keeps_those_of_the_epochs(toy: Toy, monkeypatch: Any) -> None:
    class Cell(io.StringIO):
        """What a notebook puts in the place of standard error."""

    Cell.__module__ = "ipykernel.iostream"
    monkeypatch.setattr("maskwright.training.callbacks.progress._LINE_EVERY_S", 0.0)
    stream = Cell()
    run(toy, ProgressCallback(stream))
    shown = [line for part in stream.getvalue().split("\n") for line in part.split("\r") if line]
    assert [line.split("  ")[0] for line in shown if "batch" in line][:3] == ["epoch 1/2"] * 3
    ends = [part.split("\r")[-1].rstrip() for part in stream.getvalue().split("\n") if part]
    assert [line.split("  ")[0] for line in ends] == [
        "epoch 1/2",
        "epoch 2/2",
        f"Training ended: all 2 epochs are done; {ends[-1].partition('; ')[2]}",
    ]


def test_quiet_is_quiet_in_a_notebook_too(toy: Toy) -> None:
    class Cell(io.StringIO):
        """What a notebook puts in the place of standard error."""

    Cell.__module__ = "ipykernel.iostream"
    stream = Cell()
    run(toy, ProgressCallback(stream, quiet=True))
    assert stream.getvalue() == ""
