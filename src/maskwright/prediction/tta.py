"""Several views of one window, mirrored and turned, whose answers are turned back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["VIEWS", "views_of"]

View = tuple[int, bool]

VIEWS: dict[int, tuple[View, ...]] = {
    1: ((0, False),),
    2: ((0, False), (0, True)),
    4: ((0, False), (1, False), (2, False), (3, False)),
    8: tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4)),
}
"""By number of views: quarter turns, and whether left and right are swapped before them."""


def views_of(answer: Callable[[Tensor], Tensor], images: Tensor, views: int) -> Iterator[Tensor]:
    """The answers to several views, each turned back.

    Args:
        answer: (B, C, H, W) to (B, K, H, W).
        images: (B, C, H, W).
        views: A key of ``VIEWS``; with 1 the answer is passed on as it is.
    """
    for turns, mirrored in VIEWS[views]:
        if not turns and not mirrored:
            yield answer(images)
            continue
        seen = images.flip(-1) if mirrored else images
        part = torch.rot90(answer(torch.rot90(seen, turns, (-2, -1)).contiguous()), -turns, (-2, -1))
        yield part.flip(-1) if mirrored else part
