from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from maskwright.data.augment import oriented
from maskwright.data.image_augment import ImageChanger, UnitScale, augment_images, color_bands, unit_scale
from maskwright.data.image_augment_draw import ImageAugment, ImageChange, draw_change
from maskwright.data.image_augment_light import color_matrix
from maskwright.data.image_augment_warp import _warp_cv2, _warp_grid, displacement, move_boxes, source_map
from maskwright.data.sampling import Draw
from maskwright.errors import DataError, ShapeError
from maskwright.types import Batch, Place, Window

PX = 32
PLACE = Place("a", Window(0, 0, PX, PX))
UNIT = UnitScale((0.25, 0.25, 0.25), (0.5, 0.5, 0.5))
COLORS = (0, 1, 2)


def batch_of(size: int = 3, px: int = PX, missing: float = 0.2) -> Batch:
    rng = np.random.default_rng(0)
    valid = rng.random((size, px, px)) >= missing
    image = (rng.uniform(-2, 2, (size, 3, px, px)) * valid[:, None]).astype(np.float32)
    target = rng.choice([0, 3, 7], (size, px, px)) * valid
    return Batch(torch.from_numpy(image), torch.from_numpy(target), torch.from_numpy(valid), None, (PLACE,) * size)


def change(batch: Batch, draws: list[Draw]) -> Batch:
    copy = replace(batch, image=batch.image.clone(), target=batch.target.clone(), valid=batch.valid.clone())
    return augment_images(copy, draws, unit=UNIT, colors=COLORS)


def part(batch: Batch, index: int) -> Batch:
    cut = slice(index, index + 1)
    return Batch(batch.image[cut], batch.target[cut], batch.valid[cut], None, batch.where[cut])


changes = st.builds(
    ImageChange,
    shift_rows=st.sampled_from([0.0, 0.1]),
    elastic_alpha_px=st.sampled_from([0.0, 40.0]),
    elastic_sigma_px=st.just(4.0),
    band_shift_px=st.sampled_from([0.0, 1.5]),
    brightness=st.sampled_from([0.0, 0.2]),
    contrast=st.sampled_from([0.0, -0.3]),
    gamma=st.sampled_from([1.0, 0.7]),
    hue_deg=st.sampled_from([0.0, 30.0]),
    saturation=st.sampled_from([0.0, 0.4]),
    blur_px=st.sampled_from([0.0, 1.3]),
    vignette=st.sampled_from([0.0, 0.4]),
    shadow=st.sampled_from([0.0, 0.5]),
    haze=st.sampled_from([0.0, 0.2]),
    fog=st.sampled_from([0.0, 0.3]),
    flare=st.sampled_from([0.0, 0.4]),
    sensor=st.sampled_from([0.0, 0.8]),
    noise=st.sampled_from([0.0, 0.05]),
)
draws = st.builds(
    Draw,
    place=st.just(PLACE),
    heights_m=st.just(()),
    flip_rows=st.booleans(),
    flip_cols=st.booleans(),
    turns=st.integers(0, 3),
    rotate_deg=st.sampled_from([0.0, 20.0]),
    zoom=st.sampled_from([1.0, 0.8, 1.3]),
    seed=st.integers(0, 2**62 - 1),
    image=changes,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(draws, min_size=3, max_size=3))
def test_a_sample_does_not_depend_on_its_neighbours_bit_for_bit(chosen: list[Draw]) -> None:
    together = change(batch_of(), chosen)
    for index, draw in enumerate(chosen):
        alone = change(part(batch_of(), index), [draw])
        for name in ("image", "target", "valid"):
            assert torch.equal(getattr(together, name)[index], getattr(alone, name)[0]), name


@settings(max_examples=40, deadline=None)
@given(draws)
def test_what_does_not_count_stays_zero_and_mask_values_stay_in_their_set(chosen: Draw) -> None:
    changed = change(batch_of(), [chosen] * 3)
    assert (changed.image.permute(0, 2, 3, 1)[~changed.valid] == 0).all()
    assert (changed.target[~changed.valid] == 0).all()
    assert changed.target.dtype == torch.int64
    assert set(changed.target.unique().tolist()) <= {0, 3, 7}
    assert torch.isfinite(changed.image).all()
    assert changed.image.is_contiguous()


@settings(max_examples=40, deadline=None)
@given(draws)
def test_pixels_that_count_do_not_see_those_that_do_not(chosen: Draw) -> None:
    """The same value wherever a pixel counts: a blur or a warp that took zeros in would make it darker."""
    batch = batch_of(size=1, missing=0.4)
    quiet = replace(chosen.image or ImageChange(), vignette=0.0, shadow=0.0, fog=0.0, flare=0.0, sensor=0.0, noise=0.0)
    batch.image[:] = batch.valid[:, None] * 0.8
    changed = change(batch, [replace(chosen, image=quiet)])
    for band in range(3):
        values = changed.image[0, band][changed.valid[0]]
        torch.testing.assert_close(values, values[:1].expand_as(values), atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.booleans(), st.booleans(), st.integers(0, 3))
def test_mirror_images_and_turns_have_inverses(flip_rows: bool, flip_cols: bool, turns: int) -> None:
    batch = batch_of(size=1)
    there = change(batch, [Draw(PLACE, (), flip_rows, flip_cols, turns, image=ImageChange())])
    back = change(there, [Draw(PLACE, (), turns=(4 - turns) % 4, image=ImageChange())])
    again = change(back, [Draw(PLACE, (), flip_rows, flip_cols, image=ImageChange())])
    for name in ("image", "target", "valid"):
        assert torch.equal(getattr(again, name), getattr(batch, name))


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [(False, False), (True, False), (False, True), (True, True)])
def test_a_resampling_mirrors_and_turns_as_the_exact_way_does(turns: int, mirrored: tuple[bool, bool]) -> None:
    batch = batch_of(size=1, missing=0.0)
    draw = Draw(PLACE, (), *mirrored, turns, rotate_deg=360.0, image=ImageChange())
    changed = change(batch, [draw])
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(changed.image[0][inner], oriented(batch.image[0], draw)[inner], atol=1e-4, rtol=0)
    assert torch.equal(changed.target[0][inner], oriented(batch.target[0], draw)[inner])


@pytest.mark.parametrize("elastic", [0.0, 30.0])
@pytest.mark.parametrize("bands", [0.0, 1.0])
def test_both_ways_of_resampling_agree(elastic: float, bands: float) -> None:
    px = 64
    rows, cols = np.mgrid[:px, :px]
    image = torch.from_numpy(np.stack([np.sin(rows / 9 + band) + np.cos(cols / 7) for band in range(3)]).astype("f4"))
    valid = torch.from_numpy((rows - 20) ** 2 + (cols - 30) ** 2 > 60)
    target = torch.from_numpy((rows // 16 + cols // 16) % 5)
    image, target = image * valid, target * valid
    draw = Draw(
        Place("a", Window(0, 0, px, px)),
        (),
        flip_cols=True,
        turns=1,
        rotate_deg=17.0,
        zoom=1.2,
        seed=4,
        image=ImageChange(0.05, -0.1, elastic, 5.0, bands),
    )
    shifts = np.array([[0, 0], [0.7, -0.4], [-0.3, 0.9]]) if bands else None
    how = source_map(draw, px, px), displacement(draw, px, px), shifts
    one = torch.empty_like(image), torch.empty_like(target), torch.empty_like(valid)
    _warp_cv2((image, target, valid), *how, one)
    other = _warp_grid(image, target, valid, *how)
    both = one[2] & other[2]
    assert (one[2] != other[2]).float().mean() < 0.01  # ties between two nearest pixels
    assert (one[1] != other[1])[both].float().mean() < 0.01
    assert both.float().mean() > 0.6
    assert float((one[0] - other[0]).abs()[:, both].max()) < 0.02


@pytest.mark.parametrize("largest", [250, 2**15 - 1])
def test_ids_come_from_the_nearest_pixel_exactly(largest: int) -> None:
    px, random = 97, np.random.default_rng(5)
    target = random.integers(0, largest + 1, (px, px))
    draw = Draw(Place("a", Window(0, 0, px, px)), (), flip_rows=True, rotate_deg=23.0, zoom=0.8, image=ImageChange(0.1))
    batch = Batch(
        torch.zeros(1, 1, px, px), torch.from_numpy(target)[None], torch.ones(1, px, px, dtype=torch.bool), None, ()
    )
    changed = augment_images(replace(batch, where=(draw.place,)), [draw], unit=UnitScale((1.0,), (0.0,)))
    affine, (y, x) = source_map(draw, px, px), np.mgrid[:px, :px]
    cols, rows = (np.rint(row[0] * x + row[1] * y + row[2]).astype(int) for row in affine)
    inside = (rows >= 0) & (rows < px) & (cols >= 0) & (cols < px)
    assert np.array_equal(changed.valid[0].numpy(), inside)
    expected = np.where(inside, target[rows.clip(0, px - 1), cols.clip(0, px - 1)], 0)
    assert np.array_equal(changed.target[0].numpy(), expected)


def test_noise_follows_the_normal_distribution() -> None:
    px = 256
    place = Place("a", Window(0, 0, px, px))
    batch = Batch(
        torch.full((1, 2, px, px), 0.5), torch.zeros(1, px, px), torch.ones(1, px, px, dtype=torch.bool), None, (place,)
    )
    draw = Draw(place, (), seed=9, image=ImageChange(noise=0.1))
    changed = augment_images(batch, [draw], unit=UnitScale((1.0, 1.0), (0.0, 0.0), clip=False))
    noise = (changed.image.numpy().ravel() - 0.5) / 0.1
    assert stats.kstest(noise, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.01
    assert noise.max() > 3.5


def test_light_is_told_for_values_of_zero_to_one() -> None:
    batch = batch_of(size=1, missing=0.0)
    batch.image[:] = 0.4  # 0.6 of 0..1
    changed = change(batch, [Draw(PLACE, (), image=ImageChange(brightness=0.1, contrast=0.5))])
    assert changed.image.mean().item() == pytest.approx(((0.6 - 0.5) * 1.5 + 0.5 + 0.1 - 0.5) / 0.25, abs=1e-5)
    bright = change(batch, [Draw(PLACE, (), image=ImageChange(brightness=0.9))])
    assert bright.image.max().item() == pytest.approx(2.0)  # cut at 1


def test_light_left_alone_keeps_every_bit() -> None:
    batch = batch_of()
    assert torch.equal(change(batch, [Draw(PLACE, (), image=ImageChange())] * 3).image, batch.image)


def test_grey_stays_grey_and_brightness_stays_when_colours_turn() -> None:
    matrix = color_matrix(40.0, 0.3)
    np.testing.assert_allclose(matrix @ [0.7, 0.7, 0.7], [0.7] * 3, atol=1e-6)
    np.testing.assert_allclose([0.299, 0.587, 0.114] @ matrix, [0.299, 0.587, 0.114], atol=1e-6)
    np.testing.assert_allclose(color_matrix(360.0, 0.0), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(color_matrix(25.0, 0.0) @ color_matrix(-25.0, 0.0), np.eye(3), atol=1e-9)


def test_noise_has_the_deviation_asked() -> None:
    batch = batch_of(size=1, px=96, missing=0.0)
    batch.image[:] = 0.0
    changed = change(batch, [Draw(PLACE, (), seed=3, image=ImageChange(noise=0.04))])
    assert float(changed.image.std() * 0.25) == pytest.approx(0.04, rel=0.03)


@settings(max_examples=40, deadline=None)
@given(draws)
def test_boxes_follow_their_masks(chosen: Draw) -> None:
    px = 96
    still = replace(chosen.image or ImageChange(), elastic_alpha_px=0.0, band_shift_px=0.0)
    draw = replace(chosen, image=still)
    target = torch.zeros(1, px, px, dtype=torch.int64)
    target[0, 40:60, 30:66] = 1
    batch = Batch(torch.zeros(1, 3, px, px), target, torch.ones(1, px, px, dtype=torch.bool), None, (PLACE,))
    moved = change(batch, [draw]).target[0].numpy()
    rows, cols = np.nonzero(moved)
    x0, y0, x1, y1 = move_boxes(np.array([[30, 40, 66, 60]]), draw, (px, px))[0]
    assert [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1] == pytest.approx([x0, y0, x1, y1], abs=2.1)
    if not draw.is_warped:
        assert [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1] == [x0, y0, x1, y1]


@dataclass(frozen=True)
class Objects:
    boxes: np.ndarray

    def moved(self, draw: Draw) -> Objects:
        return Objects(move_boxes(self.boxes, draw, (PX, PX)))


def test_instances_of_a_batch_are_moved_with_it() -> None:
    batch = batch_of(size=2)
    batch.instances = [Objects(np.array([[2.0, 4.0, 10.0, 6.0]])) for _ in range(2)]
    changed = augment_images(batch, [Draw(PLACE, (), flip_cols=True), Draw(PLACE, ())], unit=UNIT)
    assert changed.instances is not None
    assert changed.instances[0].boxes.tolist() == [[PX - 10, 4, PX - 2, 6]]  # type: ignore[attr-defined]
    assert changed.instances[1].boxes.tolist() == [[2, 4, 10, 6]]  # type: ignore[attr-defined]


def test_a_point_is_displaced_smoothly_and_by_its_own_seed() -> None:
    field = displacement(Draw(PLACE, (), seed=1, image=ImageChange(0, 0, 50.0, 5.0)), 128, 128)
    other = displacement(Draw(PLACE, (), seed=2, image=ImageChange(0, 0, 50.0, 5.0)), 128, 128)
    assert field is not None
    assert other is not None
    assert 0.8 < field.std() < 2.5  # 50 * 0.577 / (2 * sqrt(pi) * 5) = 1.6 px
    assert np.abs(np.diff(field, axis=1)).max() < 1.5
    assert not np.array_equal(field, other)


def test_values_of_the_stored_type_are_reached_whatever_the_normalisation() -> None:
    imagenet = SimpleNamespace(kind="imagenet", shift=(123.675, 116.28, 103.53), scale=(58.395, 57.12, 57.375))
    scale = unit_scale(imagenet, 255.0, 3)
    assert (255.0 - 123.675) / 58.395 * scale.gain[0] + scale.offset[0] == pytest.approx(1.0)
    assert scale.clip
    standard = unit_scale(SimpleNamespace(kind="standard", shift=(5.0,), scale=(2.0,)), None, 1)
    assert (standard.gain, standard.offset, standard.clip) == ((0.25,), (0.5,), False)
    assert unit_scale(SimpleNamespace(kind="per_tile_bands"), 255.0, 2).gain == (1.0, 1.0)


def test_hue_without_known_colours_is_refused_at_the_start() -> None:
    assert color_bands(("Red", "green", "BLUE", "nir"), 4) == (0, 1, 2)
    assert color_bands(("1", "2", "3", "4"), 4) is None
    assert color_bands((), 3) == (0, 1, 2)
    with pytest.raises(DataError, match=r"color_p: hue and saturation need .* 1 \(grey\)\. Set color_p: 0"):
        ImageChanger(ImageAugment(color_p=0.3), in_channels=1, band_names=("grey",))
    ImageChanger(ImageAugment(color_p=0.3, strength=0.0), in_channels=1)


def test_draws_and_samples_must_agree() -> None:
    with pytest.raises(ShapeError, match="2 draws were given for a batch of 3 samples"):
        augment_images(batch_of(), [Draw(PLACE, ())] * 2, unit=UNIT)
    oblong = Batch(torch.zeros(1, 3, 8, 12), torch.zeros(1, 8, 12), torch.ones(1, 8, 12, dtype=torch.bool), None, ())
    oblong.where = (PLACE,)
    with pytest.raises(ShapeError, match="8 x 12 px cannot be turned"):
        augment_images(oblong, [Draw(PLACE, (), turns=1)], unit=UNIT)


EVERYTHING = ImageAugment(
    **{f"{name}_p": 0.5 for name in ("flip", "turn", "rotate", "crop", "elastic", "brightness", "gamma", "color")},
    **{f"{name}_p": 0.5 for name in ("noise", "blur", "shadow", "haze", "fog", "flare", "sensor", "vignette")},
    band_shift_p=0.5,
)


def test_switching_one_change_off_leaves_the_others_as_they_were() -> None:
    for seed in range(50):
        full = draw_change(np.random.default_rng(seed), EVERYTHING)
        calm = draw_change(np.random.default_rng(seed), replace(EVERYTHING, fog_p=0.0, brightness_p=0.0))
        assert calm == (replace(full[0], fog=0.0, brightness=0.0, contrast=0.0), *full[1:])


def test_one_knob_makes_everything_rarer_or_more_frequent() -> None:
    none = [draw_change(np.random.default_rng(seed), replace(EVERYTHING, strength=0.0)) for seed in range(30)]
    assert set(none) == {(ImageChange(), 0.0, 1.0)}
    always = [draw_change(np.random.default_rng(seed), replace(EVERYTHING, strength=2.0))[0] for seed in range(30)]
    assert all(change.fog and change.noise and change.blur_px and change.shadow for change in always)
    half = [draw_change(np.random.default_rng(seed), EVERYTHING)[0].fog > 0 for seed in range(600)]
    assert np.mean(half) == pytest.approx(0.5, abs=0.07)


def test_a_cut_out_never_leaves_the_tile() -> None:
    only = ImageAugment(crop_p=1.0, crop_zoom=(1.1, 2.0))
    for seed in range(50):
        drawn, _, zoom = draw_change(np.random.default_rng(seed), only)
        changed = change(batch_of(size=1, missing=0.0), [Draw(PLACE, (), zoom=zoom, image=drawn)])
        assert changed.valid[0, 1:-1, 1:-1].all()


def test_the_record_names_what_was_done_and_nothing_else() -> None:
    draw = Draw(PLACE, (), flip_cols=True, rotate_deg=3.0, seed=9, image=ImageChange(fog=0.2))
    assert draw.describe() == {
        "scene": "a",
        "window": [0, 0, PX, PX],
        "flip_cols": True,
        "rotate_deg": 3.0,
        "fog": 0.2,
    }
