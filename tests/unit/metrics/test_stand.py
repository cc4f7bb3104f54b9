"""The figures of a stand, against numbers by hand and plain code."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import shapely

from maskwright.metrics.stand import ALL, describe_stand

NAMES = {1: "cacao", 2: "shade"}
HECTARE = shapely.box(0, 0, 100, 100)


def test_a_grid_of_cacao_under_four_shade_trees() -> None:
    cacao = np.stack(np.meshgrid(np.arange(5.0, 100, 10), np.arange(5.0, 100, 10)), axis=-1).reshape(-1, 2)
    shade = np.array([(25.0, 26.0), (75.0, 26.0), (25.0, 76.0), (75.0, 76.0)])
    points, labels = np.concatenate([cacao, shade]), np.array([1] * 100 + [2] * 4)
    sizes = np.array([4.0] * 100 + [12.0] * 4)
    cover = {ALL: 0.55, "cacao": 0.12, "shade": 0.45}
    stand = describe_stand(points, labels, NAMES, HECTARE, unit="m", diameters=sizes, cover=cover)
    assert (stand.area, stand.unit) == (10_000.0, "m")
    assert [stand.classes[name].count for name in (ALL, "cacao", "shade")] == [104, 100, 4]
    assert stand.classes["cacao"].per_area == 100.0
    assert stand.classes["shade"].diameter_mean == 12.0
    assert stand.classes["shade"].cover == 0.45
    assert stand.shade["shade_ratio"] == pytest.approx(0.04)
    near = np.hypot(*np.moveaxis(cacao[:, None] - shade[None], -1, 0)).min(axis=1) <= 12
    assert stand.shade["shaded_share"] == pytest.approx(near.mean())
    assert stand.verdicts["canopy_coverage"].word == "good"
    assert stand.verdicts["shaded_share"].word == "poor"
    assert stand.spacing["cacao"].nearest_mean == pytest.approx(10.0)
    assert stand.spacing["cacao"].nearest_cv == pytest.approx(0.0)
    assert stand.spacing["cacao"].pattern == "regular"
    assert stand.spacing["cacao"].voronoi_mean == pytest.approx(100.0)
    assert stand.spacing["shade"].nearest_mean == pytest.approx(50.0)


def test_ripley_finds_nobody_nearer_than_the_grid_and_bounds_its_reach() -> None:
    grid = np.stack(np.meshgrid(np.arange(5.0, 100, 10), np.arange(5.0, 100, 10)), axis=-1).reshape(-1, 2)
    spacing = describe_stand(grid, np.ones(100), {1: "cacao"}, HECTARE, unit="m").spacing[ALL]
    assert len(spacing.radii) == 10
    assert spacing.radii[-1] == pytest.approx(25.0)
    for radius, low in zip(spacing.radii, spacing.ripley_l, strict=True):
        if radius < 10:
            assert low == pytest.approx(-radius)
    many = np.random.default_rng(0).uniform(0, 100, (3000, 2))
    assert describe_stand(many, np.ones(3000), {1: "a"}, HECTARE, unit="m").spacing[ALL].radii[-1] < 25


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_trees_leave_figures_open_and_fail_nowhere(count: int) -> None:
    stand = describe_stand(np.full((count, 2), 50.0), np.ones(count), NAMES, HECTARE, unit="px")
    assert stand.classes[ALL].count == count
    assert stand.spacing[ALL].pattern == "unknown"
    assert math.isnan(stand.spacing[ALL].nearest_mean)
    assert math.isnan(stand.canopy_cover)
    assert stand.verdicts["canopy_coverage"].word == "unknown"
    assert list(stand.spacing) == [ALL]
    json.dumps(stand.to_dict())


def test_without_crop_and_shade_there_are_no_figures_of_shade() -> None:
    stand = describe_stand(np.array([(1.0, 1.0), (9.0, 9.0)]), np.ones(2), {1: "palm"}, HECTARE, unit="m")
    assert stand.shade == {}
    assert set(stand.verdicts) == {"canopy_coverage"}


def test_ground_without_an_area_is_no_division_by_nothing() -> None:
    stand = describe_stand(np.zeros((0, 2)), np.zeros(0), NAMES, shapely.Polygon(), unit="m")
    assert math.isnan(stand.classes[ALL].per_area)
