"""Who computes the windows: this process, several of its threads, several processes of its own, or all of a launch.

On the CPU every window is computed alone and by one thread, whoever does it. More cores compute more windows at a time,
not one window faster: sums inside a convolution are then taken in one order, and the map is the same bit for bit on any
number of cores, threads and processes.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskwright.devices import prepare_process
from maskwright.distributed import at_main, scattered, share_of, world_size
from maskwright.errors import PredictionError

__all__ = ["Answer", "Crew", "answer_for_main", "in_order", "process_crew", "rank_crew", "same_thread", "thread_crew"]

Answer = Callable[[Tensor], Tensor]
"""Windows (B, C, h, w) to what is blended (B, K, h, w)."""

FloatArray = npt.NDArray[np.float32]
Answers = Sequence[Tensor | FloatArray]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Crew:
    """Takes windows and answers them later.

    Attributes:
        submit: Takes ``share`` arrays of windows (B, C, h, w), or fewer; the future holds an answer (B, K, h, w) each.
        at_once: How often that may be done before the first answer is waited for.
        share: How many arrays are given at a time.
    """

    submit: Callable[[Sequence[FloatArray]], Future[Answers]]
    at_once: int = 1
    share: int = 1


def same_thread(answer: Answer) -> Crew:
    """Windows are answered when they are given; for devices that have a queue of their own."""

    def submit(windows: Sequence[FloatArray]) -> Future[Answers]:
        future: Future[Answers] = Future()
        future.set_result([answer(torch.from_numpy(images)) for images in windows])
        return future

    return Crew(submit)


@contextmanager
def thread_crew(answer: Answer, threads: int | None = None) -> Iterator[Crew]:
    """So many threads of this process, each on a window of its own.

    Args:
        answer: May be called by several threads at once.
        threads: None: as many as torch uses for its mathematics.
    """
    before = torch.get_num_threads()
    count = before if threads is None else threads
    pool = ThreadPoolExecutor(count, "window", initializer=torch.set_num_threads, initargs=(1,))

    def work(windows: Sequence[FloatArray]) -> Answers:
        return [answer(torch.from_numpy(images)) for images in windows]

    try:
        yield Crew(lambda windows: pool.submit(work, windows), count + 1)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # what its threads chose for themselves, later ones would inherit


@contextmanager
def process_crew(answer: Answer, processes: int, threads: int | None = None) -> Iterator[Crew]:
    """So many processes, each with its share of the threads; windows and answers are sent to and fro.

    The main module of a program is imported again by each of them, so scripts that predict with several processes need
    the usual ``if __name__ == "__main__":``.

    Args:
        answer: Can be pickled.
        processes: At least 1.
        threads: Of all processes together; None: as many as torch uses.

    Raises:
        PredictionError: If one of them dies.
    """
    share = max(1, (torch.get_num_threads() if threads is None else threads) // processes)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _begin, (pickle.dumps(answer), share))
    try:
        yield Crew(lambda windows: pool.submit(_work, windows), processes + 1, share)
    except BrokenProcessPool as cause:
        raise PredictionError(
            "A worker process died, most likely for want of memory. Take fewer (prediction.workers, --workers), or "
            "smaller windows (prediction.tile_px)."
        ) from cause
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def rank_crew(own: Crew) -> Iterator[Crew]:
    """All processes that a launcher started, on this computer and others; process 0 gives and takes.

    The others are in :func:`answer_for_main` meanwhile.

    Args:
        own: Who computes what falls to process 0.
    """

    def submit(windows: Sequence[FloatArray]) -> Future[Answers]:
        parts = [
            [windows[index] for index in share_of(len(windows), number, world_size())] for number in range(world_size())
        ]
        answers = at_main(_answers_of(own, _handed_out(parts) or []))
        future: Future[Answers] = Future()
        future.set_result([each for part in answers for each in part])
        return future

    try:
        yield Crew(submit, share=world_size() * own.at_once * own.share)
    finally:
        _handed_out([None] * world_size())


def answer_for_main(own: Crew) -> None:
    """Compute the windows that process 0 hands out until it has no more."""
    while (windows := _handed_out(None)) is not None:
        at_main(_answers_of(own, windows))


def _handed_out(parts: Sequence[Sequence[FloatArray] | None] | None) -> Sequence[FloatArray] | None:
    """What process 0 hands to this one; None: there is no more."""
    return scattered(parts)


def _answers_of(crew: Crew, windows: Sequence[FloatArray]) -> list[FloatArray]:
    answers = (answer for _, answer in in_order(crew, ((None, images) for images in windows)))
    return [answer.cpu().numpy() for answer in answers if answer is not None]


def in_order(crew: Crew, given: Iterable[tuple[_T, FloatArray | None]]) -> Iterator[tuple[_T, Tensor | None]]:
    """Each label with the answer to its windows, in the order given; a few are under way at any time.

    Where there are no windows there is no answer, and the label comes in its turn.
    """
    source, waiting = iter(given), deque[tuple[list[tuple[_T, bool]], Future[Answers]]]()
    while group := list(islice(source, crew.share)):
        labels = [(label, images is not None) for label, images in group]
        waiting.append((labels, crew.submit([images for _, images in group if images is not None])))
        if len(waiting) >= crew.at_once:
            yield from _answered(*waiting.popleft())
    for labels, future in waiting:
        yield from _answered(labels, future)


def _answered(labels: Sequence[tuple[_T, bool]], future: Future[Answers]) -> Iterator[tuple[_T, Tensor | None]]:
    answers = iter(future.result())
    for label, is_asked in labels:
        yield label, torch.as_tensor(next(answers)) if is_asked else None


# --- in a worker process ----------------------------------------------------------------------------------------------

_crew: tuple[Answer, ThreadPoolExecutor] | None = None


def _begin(pickled: bytes, threads: int) -> None:
    global _crew
    prepare_process(1)
    answer: Any = pickle.loads(pickled)  # from the process that started this one, never from a file
    _crew = answer, ThreadPoolExecutor(threads, "window", initializer=torch.set_num_threads, initargs=(1,))


def _work(windows: Sequence[FloatArray]) -> Answers:
    assert _crew is not None
    answer, pool = _crew
    return list(pool.map(lambda images: answer(torch.from_numpy(images)).numpy(), windows))
