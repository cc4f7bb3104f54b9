"""From (seed, epoch, position) to everything random about a training sample: tile, shift, heights, augmentation.

There is no hidden state: the same three numbers give the same sample in any process, in any order, on any day. So
results do not depend on the number of workers, and a run goes on in the middle of an epoch by starting at a position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskwright.data.regions import Split
from maskwright.errors import DataError
from maskwright.types import Place, Window

__all__ = ["Augment", "Draw", "HeightChoice", "TrainPlan", "rng"]

_SAMPLES, _ORDER = 0, 1  # streams of random numbers
_ROUNDS_KEPT = 4


def rng(seed: int, epoch: int, position: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one sample: counter based, so that any of them is reached at once.

    Args:
        seed: Not negative.
        epoch: From 0.
        position: Place in the epoch, from 0.
        stream: Keeps different uses apart.
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, stream, position, epoch]))


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

    @property
    def is_warped(self) -> bool:
        return self.rotate_deg != 0.0 or self.zoom != 1.0


class TrainPlan:
    """Which sample stands at which position of which epoch.

    Tiles come in random order, round after round, through all epochs: after any number of samples no tile was seen
    more than once more often than another.

    Args:
        split: Tiles and regions of the part ``train`` are used.
        heights: What may be asked.
        augment: What may be changed; None: nothing, not even the window.
        seed: Not negative.
        samples_per_epoch: Length of an epoch; None: one round of the tiles.

    Raises:
        DataError: If there is no training tile.
    """

    def __init__(
        self,
        split: Split,
        heights: HeightChoice,
        augment: Augment | None = None,
        *,
        seed: int,
        samples_per_epoch: int | None = None,
    ) -> None:
        self.places = split.tiles["train"]
        if not self.places:
            raise DataError("There is no training tile: the part train of the split is empty.")
        self.heights = heights
        self.augment = augment
        self.seed = seed
        self.samples_per_epoch = samples_per_epoch or len(self.places)
        self._spans = [_span(place.window, split.region_of(place).window) for place in self.places]
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.samples_per_epoch

    def draw(self, epoch: int, position: int) -> Draw:
        """The sample at a position of an epoch, both from 0; a pure function of the seed and the two.

        Numbers are drawn in a fixed order and all of them are drawn whatever the settings, so switching one change on
        or off leaves the others as they are. New kinds of changes take their numbers at the end.
        """
        index = self._tile(epoch * self.samples_per_epoch + position)
        place = self.places[index]
        generator = rng(self.seed, epoch, position, _SAMPLES)
        uniform = generator.random(12)
        shift = float(generator.standard_normal())
        seed = int(generator.integers(2**62))
        heights_m = self.heights.draw(generator)
        clearing = generator.random(3)
        augment = self.augment
        if augment is None:
            return Draw(place, heights_m, seed=seed)
        warp = uniform[6] < augment.rotate_p
        low, high = augment.zoom
        return Draw(
            place=Place(place.scene, _shifted(place.window, self._spans[index], uniform)) if augment.jitter else place,
            heights_m=heights_m,
            flip_rows=bool(uniform[2] < augment.flip_p),
            flip_cols=bool(uniform[3] < augment.flip_p),
            turns=1 + int(uniform[5] * 3) if uniform[4] < augment.turn_p else 0,
            rotate_deg=float(2 * uniform[7] - 1) * augment.rotate_deg if warp else 0.0,
            zoom=float(low * (high / low) ** uniform[8]) if warp else 1.0,
            shift_m=shift * augment.shift_m,
            noise_m=augment.noise_m,
            terrain_m=augment.terrain_m if uniform[9] < augment.terrain_p else 0.0,
            terrain_wavelength_m=augment.terrain_wavelength_m,
            seed=seed,
            clear_share=float(clearing[1]) if clearing[0] < augment.clearing_p else 0.0,
            regrowth_m=float(clearing[2]) * augment.clearing_regrowth_m,
        )

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_orders": {}}

    def _tile(self, count: int) -> int:
        round_, place = divmod(count, len(self.places))
        order = self._orders.get(round_)
        if order is None:
            while len(self._orders) >= _ROUNDS_KEPT:
                self._orders.pop(next(iter(self._orders)))
            order = self._orders[round_] = rng(self.seed, round_, 0, _ORDER).permutation(len(self.places))
        return int(order[place])


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
