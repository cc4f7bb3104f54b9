"""What may be changed about a tile of an image, and the record of what was drawn for one sample."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = ["ImageAugment", "ImageChange", "draw_change"]

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ImageAugment:
    """What may be changed about a training tile of an image; see the settings of the same names.

    Probabilities are multiplied by ``strength`` and cut at 1. Strengths of light are told for values in 0..1.

    Attributes:
        jitter: Shift the window at random, by half a tile at most, inside its region.
        centre_p: Share of the samples centred on a pixel of a class drawn evenly among those of the scene.
        strength: Factor of all probabilities but ``centre_p``.
        flip_p: Mirror image, for each axis.
        turn_p: Turn by 90, 180 or 270 degrees.
        rotate_p: Shift, zoom and free rotation together.
        rotate_deg: Largest rotation to either side, in degrees.
        zoom: Smallest and largest zoom; above 1 things look larger.
        shift: Largest shift along each axis, as a share of the tile.
        crop_p: Cut out a smaller or larger part at random and bring it to the tile's size.
        crop_zoom: Smallest and largest zoom of that.
        elastic_p: Smooth random displacement.
        elastic_alpha_px: Its strength: uniform noise -1..1, blurred, times this, in pixels.
        elastic_sigma_px: Standard deviation of that blur, in pixels.
        brightness_p: Brightness and contrast together.
        brightness: Largest value added, to either side.
        contrast: Largest change of the factor of the distance from middle grey, to either side.
        gamma_p: Power of the values.
        gamma: Smallest and largest exponent.
        color_p: Hue, saturation and value together; red, green and blue only.
        hue_deg: Largest turn around the grey axis to either side, in degrees.
        saturation: Largest change of the factor of the distance from grey, to either side.
        value: Largest value added, to either side.
        noise_p: Gaussian noise.
        noise: Smallest and largest standard deviation.
        blur_p: Gaussian blur.
        blur_px: Smallest and largest standard deviation of the blur, in pixels.
        shadow_p: Shadow with a soft straight edge.
        shadow: Smallest and largest share of the light it takes.
        haze_p: Even veil of light grey.
        haze: Smallest and largest share of the veil.
        fog_p: Veil with swathes.
        fog: Smallest and largest share of the veil where it is thickest.
        flare_p: Bright spot of sunlight.
        flare: Smallest and largest value added at its centre.
        sensor_p: Noise that grows with the light, stripes between columns, and dead pixels.
        sensor: Smallest and largest strength, 0..1.
        vignette_p: Corners darker than the centre.
        vignette: Smallest and largest share of the light lost in the corners.
        band_shift_p: Bands displaced against each other.
        band_shift_px: Largest displacement of a band along each axis, in pixels.
        mixup_p: Mix with another tile.
        mixup_alpha: Both parameters of the Beta distribution of the shares.
    """

    jitter: bool = True
    centre_p: float = 0.0
    strength: float = 1.0
    flip_p: float = 0.0
    turn_p: float = 0.0
    rotate_p: float = 0.0
    rotate_deg: float = 15.0
    zoom: Range = (0.9, 1.1)
    shift: float = 0.1
    crop_p: float = 0.0
    crop_zoom: Range = (0.8, 1.2)
    elastic_p: float = 0.0
    elastic_alpha_px: float = 50.0
    elastic_sigma_px: float = 5.0
    brightness_p: float = 0.0
    brightness: float = 0.2
    contrast: float = 0.2
    gamma_p: float = 0.0
    gamma: Range = (0.8, 1.2)
    color_p: float = 0.0
    hue_deg: float = 20.0
    saturation: float = 0.1
    value: float = 0.05
    noise_p: float = 0.0
    noise: Range = (0.005, 0.02)
    blur_p: float = 0.0
    blur_px: Range = (0.1, 2.0)
    shadow_p: float = 0.0
    shadow: Range = (0.2, 0.5)
    haze_p: float = 0.0
    haze: Range = (0.1, 0.3)
    fog_p: float = 0.0
    fog: Range = (0.1, 0.3)
    flare_p: float = 0.0
    flare: Range = (0.2, 0.5)
    sensor_p: float = 0.0
    sensor: Range = (0.2, 0.6)
    vignette_p: float = 0.0
    vignette: Range = (0.1, 0.4)
    band_shift_p: float = 0.0
    band_shift_px: float = 1.0
    mixup_p: float = 0.0
    mixup_alpha: float = 0.2

    def chance(self, name: str) -> float:
        """The probability ``name`` (without ``_p``), strength included."""
        return min(1.0, float(getattr(self, f"{name}_p")) * self.strength)

    @property
    def changes_color(self) -> bool:
        """True if red, green and blue are needed, ever."""
        return self.chance("color") > 0 and (self.hue_deg > 0 or self.saturation > 0)


@dataclass(frozen=True, slots=True)
class ImageChange:
    """What was done to the image of one sample beyond mirror images, turns, rotation and zoom; 0 means not at all.

    Attributes:
        shift_rows: Content moved down, as a share of the tile's height.
        shift_cols: Content moved right, as a share of its width.
        elastic_alpha_px: Strength of the displacement.
        elastic_sigma_px: Its smoothness.
        band_shift_px: Largest displacement of bands; each band draws its own.
        brightness: Added.
        contrast: Factor less 1.
        gamma: Exponent.
        hue_deg: Turn around the grey axis.
        saturation: Factor less 1.
        value: Added.
        blur_px: Standard deviation of the blur.
        vignette: Share of the light lost in the corners.
        shadow: Share of the light a shadow takes.
        haze: Share of an even veil.
        fog: Share of a veil with swathes.
        flare: Added at the centre of a bright spot.
        sensor: Strength of the noise of a sensor.
        noise: Standard deviation of the noise.
    """

    shift_rows: float = 0.0
    shift_cols: float = 0.0
    elastic_alpha_px: float = 0.0
    elastic_sigma_px: float = 0.0
    band_shift_px: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 1.0
    hue_deg: float = 0.0
    saturation: float = 0.0
    value: float = 0.0
    blur_px: float = 0.0
    vignette: float = 0.0
    shadow: float = 0.0
    haze: float = 0.0
    fog: float = 0.0
    flare: float = 0.0
    sensor: float = 0.0
    noise: float = 0.0

    @property
    def is_warped(self) -> bool:
        """True if it needs a resampling."""
        return bool(self.shift_rows or self.shift_cols or self.elastic_alpha_px or self.band_shift_px)

    @property
    def changes_light(self) -> bool:
        """True if values change beyond a resampling."""
        return any(getattr(self, name) != unchanged for name, unchanged in _LIGHT)

    def describe(self) -> dict[str, Any]:
        """The changes that were really made, as plain values."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }


_LIGHT = tuple((field.name, field.default) for field in fields(ImageChange)[5:])


def draw_change(generator: np.random.Generator, augment: ImageAugment) -> tuple[ImageChange, float, float]:
    """Draw for one sample: its changes, its rotation in degrees, its zoom.

    All numbers are drawn whatever the settings, so switching one change on or off leaves the others as they are.
    """
    chance, value = generator.random(16), generator.random(32)

    def happens(index: int, name: str) -> bool:
        return bool(chance[index] < augment.chance(name))

    def within(index: int, limits: Range) -> float:
        return float(limits[0] + (limits[1] - limits[0]) * value[index])

    def either(index: int, most: float) -> float:
        return float(2 * value[index] - 1) * most

    def once(index: int, name: str, at: int) -> float:
        return within(at, getattr(augment, name)) if happens(index, name) else 0.0

    rotate, crop, elastic = happens(0, "rotate"), happens(1, "crop"), happens(2, "elastic")
    light, color = happens(3, "brightness"), happens(5, "color")
    zoom = _geometric(augment.zoom, value[1]) if rotate else 1.0
    cut = _geometric(augment.crop_zoom, value[2]) if crop else 1.0
    room = (cut - 1.0) / 2 if cut > 1.0 else 0.0  # a cut-out never leaves the tile
    shift = augment.shift if rotate else 0.0
    change = ImageChange(
        shift_rows=either(3, shift) + either(5, room),
        shift_cols=either(4, shift) + either(6, room),
        elastic_alpha_px=augment.elastic_alpha_px if elastic else 0.0,
        elastic_sigma_px=augment.elastic_sigma_px if elastic else 0.0,
        band_shift_px=augment.band_shift_px if happens(13, "band_shift") else 0.0,
        brightness=either(7, augment.brightness) if light else 0.0,
        contrast=either(8, augment.contrast) if light else 0.0,
        gamma=_geometric(augment.gamma, value[9]) if happens(4, "gamma") else 1.0,
        hue_deg=either(10, augment.hue_deg) if color else 0.0,
        saturation=either(11, augment.saturation) if color else 0.0,
        value=either(12, augment.value) if color else 0.0,
        blur_px=within(14, augment.blur_px) if happens(7, "blur") else 0.0,
        vignette=once(12, "vignette", 19),
        shadow=once(8, "shadow", 15),
        haze=once(9, "haze", 16),
        fog=once(10, "fog", 17),
        flare=once(11, "flare", 18),
        sensor=once(14, "sensor", 20),
        noise=once(6, "noise", 13),
    )
    return change, either(0, augment.rotate_deg) if rotate else 0.0, zoom * cut


def _geometric(limits: Range, share: float) -> float:
    """Between two positive numbers, as likely half as double."""
    return float(limits[0] * (limits[1] / limits[0]) ** share)
