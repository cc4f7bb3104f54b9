from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from maskwright.data.augment import augment
from maskwright.data.sampling import Draw
from maskwright.errors import DataError, ShapeError
from maskwright.types import Batch, Place, Window

PLACE = Place("a", Window(0, 0, 24, 24))
SURFACE = {"scale_m": 30.0, "surface_bands": (0,)}


def batch_of(size: int = 3, px: int = 24, bands: int = 2, seed: int = 0, missing: float = 0.2) -> Batch:
    rng = np.random.default_rng(seed)
    valid = rng.random((size, px, px)) >= missing
    image = (rng.normal(size=(size, bands, px, px)) * valid[:, None]).astype(np.float32)
    target = (rng.uniform(0, 40, (size, px, px)) * valid).astype(np.float32)
    return Batch(torch.from_numpy(image), torch.from_numpy(target), torch.from_numpy(valid), None, (PLACE,) * size)


def one(batch: Batch, index: int) -> Batch:
    part = slice(index, index + 1)
    return Batch(
        batch.image[part].clone(), batch.target[part].clone(), batch.valid[part].clone(), None, batch.where[part]
    )


def draw(**changes: object) -> Draw:
    return Draw(PLACE, (5.0,), **changes)  # type: ignore[arg-type]


draws = st.builds(
    Draw,
    place=st.just(PLACE),
    heights_m=st.just((5.0,)),
    flip_rows=st.booleans(),
    flip_cols=st.booleans(),
    turns=st.integers(0, 3),
    rotate_deg=st.sampled_from([0.0, 10.0, -33.0]),
    zoom=st.sampled_from([1.0, 0.8, 1.3]),
    shift_m=st.sampled_from([0.0, 1.5]),
    noise_m=st.sampled_from([0.0, 0.4]),
    terrain_m=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 2**62 - 1),
)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flip_rows", [False, True])
@pytest.mark.parametrize("flip_cols", [False, True])
def test_mirror_images_and_turns_equal_those_of_numpy_bit_for_bit(turns: int, flip_rows: bool, flip_cols: bool) -> None:
    batch = batch_of()
    changed = augment(batch, [draw(turns=turns, flip_rows=flip_rows, flip_cols=flip_cols)] * 3)

    def expected(values: torch.Tensor) -> np.ndarray:
        out = values.numpy()
        out = np.flip(out, -2) if flip_rows else out
        out = np.flip(out, -1) if flip_cols else out
        return np.rot90(out, turns, axes=(-2, -1))

    np.testing.assert_array_equal(changed.image.numpy(), expected(batch.image))
    np.testing.assert_array_equal(changed.target.numpy(), expected(batch.target))
    np.testing.assert_array_equal(changed.valid.numpy(), expected(batch.valid))
    assert changed.image.is_contiguous()


@settings(max_examples=40, deadline=None)
@given(st.lists(draws, min_size=3, max_size=3))
def test_a_sample_does_not_depend_on_its_neighbours_bit_for_bit(chosen: list[Draw]) -> None:
    alone = [augment(one(batch_of(), index), [chosen[index]], pixel_size_m=[2.0], **SURFACE) for index in range(3)]
    together = augment(batch_of(), chosen, pixel_size_m=[2.0] * 3, **SURFACE)
    for index in range(3):
        assert torch.equal(together.image[index], alone[index].image[0])
        assert torch.equal(together.target[index], alone[index].target[0])
        assert torch.equal(together.valid[index], alone[index].valid[0])


@settings(max_examples=40, deadline=None)
@given(draws)
def test_pixels_that_do_not_count_stay_exactly_zero(chosen: Draw) -> None:
    changed = augment(batch_of(), [chosen] * 3, pixel_size_m=[2.0] * 3, **SURFACE)
    assert (changed.image.permute(0, 2, 3, 1)[~changed.valid] == 0).all()
    assert (changed.target[~changed.valid] == 0).all()
    assert torch.isfinite(changed.image).all()


def test_no_change_gives_the_same_values() -> None:
    batch = batch_of()
    changed = augment(batch, [draw()] * 3)
    assert torch.equal(changed.image, batch.image)
    assert torch.equal(changed.target, batch.target)
    assert changed.where == batch.where


def test_a_free_rotation_turns_counterclockwise_around_the_centre() -> None:
    batch = batch_of(size=1, missing=0.0)
    quarter = np.rot90(batch.image.numpy(), 1, axes=(-2, -1))
    changed = augment(batch_of(size=1, missing=0.0), [draw(rotate_deg=90.0)])
    assert changed.valid[0, 1:-1, 1:-1].all()
    np.testing.assert_allclose(changed.image.numpy()[..., 1:-1, 1:-1], quarter[..., 1:-1, 1:-1], atol=2e-5)


@pytest.mark.parametrize(("angle", "zoom"), [(25.0, 1.0), (-40.0, 1.3), (0.0, 0.7), (12.0, 0.9)])
def test_one_resampling_agrees_with_scipy(angle: float, zoom: float) -> None:
    batch = batch_of(size=1, px=40, bands=1, missing=0.0)
    image, target = batch.image[0, 0].numpy().copy(), batch.target[0].numpy().copy()
    changed = augment(batch, [draw(rotate_deg=angle, zoom=zoom)])
    cos, sin = np.cos(np.radians(angle)) / zoom, np.sin(np.radians(angle)) / zoom
    matrix = np.array([[cos, sin], [-sin, cos]])  # (row, col) of the result to (row, col) of the source
    offset = 19.5 - matrix @ (19.5, 19.5)
    linear = ndimage.affine_transform(image, matrix, offset, order=1, mode="nearest")
    nearest = ndimage.affine_transform(target, matrix, offset, order=0, mode="nearest")
    rows, cols = np.indices((40, 40))
    source = np.einsum("ij,jhw->ihw", matrix, np.stack([rows, cols])) + offset[:, None, None]
    inside = ((source > 0.01) & (source < 38.99)).all(axis=0)
    outside = ((source < -0.51) | (source > 39.51)).any(axis=0)
    valid = changed.valid[0].numpy()
    assert valid[inside].all()
    assert not valid[outside].any()
    np.testing.assert_allclose(changed.image[0, 0].numpy()[inside], linear[inside], atol=1e-4)
    clear = inside & (np.abs(source % 1 - 0.5) > 0.01).all(axis=0)  # halfway between two pixels either is nearest
    np.testing.assert_array_equal(changed.target[0].numpy()[clear], nearest[clear])


def test_values_under_nodata_do_not_bleed_into_their_neighbours() -> None:
    batch = batch_of(size=1, bands=1, missing=0.3)
    batch.image[:] = batch.valid[:, None].float() * 7.0
    batch.target[:] = batch.valid.float() * 12.0
    changed = augment(batch, [draw(rotate_deg=30.0, zoom=1.2)])
    assert 0.4 < changed.valid.float().mean() < 0.9
    torch.testing.assert_close(
        changed.image[0, 0][changed.valid[0]], torch.full_like(changed.image, 7.0)[0, 0][changed.valid[0]]
    )
    assert (changed.target[changed.valid] == 12.0).all()


def test_heights_keep_their_metres_when_things_are_zoomed() -> None:
    batch = batch_of(size=1, missing=0.0)
    before = set(batch.target.numpy().ravel().tolist())
    changed = augment(batch, [draw(zoom=1.25)])
    assert set(changed.target.numpy().ravel().tolist()) <= before


def test_class_ids_survive_a_free_rotation() -> None:
    batch = batch_of(size=1)
    batch.target = torch.randint(0, 5, (1, 24, 24))
    assert augment(batch, [draw(rotate_deg=20.0)]).target.dtype == torch.int64


def test_a_shift_adds_metres_to_the_surface_alone() -> None:
    batch = batch_of()
    changed = augment(one(batch, 0), [draw(shift_m=3.0)], **SURFACE)
    added = (changed.image - batch.image[:1])[0]
    valid = batch.valid[0]
    torch.testing.assert_close(added[0][valid], torch.full_like(added[0][valid], 0.1))
    assert (added[1] == 0).all()
    assert torch.equal(changed.target, batch.target[:1])


def test_noise_has_the_standard_deviation_asked() -> None:
    batch = batch_of(size=1, px=128, bands=1, missing=0.0)
    before = batch.image.clone()
    changed = augment(batch, [draw(noise_m=0.6, seed=9)], **SURFACE)
    added_m = (changed.image - before) * 30.0
    assert float(added_m.std()) == pytest.approx(0.6, rel=0.05)
    assert float(added_m.mean()) == pytest.approx(0.0, abs=0.03)


def test_terrain_is_smooth_and_shifts_image_but_not_canopy() -> None:
    batch = batch_of(size=1, px=128, bands=1, missing=0.0)
    before = batch.image.clone()
    changed = augment(batch, [draw(terrain_m=6.0, terrain_wavelength_m=40.0, seed=2)], pixel_size_m=[1.0], **SURFACE)
    hills_m = ((changed.image - before) * 30.0)[0, 0]
    assert 3.0 < float(hills_m.std()) < 9.0
    assert float(hills_m.diff(dim=0).abs().max()) < 3.0
    assert torch.equal(changed.target, batch.target)


def test_metres_without_a_surface_in_metres_are_refused() -> None:
    with pytest.raises(DataError, match=r"this input has no surface in metres.*data\.normalise\.kind: metres"):
        augment(batch_of(), [draw(noise_m=0.1)] * 3, scale_m=None, surface_bands=(0,))
    with pytest.raises(DataError, match="this input has no surface in metres"):
        augment(batch_of(), [draw(shift_m=0.1)] * 3, scale_m=30.0, surface_bands=())


def test_a_draw_is_needed_for_each_sample() -> None:
    with pytest.raises(ShapeError, match="2 draws were given for a batch of 3 samples"):
        augment(batch_of(), [draw()] * 2)


def test_oblong_tiles_cannot_be_turned_by_a_quarter() -> None:
    batch = Batch(
        torch.zeros(1, 1, 8, 12), torch.zeros(1, 8, 12), torch.ones(1, 8, 12, dtype=torch.bool), None, (PLACE,)
    )
    with pytest.raises(ShapeError, match="8 x 12 px cannot be turned by 90 degrees"):
        augment(batch, [draw(turns=1)])
    assert augment(batch, [draw(turns=2)]).image.shape == (1, 1, 8, 12)


def test_a_clearing_lowers_canopy_and_surface_by_the_same_metres_and_nothing_else():
    generator = torch.Generator().manual_seed(3)
    canopy = 10 + 20 * torch.rand((2, 32, 32), generator=generator)
    valid = torch.ones((2, 32, 32), dtype=torch.bool)
    valid[:, :4] = False
    canopy[~valid] = 0.0
    ground = torch.where(valid, 3.0, 0.0)
    image = ((ground + canopy) / 30)[:, None]
    batch = Batch(image.clone(), canopy.clone(), valid, None, (PLACE, PLACE))
    draws = [Draw(PLACE, (5.0,), seed=5, clear_share=0.5, regrowth_m=2.0), Draw(PLACE, (5.0,), seed=6)]
    changed = augment(batch, draws, pixel_size_m=(1.0, 1.0), scale_m=30.0, surface_bands=(0,))
    cleared = (changed.target[0] == 2.0) & valid[0]
    assert 0.3 < cleared.float().mean() < 0.6  # half the tile, less what is not valid
    assert torch.equal(changed.target[0][~cleared], canopy[0][~cleared])
    torch.testing.assert_close(changed.image[0, 0] * 30, torch.where(valid[0], 3.0 + changed.target[0], 0.0))
    assert torch.equal(changed.target[1], canopy[1])  # the other sample drew none
    assert torch.equal(changed.image[1], image[1])


def test_a_clearing_needs_heights_in_metres():
    batch = Batch(torch.zeros(1, 1, 8, 8), torch.zeros(1, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool), None, (PLACE,))
    with pytest.raises(DataError, match="clearing_p"):
        augment(batch, [Draw(PLACE, (5.0,), clear_share=1.0)])
