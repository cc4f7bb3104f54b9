"""From which score and size an object counts, by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskwright.config import MetricsConfig
from maskwright.data.instance_targets import InstanceTruth
from maskwright.metrics.instance_meter import TrueObjects
from maskwright.objects import Crop, FoundObjects
from maskwright.tasks.instances import Instances
from maskwright.types import Batch, Place, Window
from maskwright.workflows.object_point import choose_object_point
from maskwright.workflows.operating_point import OperatingPoint, find_operating_point


def _squares(places: list[tuple[int, int, int]], scores: list[float]) -> FoundObjects:
    """Squares by upper left x, y and side."""
    boxes = np.array([(x, y, x + side, y + side) for x, y, side in places], np.float32).reshape(-1, 4)
    return FoundObjects(
        boxes,
        np.ones(len(places), np.int64),
        np.array(scores, np.float32),
        (boxes[:, :2] + boxes[:, 2:]) / 2,
        np.full(len(places), np.nan, np.float32),
        tuple(Crop(y, x, np.ones((side, side), bool)) for x, y, side in places),
    )


def _truth(places: list[tuple[int, int, int]], counts: list[bool], *, points: bool = False) -> TrueObjects:
    found = _squares(places, [1.0] * len(places))
    diameter = np.full(len(places), np.nan if points else 10.0, np.float32)
    return TrueObjects(found.boxes, found.labels, found.centres, diameter, found.masks, np.array(counts, bool))


def _at_scores(everything: FoundObjects, scores: tuple[float, ...] = (0.2, 0.5, 0.8)) -> dict[float, FoundObjects]:
    return {score: everything.pick(everything.scores > score) for score in scores}


TRUE = [(0, 0, 20), (40, 0, 20), (80, 0, 20), (0, 40, 20)]
FOUND = _squares([(0, 0, 20), (40, 1, 20), (80, 0, 20), (40, 40, 20), (80, 60, 4)], [0.9, 0.7, 0.6, 0.4, 0.9])


def test_the_highest_f1_is_taken_over_scores_and_sizes() -> None:
    chosen = choose_object_point([_at_scores(FOUND)], [_truth(TRUE, [True] * 4)])
    assert chosen is not None
    assert (chosen.min_score, chosen.min_area_px) == (0.5, 40)  # a tenth of the small ones leaves the speck out
    assert chosen.f1 == pytest.approx(2 * 3 / (3 + 4))
    assert (chosen.called, chosen.true) == (3, 4)


@pytest.mark.parametrize(
    ("rule", "least", "score", "called"),
    [("area", 0.0, 0.2, 4), ("precision", 0.99, 0.5, 3), ("recall", 0.7, 0.5, 3)],
)
def test_other_rules_take_what_they_say(rule: str, least: float, score: float, called: int) -> None:
    chosen = choose_object_point([_at_scores(FOUND)], [_truth(TRUE, [True] * 4)], rule=rule, least=least)
    assert chosen is not None
    assert (chosen.min_score, chosen.called) == (score, called)


def test_how_much_two_may_overlap_is_chosen_too() -> None:
    twice = _squares([(0, 0, 20), (4, 0, 20), (40, 0, 20), (80, 0, 20), (92, 0, 20)], [0.9, 0.8, 0.9, 0.9, 0.9])
    truth = _truth([(0, 0, 20), (40, 0, 20), (80, 0, 20), (92, 0, 20)], [True] * 4)  # the last two overlap by a quarter
    chosen = choose_object_point([_at_scores(twice, (0.5,))], [truth], duplicate_ious=(0.1, 0.5, 0.9))
    assert chosen is not None
    assert (chosen.duplicate_iou, chosen.f1) == (0.5, 1.0)


def test_a_rule_that_nothing_fulfils_chooses_nothing() -> None:
    assert choose_object_point([_at_scores(FOUND)], [_truth(TRUE, [True] * 4)], rule="recall", least=0.9) is None


def test_what_belongs_to_another_tile_counts_neither_way() -> None:
    chosen = choose_object_point([_at_scores(FOUND, (0.5,))], [_truth(TRUE, [True, True, False, True])])
    assert chosen is not None
    assert (chosen.called, chosen.true) == (2, 3)
    assert chosen.f1 == pytest.approx(2 * 2 / (2 + 3))


def test_points_are_met_by_centres_that_are_near() -> None:
    truth = _truth([(1, 0, 4), (45, 0, 20)], [True, True], points=True)  # centres 7 px and 5 px off
    found = [_at_scores(_squares([(0, 0, 20), (40, 0, 20)], [0.9, 0.9]), (0.5,))]
    reached = [choose_object_point(found, [truth], match_distance_m=reach) for reach in (4.0, 6.0, 11.0)]
    assert [None if point is None else point.f1 for point in reached] == [0.0, 0.5, 1.0]


def test_tiles_without_objects_count_what_is_called_there() -> None:
    empty = _truth([], [])
    chosen = choose_object_point(
        [_at_scores(FOUND, (0.5,)), _at_scores(FOUND, (0.5,))], [_truth(TRUE, [True] * 4), empty]
    )
    assert chosen is not None
    assert chosen.called == 6
    assert chosen.f1 == pytest.approx(2 * 3 / (6 + 4))


# --- with a network ---------------------------------------------------------------------------------------------------

TASK = Instances(["background", "tree"])


class _Given(nn.Module):
    """Answers what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        return image * self.weight


class _Batches:
    """One tile of 96 px: six trees, two of which the network is less sure of, and two specks it takes for trees."""

    places = (Place("a", Window(0, 0, 96, 96)),)

    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty

    def __iter__(self) -> Iterator[Batch]:
        trees = [] if self.empty else [(16 + 32 * (n % 3), 16 + 40 * (n // 3), 8) for n in range(6)]
        rows, cols = np.mgrid[:96, :96]
        ids, image = np.zeros((96, 96), np.int32), np.zeros((5, 96, 96), np.float32)
        image[0], image[1], image[2] = 8.0, -8.0, -8.0
        for number, (x, y, radius) in enumerate([*trees, (32, 36, 2), (64, 36, 2)], start=1):
            inside = (rows - y) ** 2 + (cols - x) ** 2 <= radius**2
            image[0][inside], image[1][inside] = -8.0, 8.0
            image[3][inside], image[4][inside] = (x - cols[inside]) / TASK.scale_px, (y - rows[inside]) / TASK.scale_px
            image[2, y, x] = 0.4 if number in (2, 5) else 3.0
            if number <= len(trees):
                ids[inside] = number
        where = np.array([(x, y) for x, y, _ in trees], np.float32).reshape(-1, 2) + np.float32(0.5)
        count, yes = len(trees), np.ones(len(trees), bool)
        boxes = np.concatenate([where - 8.5, where + 8.5], axis=1).astype(np.float32)
        sizes = np.full(count, 17.0, np.float32)
        truth = InstanceTruth(ids, where, boxes, np.ones(count, np.int64), sizes, yes, yes, ~yes)
        valid = torch.ones(1, 96, 96, dtype=torch.bool)
        yield Batch(torch.from_numpy(image)[None], torch.zeros(1, 96, 96), valid, None, self.places, [truth])


def _point(rule: str, batches: _Batches, value: float | None = None) -> OperatingPoint:
    metrics = MetricsConfig(operating_point=rule, operating_value=value)  # type: ignore[arg-type]
    return find_operating_point(_Given().eval(), TASK, batches, (), metrics)  # type: ignore[arg-type]


def test_a_network_is_cut_where_validation_says_and_its_card_repeats_it() -> None:
    point = _point("max_f1", _Batches())
    assert point.objects is not None
    assert (point.objects["f1"], point.objects["called"], point.objects["true"]) == (1.0, 6, 6)
    assert point.objects["min_score"] <= 0.5
    assert point.objects["min_area_px"] > 13
    again = OperatingPoint.of_model(json.loads(json.dumps(point.describe())), TASK)
    cut = TASK.cut_at(again.objects)
    assert cut.grouping.min_area_px == point.objects["min_area_px"]
    assert cut.grouping.min_score == point.objects["min_score"]
    assert TASK.grouping.min_area_px == 9  # the task itself stays as it was


def test_the_fixed_rule_chooses_nothing() -> None:
    point = _point("fixed", _Batches())
    assert (point.objects, point.rule) == (None, "fixed")
    assert TASK.cut_at(point.objects) is TASK


def test_why_nothing_was_chosen_is_said() -> None:
    without = _point("max_f1", _Batches(empty=True))
    assert without.objects is None
    assert "holds no objects" in without.notes[0]
    assert _point("recall", _Batches(), 0.99).objects is not None
