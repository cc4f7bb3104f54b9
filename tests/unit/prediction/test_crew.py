from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.errors import PredictionError
from maskwright.prediction.crew import in_order, process_crew, same_thread, thread_crew


def doubled(images: Tensor) -> Tensor:
    return images * 2


def dying(images: Tensor) -> Tensor:
    os._exit(1)


def _given(count: int) -> Iterator[tuple[int, np.ndarray | None]]:
    for label in range(count):
        yield label, None if label % 4 == 3 else np.full((1, 1, 2, 2), label, np.float32)


def _answers(crew) -> list[float | None]:
    got = [(label, answer) for label, answer in in_order(crew, _given(11))]
    assert [label for label, _ in got] == list(range(11))
    return [None if answer is None else float(answer[0, 0, 0, 0]) for _, answer in got]


EXPECTED = [None if label % 4 == 3 else 2.0 * label for label in range(11)]


def test_one_after_the_other_answers_come_in_order_and_gaps_keep_their_place() -> None:
    assert _answers(same_thread(doubled)) == EXPECTED


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_answer_in_the_order_asked_whoever_is_ready_first(threads: int) -> None:
    def slow_at_first(images: Tensor) -> Tensor:
        time.sleep(0.02 if images[0, 0, 0, 0] == 0 else 0)
        return images * 2

    with thread_crew(slow_at_first, threads) as crew:
        assert _answers(crew) == EXPECTED


def test_every_thread_computes_alone_and_the_number_of_the_host_is_left_as_it_was() -> None:
    before, seen = torch.get_num_threads(), []

    def look(images: Tensor) -> Tensor:
        seen.append((threading.current_thread().name.startswith("window"), torch.get_num_threads()))
        return images

    with thread_crew(look, 2) as crew:
        list(in_order(crew, _given(4)))
    assert set(seen) == {(True, 1)}
    assert torch.get_num_threads() == before


def test_only_a_few_windows_are_under_way() -> None:
    taken = 0

    def given() -> Iterator[tuple[int, np.ndarray]]:
        nonlocal taken
        for label in range(50):
            taken += 1
            yield label, np.zeros((1, 1, 2, 2), np.float32)

    with thread_crew(doubled, 2) as crew:
        for label, _ in in_order(crew, given()):
            assert taken - label <= 3


@pytest.mark.parametrize(("processes", "threads"), [(1, 2), (2, 2)])
def test_processes_answer_as_one_thread_does(processes: int, threads: int) -> None:
    with process_crew(doubled, processes, threads) as crew:
        assert crew.share == threads // processes
        assert _answers(crew) == EXPECTED


def test_a_worker_that_dies_is_told() -> None:
    with pytest.raises(PredictionError, match="A worker process died"), process_crew(dying, 1, 1) as crew:
        list(in_order(crew, _given(2)))
