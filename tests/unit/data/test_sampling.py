from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.data.regions import Region, Split
from maskwright.data.sampling import Augment, Draw, HeightChoice, ImageAugment, TrainPlan, rng
from maskwright.data.sources.interface import Grid
from maskwright.data.tiles import tiles_within
from maskwright.errors import DataError
from maskwright.types import Place, Window

LIST = HeightChoice(heights_m=(2.0, 5.0, 10.0))
EVERYTHING = Augment(
    rotate_p=0.5, rotate_deg=20.0, zoom=(0.5, 2.0), noise_m=0.3, shift_m=2.0, terrain_p=0.5, terrain_m=4.0
)


def split_of(height: int = 200, width: int = 170, tile_px: int = 32) -> Split:
    """Training ground on the left, test ground on the right, 100 rows further down the scene goes on."""
    region = Region("a", "train", Window(0, 0, height, width))
    other = Region("a", "test", Window(0, 300, 64, 64))
    tiles = {
        "train": tuple(Place("a", window) for window in tiles_within(region.window, height, 500, tile_px)),
        "val": (),
        "test": (Place("a", Window(0, 300, tile_px, tile_px)),),
    }
    grid = Grid(height, 500, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None)
    return Split("blocks", 0, (0.7, 0.15, 0.15), tile_px, 32, (region, other), tiles, {"a": grid})


def test_a_sample_is_a_function_of_seed_epoch_and_position_alone() -> None:
    plan = TrainPlan(split_of(), LIST, EVERYTHING, seed=3)
    wanted = {(epoch, position): plan.draw(epoch, position) for epoch in range(3) for position in range(len(plan))}
    fresh = TrainPlan(split_of(), LIST, EVERYTHING, seed=3)
    for key in reversed(list(wanted)):
        assert fresh.draw(*key) == wanted[key]
    copied = pickle.loads(pickle.dumps(plan))
    assert copied.draw(2, 5) == wanted[2, 5]
    assert TrainPlan(split_of(), LIST, EVERYTHING, seed=4).draw(0, 0) != wanted[0, 0]


def test_every_epoch_visits_each_tile_once_in_another_order() -> None:
    plan = TrainPlan(split_of(), LIST, None, seed=0)
    orders = [[plan.draw(epoch, position).place for position in range(len(plan))] for epoch in range(3)]
    assert all(sorted(order, key=str) == sorted(plan.places, key=str) for order in orders)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("samples", [1, 7, 30, 50, 95])
def test_whatever_the_length_of_an_epoch_all_tiles_are_seen_equally_often(samples: int) -> None:
    plan = TrainPlan(split_of(), LIST, None, seed=0, samples_per_epoch=samples)
    assert len(plan) == samples
    seen: Counter[Place] = Counter(dict.fromkeys(plan.places, 0))
    for epoch in range(8):
        seen.update(plan.draw(epoch, position).place for position in range(samples))
        assert max(seen.values()) - min(seen.values()) <= 1


def test_shifted_windows_stay_inside_their_region_and_reach_all_of_it() -> None:
    split = split_of(200, 170)  # neither is a multiple of the tile
    plan = TrainPlan(split, LIST, Augment(), seed=1)
    seen = np.zeros((200, 170), dtype=bool)
    for position in range(2000):
        window = plan.draw(0, position).place.window
        assert (window.height, window.width) == (32, 32)
        assert 0 <= window.row <= 200 - 32
        assert 0 <= window.col <= 170 - 32
        seen[window.row : window.row_stop, window.col : window.col_stop] = True
    assert seen.mean() > 0.99
    assert seen.any(axis=0).all()
    assert seen.any(axis=1).all()


def test_a_shift_is_at_most_half_a_tile() -> None:
    plan = TrainPlan(split_of(320, 320), LIST, Augment(), seed=1)
    for position in range(500):
        moved, still = plan.draw(0, position).place.window, plan.places[plan._order.tile(0, position)].window
        assert abs(moved.row - still.row) <= 16
        assert abs(moved.col - still.col) <= 16


def test_a_region_narrower_than_a_tile_leaves_the_window_where_it_is() -> None:
    plan = TrainPlan(split_of(20, 200), LIST, Augment(), seed=1)
    windows = [plan.draw(0, position).place.window for position in range(100)]
    assert {window.row for window in windows} == {0}
    assert len({window.col for window in windows}) > 20


def test_without_jitter_windows_are_the_tiles() -> None:
    plan = TrainPlan(split_of(), LIST, Augment(jitter=False), seed=1)
    assert {plan.draw(0, position).place for position in range(len(plan))} == set(plan.places)


def test_without_augmentation_nothing_is_changed() -> None:
    plan = TrainPlan(split_of(), LIST, None, seed=1)
    draw = plan.draw(0, 0)
    assert replace(draw, seed=0) == Draw(draw.place, draw.heights_m)


def test_switching_one_change_off_leaves_the_others_as_they_were() -> None:
    full = TrainPlan(split_of(), LIST, EVERYTHING, seed=5)
    calm = TrainPlan(split_of(), LIST, replace(EVERYTHING, flip_p=0.0, shift_m=0.0), seed=5)
    for position in range(50):
        expected = replace(full.draw(1, position), flip_rows=False, flip_cols=False, shift_m=0.0)
        assert calm.draw(1, position) == expected
    plain = TrainPlan(split_of(), LIST, None, seed=5)
    assert [plain.draw(0, p).heights_m for p in range(50)] == [full.draw(0, p).heights_m for p in range(50)]


def test_changes_happen_as_often_and_as_strongly_as_asked() -> None:
    plan = TrainPlan(split_of(), LIST, EVERYTHING, seed=6)
    draws = [plan.draw(0, position) for position in range(4000)]
    assert np.mean([draw.flip_rows for draw in draws]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([draw.flip_cols for draw in draws]) == pytest.approx(0.5, abs=0.04)
    turns = Counter(draw.turns for draw in draws)
    assert [turns[number] / 4000 for number in range(4)] == pytest.approx([0.25] * 4, abs=0.04)
    warped = [draw for draw in draws if draw.is_warped]
    assert len(warped) / 4000 == pytest.approx(0.5, abs=0.04)
    angles, zooms = [draw.rotate_deg for draw in warped], np.log([draw.zoom for draw in warped])
    assert -20 <= min(angles) < -19
    assert 19 < max(angles) <= 20
    assert zooms.mean() == pytest.approx(0.0, abs=0.05)  # as much smaller as larger
    assert np.log(0.5) <= zooms.min() < zooms.max() <= np.log(2.0)
    assert np.std([draw.shift_m for draw in draws]) == pytest.approx(2.0, abs=0.1)
    assert {draw.noise_m for draw in draws} == {0.3}
    assert np.mean([draw.terrain_m == 4.0 for draw in draws]) == pytest.approx(0.5, abs=0.04)
    assert len({draw.seed for draw in draws}) == 4000


def test_heights_come_from_the_list_equally_often() -> None:
    plan = TrainPlan(split_of(), LIST, None, seed=0)
    counts = Counter(plan.draw(0, position).heights_m for position in range(3000))
    assert set(counts) == {(2.0,), (5.0,), (10.0,)}
    assert min(counts.values()) > 900


def test_several_heights_of_a_sample_differ_and_rise() -> None:
    plan = TrainPlan(split_of(), replace(LIST, per_sample=2), None, seed=0)
    assert {plan.draw(0, p).heights_m for p in range(200)} == {(2.0, 5.0), (2.0, 10.0), (5.0, 10.0)}
    everything = TrainPlan(split_of(), replace(LIST, per_sample=3), None, seed=0)
    assert {everything.draw(0, p).heights_m for p in range(50)} == {(2.0, 5.0, 10.0)}


def test_heights_of_a_range_fill_it_evenly() -> None:
    plan = TrainPlan(split_of(), HeightChoice(range_m=(2.0, 20.0), per_sample=3), None, seed=0)
    draws = np.array([plan.draw(0, position).heights_m for position in range(2000)])
    assert draws.shape == (2000, 3)
    assert (np.diff(draws, axis=1) > 0).all()
    assert 2.0 <= draws.min() < 2.1
    assert 19.9 < draws.max() <= 20.0
    counts, _ = np.histogram(draws, bins=6, range=(2.0, 20.0))
    assert counts.min() > 900


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "as a list or as a range"),
        ({"heights_m": (2.0,), "range_m": (2.0, 5.0)}, "as a list or as a range"),
        ({"heights_m": (2.0, 5.0), "per_sample": 3}, "heights_per_sample: 3 different heights cannot be drawn from 2"),
        ({"range_m": (5.0, 5.0)}, r"train_range_m: \[5\.0, 5\.0\] must rise"),
    ],
)
def test_heights_that_cannot_be_drawn_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        HeightChoice(**options)  # type: ignore[arg-type]


def test_a_split_without_training_tiles_is_refused() -> None:
    split = split_of()
    with pytest.raises(DataError, match="There is no training tile"):
        TrainPlan(replace(split, tiles={**split.tiles, "train": ()}), LIST, seed=0)


def test_random_numbers_of_neighbouring_samples_are_unrelated() -> None:
    values = {
        tuple(rng(seed, epoch, position, stream).random(2))
        for seed in range(3)
        for epoch in range(3)
        for position in range(3)
        for stream in range(2)
    }
    assert len(values) == 54


def test_samples_of_heights_are_what_they_have_always_been() -> None:
    plan = TrainPlan(split_of(), LIST, replace(EVERYTHING, clearing_p=0.3), seed=3, samples_per_epoch=20)
    names = [field.name for field in fields(Draw) if field.name not in ("image", "mix")]
    told = "".join(
        repr([getattr(plan.draw(epoch, position), name) for name in names])
        for epoch in range(3)
        for position in range(20)
    )
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == "4a6efea74b6d5163"


IMAGES = ImageAugment(flip_p=0.5, turn_p=0.5, rotate_p=0.5, noise_p=0.5, mixup_p=0.5, centre_p=0.5)


def centres(scene: str) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(0)
    return {0: rng.integers(0, 400, (300, 2)).astype(np.int32), 2: np.array([[5, 5], [150, 100], [20, 320]], np.int32)}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 50), st.integers(0, 200))
def test_a_sample_of_images_is_a_function_of_seed_epoch_and_position_alone(
    seed: int, epoch: int, position: int
) -> None:
    plans = [TrainPlan(split_of(), None, IMAGES, seed=seed, centres=centres) for _ in range(2)]
    plans[1].draw(epoch + 1, position + 1)
    assert plans[0].draw(epoch, position) == plans[1].draw(epoch, position)
    assert plans[0].draw(epoch, position).heights_m == ()


def test_centred_windows_show_their_pixel_in_the_middle_and_never_leave_their_region() -> None:
    plan = TrainPlan(split_of(), None, replace(IMAGES, centre_p=1.0, mixup_p=0.0), seed=1, centres=centres)
    rare = 0
    for position in range(400):
        window = plan.draw(0, position).place.window
        assert 0 <= window.row <= 200 - 32
        assert 0 <= window.col <= 170 - 32
        rare += window in (Window(0, 0, 32, 32), Window(150 - 16, 100 - 16, 32, 32))
    assert 150 < rare < 250  # one of two classes present, whatever its share of the pixels


def test_centred_samples_need_known_pixels() -> None:
    with pytest.raises(DataError, match=r"data\.augment\.centre_p"):
        TrainPlan(split_of(), None, IMAGES, seed=1)


def test_partners_are_tiles_of_the_training_part_with_changes_of_their_own() -> None:
    plan = TrainPlan(split_of(), None, replace(IMAGES, centre_p=0.0, jitter=False), seed=1)
    mixes = [draw.mix for draw in (plan.draw(0, position) for position in range(400)) if draw.mix is not None]
    assert 150 < len(mixes) < 250
    assert all(mix.partner.place in plan.places and 0.5 <= mix.share <= 1.0 for mix in mixes)
    assert len({mix.partner.seed for mix in mixes}) == len(mixes)
    told = plan.draw(0, next(p for p in range(400) if plan.draw(0, p).mix)).describe()
    assert set(told["mix"]) == {"share", "partner"}
