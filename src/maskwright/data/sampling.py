"""From (seed, epoch, position) to everything random about a training sample: tile, shift, heights, augmentation.

There is no hidden state: the same three numbers give the same sample in any process, in any order, on any day. So
results do not depend on the number of workers, and a run goes on in the middle of an epoch by starting at a position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from maskwright.data.balance import TileBalance, build_order, rng
from maskwright.data.image_augment_draw import ImageAugment, ImageChange, draw_change
from maskwright.data.regions import Split
from maskwright.errors import DataError
from maskwright.types import Place, Window

__all__ = ["Augment", "Centres", "Draw", "HeightChoice", "ImageAugment", "ImageChange", "Mix", "TrainPlan", "rng"]

Centres = Callable[[str], Mapping[int, np.ndarray]]

_SAMPLES, _IMAGES, _PARTNERS = 0, 2, 3  # streams of random numbers; 1 and 5 belong to the order of tiles


@dataclass(frozen=True, slots=True)
class Augment:
    """What may be changed about a training tile; see the settings of the same names.

    Attributes:
        jitter: Shift the window at random, by half a tile at most, inside its region.
        flip_p: Probability of a mirror image, for each axis.
        turn_p: Probability of a turn by 90, 180 or 270 degrees.
        rotate_p: Probability of a free rotation and zoom.
        rotate_deg: Largest free rotation, in degrees to either side.
        zoom: Smallest and largest zoom; above 1 things look larger.
        noise_m: Standard deviation of noise added to the surface, in metres.
        shift_m: Standard deviation of a constant added to the surface of a tile, in metres.
        terrain_p: Probability that smooth terrain is added to the surface.
        terrain_m: Standard deviation of that terrain, in metres.
        terrain_wavelength_m: Typical distance between its hills, in metres.
        clearing_p: Probability that part of a tile is cleared to low regrowth.
        clearing_regrowth_m: Highest regrowth left there, in metres.
    """

    jitter: bool = True
    flip_p: float = 0.5
    turn_p: float = 0.75
    rotate_p: float = 0.0
    rotate_deg: float = 15.0
    zoom: tuple[float, float] = (0.8, 1.25)
    noise_m: float = 0.0
    shift_m: float = 0.0
    terrain_p: float = 0.0
    terrain_m: float = 5.0
    terrain_wavelength_m: float = 150.0
    clearing_p: float = 0.0
    clearing_regrowth_m: float = 5.0

    @property
    def changes_surface(self) -> bool:
        """True if metres are added to the surface, ever."""
        return self.noise_m > 0 or self.shift_m > 0 or (self.terrain_p > 0 and self.terrain_m > 0)


@dataclass(frozen=True, slots=True)
class HeightChoice:
    """The heights a training sample may be asked for.

    Attributes:
        heights_m: A list, in metres; empty if ``range_m`` is given.
        range_m: Lowest and highest, drawn from uniformly; None to draw from the list.
        per_sample: Different heights asked of each sample.
    """

    heights_m: tuple[float, ...] = ()
    range_m: tuple[float, float] | None = None
    per_sample: int = 1

    def __post_init__(self) -> None:
        if (self.range_m is None) == (not self.heights_m):
            raise DataError("Give the training heights as a list or as a range, one of both.")
        if self.range_m is None and self.per_sample > len(self.heights_m):
            raise DataError(
                f"task.heights_per_sample: {self.per_sample} different heights cannot be drawn from "
                f"{len(self.heights_m)}. Use at most {len(self.heights_m)}, or more heights."
            )
        if self.range_m is not None and not self.range_m[0] < self.range_m[1]:
            raise DataError(f"task.train_range_m: {list(self.range_m)} must rise. Give the lowest height first.")

    def draw(self, generator: np.random.Generator) -> tuple[float, ...]:
        """Heights in metres, ascending."""
        if self.range_m is None:
            chosen = generator.permutation(len(self.heights_m))[: self.per_sample]
            return tuple(sorted(float(self.heights_m[index]) for index in chosen))
        low, high = self.range_m
        return tuple(sorted(float(height) for height in low + (high - low) * generator.random(self.per_sample)))


@dataclass(frozen=True, slots=True)
class Draw:
    """Everything random about one training sample; also the record of what was done to it.

    Attributes:
        place: Scene and window it is read from, jitter included.
        heights_m: Heights asked, in metres, ascending.
        flip_rows: Mirrored up and down, first.
        flip_cols: Mirrored left and right, second.
        turns: Quarter turns counterclockwise, third; 0 to 3.
        rotate_deg: Free rotation counterclockwise, in degrees, fourth; together with ``zoom`` in one resampling.
        zoom: Above 1 things look larger.
        shift_m: Added to the surface, in metres.
        noise_m: Standard deviation of noise added to the surface, in metres.
        terrain_m: Standard deviation of terrain added to the surface, in metres.
        terrain_wavelength_m: Typical distance between its hills, in metres.
        seed: Of the random fields of this sample.
        clear_share: Share of the tile that is cleared, 0..1, after the resampling and before metres are added.
        regrowth_m: Height the canopy is lowered to there, in metres.
        image: What else was done to an image; None for heights, or if nothing may be changed.
        mix: The second sample the image is mixed with; None for none.
    """

    place: Place
    heights_m: tuple[float, ...]
    flip_rows: bool = False
    flip_cols: bool = False
    turns: int = 0
    rotate_deg: float = 0.0
    zoom: float = 1.0
    shift_m: float = 0.0
    noise_m: float = 0.0
    terrain_m: float = 0.0
    terrain_wavelength_m: float = 150.0
    seed: int = 0
    clear_share: float = 0.0
    regrowth_m: float = 0.0
    image: ImageChange | None = None
    mix: Mix | None = None

    @property
    def is_warped(self) -> bool:
        warped = self.image is not None and self.image.is_warped
        return warped or self.rotate_deg != 0.0 or self.zoom != 1.0

    def describe(self) -> dict[str, Any]:
        """Where the sample comes from and what was done to it, as plain values; what was not done is left out."""
        window = self.place.window
        told: dict[str, Any] = {
            "scene": self.place.scene,
            "window": [window.row, window.col, window.height, window.width],
        }
        if self.heights_m:
            told["heights_m"] = list(self.heights_m)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in _TOLD_APART and value != field.default:
                told[field.name] = value
        if not self.terrain_m:
            told.pop("terrain_wavelength_m", None)
        if not self.clear_share:
            told.pop("regrowth_m", None)
        if self.image is not None:
            told.update(self.image.describe())
        if self.mix is not None:
            told["mix"] = {"share": self.mix.share, "partner": self.mix.partner.describe()}
        return told


@dataclass(frozen=True, slots=True)
class Mix:
    """A second sample mixed into the first.

    Attributes:
        share: How much of the image comes from the first sample, 0..1.
        partner: The second sample, with changes of its own.
    """

    share: float
    partner: Draw


_TOLD_APART = ("place", "heights_m", "image", "mix", "seed")


class TrainPlan:
    """Which sample stands at which position of which epoch.

    Tiles come in random order, round after round, through all epochs: after any number of samples no tile was seen
    more than once more often than another, unless a balance says otherwise.

    Args:
        split: Tiles and regions of the part ``train`` are used.
        heights: What may be asked; None: nothing, for tasks of classes.
        augment: What may be changed; None: nothing, not even the window.
        seed: Not negative.
        samples_per_epoch: Length of an epoch; None: one round of the tiles.
        balance: Which tiles come more often; None: none.
        centres: Scene to some pixels (N, 2) row, column of each class in it; needed for ``centre_p``.

    Raises:
        DataError: If there is no training tile, or samples are to be centred on classes and no centres are known.
    """

    def __init__(
        self,
        split: Split,
        heights: HeightChoice | None,
        augment: Augment | ImageAugment | None = None,
        *,
        seed: int,
        samples_per_epoch: int | None = None,
        balance: TileBalance | None = None,
        centres: Centres | None = None,
    ) -> None:
        self.places = split.tiles["train"]
        if not self.places:
            raise DataError("There is no training tile: the part train of the split is empty.")
        if isinstance(augment, ImageAugment) and augment.centre_p > 0 and centres is None:
            raise DataError("data.augment.centre_p: these data name no pixels of their classes. Set it to 0.")
        self.heights = heights
        self.augment = augment
        self.seed = seed
        self.samples_per_epoch = samples_per_epoch or len(self.places)
        self.notes = balance.notes if balance is not None else ()
        self._regions = [split.region_of(place).window for place in self.places]
        self._spans = [_span(place.window, region) for place, region in zip(self.places, self._regions, strict=True)]
        self._order = build_order(len(self.places), balance, seed=seed, samples_per_epoch=self.samples_per_epoch)
        self._centres = centres

    def __len__(self) -> int:
        return self.samples_per_epoch

    def draw(self, epoch: int, position: int) -> Draw:
        """The sample at a position of an epoch, both from 0; a pure function of the seed and the two.

        Numbers are drawn in a fixed order and all of them are drawn whatever the settings, so switching one change on
        or off leaves the others as they are. New kinds of changes take their numbers at the end.
        """
        index = self._order.tile(epoch, position)
        generator = rng(self.seed, epoch, position, _SAMPLES)
        if isinstance(self.augment, ImageAugment):
            draw = self._image_draw(index, generator, rng(self.seed, epoch, position, _IMAGES), self.augment)
            return self._mixed(draw, epoch, position, self.augment)
        return self._height_draw(index, generator, self.augment)

    def _height_draw(self, index: int, generator: np.random.Generator, augment: Augment | None) -> Draw:
        place = self.places[index]
        uniform = generator.random(12)
        shift = float(generator.standard_normal())
        seed = int(generator.integers(2**62))
        heights_m = self.heights.draw(generator) if self.heights is not None else ()
        clearing = generator.random(3)
        if augment is None:
            return Draw(place, heights_m, seed=seed)
        warp = uniform[6] < augment.rotate_p
        return Draw(
            place=self._jittered(index, uniform) if augment.jitter else place,
            heights_m=heights_m,
            flip_rows=bool(uniform[2] < augment.flip_p),
            flip_cols=bool(uniform[3] < augment.flip_p),
            turns=1 + int(uniform[5] * 3) if uniform[4] < augment.turn_p else 0,
            rotate_deg=float(2 * uniform[7] - 1) * augment.rotate_deg if warp else 0.0,
            zoom=float(augment.zoom[0] * (augment.zoom[1] / augment.zoom[0]) ** uniform[8]) if warp else 1.0,
            shift_m=shift * augment.shift_m,
            noise_m=augment.noise_m,
            terrain_m=augment.terrain_m if uniform[9] < augment.terrain_p else 0.0,
            terrain_wavelength_m=augment.terrain_wavelength_m,
            seed=seed,
            clear_share=float(clearing[1]) if clearing[0] < augment.clearing_p else 0.0,
            regrowth_m=float(clearing[2]) * augment.clearing_regrowth_m,
        )

    def _image_draw(
        self, index: int, generator: np.random.Generator, changes: np.random.Generator, augment: ImageAugment
    ) -> Draw:
        uniform = generator.random(12)
        seed = int(generator.integers(2**62))
        heights_m = self.heights.draw(generator) if self.heights is not None else ()
        change, rotate_deg, zoom = draw_change(changes, augment)
        place = self._centred(index, uniform) if uniform[6] < augment.centre_p else None
        if place is None:
            place = self._jittered(index, uniform) if augment.jitter else self.places[index]
        return Draw(
            place=place,
            heights_m=heights_m,
            flip_rows=bool(uniform[2] < augment.chance("flip")),
            flip_cols=bool(uniform[3] < augment.chance("flip")),
            turns=1 + int(uniform[5] * 3) if uniform[4] < augment.chance("turn") else 0,
            rotate_deg=rotate_deg,
            zoom=zoom,
            seed=seed,
            image=change,
        )

    def _mixed(self, draw: Draw, epoch: int, position: int, augment: ImageAugment) -> Draw:
        generator = rng(self.seed, epoch, position, _PARTNERS)
        share = float(generator.beta(augment.mixup_alpha, augment.mixup_alpha))
        if generator.random() >= augment.chance("mixup"):
            return draw
        index = int(generator.integers(len(self.places)))
        partner = self._image_draw(index, generator, generator, augment)
        return replace(draw, mix=Mix(max(share, 1.0 - share), partner))

    def _jittered(self, index: int, uniform: np.ndarray) -> Place:
        place = self.places[index]
        return Place(place.scene, _shifted(place.window, self._spans[index], uniform))

    def _centred(self, index: int, uniform: np.ndarray) -> Place | None:
        """A window around a pixel of a class drawn evenly, inside the region of the tile; None if it holds none."""
        place, region = self.places[index], self._regions[index]
        low, high = np.array([region.row, region.col]), np.array([region.row_stop, region.col_stop])
        inside = []
        for _, pixels in sorted(self._centres(place.scene).items() if self._centres else ()):
            kept = pixels[((pixels >= low) & (pixels < high)).all(axis=1)]
            if len(kept):
                inside.append(kept)
        if not inside:
            return None
        pixels = inside[int(uniform[7] * len(inside))]
        row, col = (int(value) for value in pixels[int(uniform[8] * len(pixels))])
        window = place.window
        return Place(
            place.scene,
            Window(
                _centred_start(row, window.row, window.height, region.row, region.row_stop),
                _centred_start(col, window.col, window.width, region.col, region.col_stop),
                window.height,
                window.width,
            ),
        )


def _centred_start(pixel: int, start: int, length: int, low: int, stop: int) -> int:
    if stop - low < length:
        return start  # the region is narrower than the tile, which is padded then
    return min(max(pixel - length // 2, low), stop - length)


def _span(window: Window, region: Window) -> tuple[int, int, int, int]:
    """First and last row, first and last column where the window may begin."""
    return (
        *_axis_span(window.row, window.height, region.row, region.row_stop),
        *_axis_span(window.col, window.width, region.col, region.col_stop),
    )


def _axis_span(start: int, length: int, low: int, stop: int) -> tuple[int, int]:
    if stop - low < length:
        return start, start  # the region is narrower than the tile, which is padded then
    last = min(stop - length, start + length // 2)
    return max(low, min(last, start - length // 2)), last


def _shifted(window: Window, span: tuple[int, int, int, int], uniform: Sequence[float] | np.ndarray) -> Window:
    row, row_last, col, col_last = span
    return Window(
        row + int(uniform[0] * (row_last - row + 1)),
        col + int(uniform[1] * (col_last - col + 1)),
        window.height,
        window.width,
    )
