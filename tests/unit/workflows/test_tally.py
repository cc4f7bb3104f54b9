"""One walk through a part of the split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskwright.config import MetricsConfig
from maskwright.errors import DataError
from maskwright.tasks import Binary, Multiclass
from maskwright.types import Batch, Place, Window
from maskwright.workflows.operating_point import OperatingPoint
from maskwright.workflows.tally import Tally, count


class Echo(nn.Module):
    """Answers with the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        return image


class Tiles(list[Batch]):
    """The batches of an EvalLoader."""

    batch_size = 1

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(place for batch in self for place in batch.where)

    def some(self, numbers: range) -> list[Batch]:
        return [self[number] for number in numbers]


def batch(logits: list[Any], target: list[Any], valid: list[Any]) -> Batch:
    place = Place("a", Window(0, 0, 1, 4))
    return Batch(torch.tensor([logits]), torch.tensor([target]), torch.tensor([valid]), None, (place,))


def tally(task: Any, tiles: Tiles, watch: Any = None) -> Tally:
    point = OperatingPoint.fixed(task, 0.5)
    return count(
        *(Echo(), task, tiles, (), MetricsConfig(), point),  # type: ignore[arg-type]
        pixel_size_m=None,
        watch=watch,
        progress=None,
    )


def test_only_what_counts_is_counted_and_watched() -> None:
    seen: list[Any] = []
    tiles = Tiles([batch([[[9.0, 9.0, -9.0, 9.0]]], [[1, 0, 1, 1]], [[True, True, True, False]])])
    found = tally(Binary(("crack",)), tiles, lambda *what: seen.append(what))
    assert found.counts.tolist() == [[[1, 1, 1, 0]]]
    assert found.places == [Place("a", Window(0, 0, 1, 4))]
    said, true, valid, where = seen[0]
    assert said.tolist() == [[[[True, True, False, True]]]]
    assert (true & valid).sum() == 2
    assert where == (Place("a", Window(0, 0, 1, 4)),)
    assert "cldice" in found.thin()


def test_classes_that_exclude_each_other_have_a_matrix() -> None:
    logits = [[[9.0, 0.0, 0.0, 9.0]], [[0.0, 9.0, 9.0, 0.0]]]
    found = tally(Multiclass(("ground", "tree")), Tiles([batch(logits, [[0, 0, 1, 1]], [[True] * 4])]))
    assert np.array_equal(found.matrix, [[1, 1], [1, 1]])
    assert found.thin() == {}


def test_an_empty_part_cannot_be_scored() -> None:
    with pytest.raises(DataError, match="the part of the split is empty"):
        tally(Binary(("crack",)), Tiles())
