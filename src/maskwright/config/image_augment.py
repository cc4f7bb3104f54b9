"""Random changes of training tiles cut from photographs and multi-band rasters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

__all__ = ["AUGMENT_PRESETS", "ImageAugmentConfig"]

# Half the samples lie around a pixel of a class: where what is looked for is rare, most windows would show none of it.
_CENTRED = {"centre_p": 0.5}

_NONE: dict[str, Any] = {}
_GEOMETRIC = {
    **_CENTRED,
    "flip_p": 0.5,
    "turn_p": 0.75,
    "rotate_p": 0.3,
    "rotate_deg": 15.0,
    "zoom": (0.9, 1.1),
    "crop_p": 0.2,
}
_LIGHT = {**_CENTRED, "flip_p": 0.5, "turn_p": 0.75, "brightness_p": 0.5, "brightness": 0.1, "contrast": 0.1}
_MODERATE = {
    **_GEOMETRIC,
    "brightness_p": 0.5,
    "gamma_p": 0.2,
    "noise_p": 0.2,
    "blur_p": 0.1,
    "blur_px": (0.1, 1.0),
}
_HEAVY = {
    **_GEOMETRIC,
    "rotate_p": 0.6,
    "rotate_deg": 45.0,
    "zoom": (0.75, 1.3),
    "crop_p": 0.4,
    "elastic_p": 0.3,
    "brightness_p": 0.8,
    "brightness": 0.3,
    "contrast": 0.3,
    "gamma_p": 0.4,
    "gamma": (0.7, 1.4),
    "noise_p": 0.4,
    "noise": (0.01, 0.04),
    "blur_p": 0.2,
}
_AERIAL_LIGHT = {**_LIGHT, "shadow_p": 0.1, "haze_p": 0.1, "haze": (0.05, 0.15), "sensor_p": 0.1, "sensor": (0.1, 0.3)}
_AERIAL_MODERATE = {
    **_MODERATE,
    "shadow_p": 0.25,
    "haze_p": 0.2,
    "fog_p": 0.15,
    "flare_p": 0.05,
    "sensor_p": 0.2,
    "vignette_p": 0.15,
    "band_shift_p": 0.1,
}
_AERIAL_HEAVY = {
    **_HEAVY,
    "shadow_p": 0.5,
    "shadow": (0.3, 0.7),
    "haze_p": 0.3,
    "haze": (0.1, 0.5),
    "fog_p": 0.3,
    "fog": (0.1, 0.5),
    "flare_p": 0.15,
    "flare": (0.3, 0.8),
    "sensor_p": 0.4,
    "sensor": (0.3, 1.0),
    "vignette_p": 0.3,
    "band_shift_p": 0.2,
    "band_shift_px": 2.0,
}
_DOCUMENT_000 = {
    "flip_p": 0.5,
    "rotate_p": 1.0,
    "rotate_deg": 15.0,
    "zoom": (1.0, 1.0),
    "shift": 0.0,
    "brightness_p": 1.0,
    "brightness": 0.2,
    "contrast": 0.2,
    "noise_p": 0.2,
    "noise": (0.01, 0.01),
    "blur_p": 0.2,
    "blur_px": (0.1, 2.0),
}
_DOCUMENT_002 = {
    "flip_p": 0.5,
    "turn_p": 0.5,
    "rotate_p": 0.3,
    "rotate_deg": 15.0,
    "zoom": (0.9, 1.1),
    "shift": 0.1,
    "elastic_p": 0.2,
    "brightness_p": 0.5,
    "brightness": 0.2,
    "contrast": 0.2,
    "gamma_p": 0.3,
    "gamma": (0.8, 1.2),
    "color_p": 0.3,
    "hue_deg": 20.0,
    "saturation": 20 / 255,
    "value": 10 / 255,
    "fog_p": 0.2,
    "fog": (0.1, 0.3),
    "flare_p": 0.1,
}
_DOCUMENT_004 = {
    "flip_p": 0.5,
    "turn_p": 0.5,
    "rotate_p": 0.5,
    "rotate_deg": 45.0,
    "zoom": (0.9, 1.1),
    "shift": 0.1,
    "brightness_p": 0.5,
    "brightness": 0.2,
    "contrast": 0.2,
    "color_p": 0.5,
    "hue_deg": 20.0,
    "saturation": 20 / 255,
    "value": 20 / 255,
    "noise_p": 0.5,
    "noise": (0.0175, 0.0175),
    "blur_p": 0.5,
    "blur_px": (0.1, 0.8),
}
AUGMENT_PRESETS: dict[str, dict[str, Any]] = {
    "none": _NONE,
    "light": _LIGHT,
    "moderate": _MODERATE,
    "heavy": _HEAVY,
    "geometric": _GEOMETRIC,
    "aerial_light": _AERIAL_LIGHT,
    "aerial_moderate": _AERIAL_MODERATE,
    "aerial_heavy": _AERIAL_HEAVY,
    "document_000": _DOCUMENT_000,
    "document_002": _DOCUMENT_002,
    "document_004": _DOCUMENT_004,
}
_RANGES = ("gamma", "zoom", "crop_zoom")  # of positive numbers
_STRENGTHS = ("noise", "blur_px", "shadow", "haze", "fog", "flare", "sensor", "vignette")


def _chance(what: str) -> Any:
    return Field(0.0, ge=0, le=1, help=f"Probability of {what}.")


class ImageAugmentConfig(Section):
    """Random changes of training tiles; validation is never changed.

    Probabilities are multiplied by ``strength``, the one knob that makes everything rarer or more frequent. Strengths
    of light are told for values in 0..1. The preset fills in what is left unsaid, and what is saved is complete.
    """

    enabled: bool = Field(True, help="Change training tiles at random.")
    preset: Literal[
        "none",
        "light",
        "moderate",
        "heavy",
        "geometric",
        "aerial_light",
        "aerial_moderate",
        "aerial_heavy",
        "document_000",
        "document_002",
        "document_004",
    ] = Field("light", help="Where settings left unsaid come from; what is said beside it counts.")
    strength: float = Field(1.0, ge=0, le=2, help="All probabilities are multiplied by this, up to 1.")
    jitter: bool = Field(True, help="Shift each training tile at random inside its part of the split.")
    centre_p: float = Field(
        0.0,
        ge=0,
        le=1,
        help="Share of the samples centred on a pixel of a class, drawn evenly among the background and the classes "
        "of the image; strength leaves it alone.",
    )
    flip_p: float = _chance("a mirror image, for each axis")
    turn_p: float = _chance("a turn by 90, 180 or 270 degrees")
    rotate_p: float = _chance("a shift, zoom and free rotation, together")
    rotate_deg: float = Field(15.0, ge=0, le=180, unit="degrees", help="Largest free rotation to either side.")
    zoom: tuple[float, float] = Field((0.9, 1.1), help="Smallest and largest zoom that goes with the rotation.")
    shift: float = Field(0.1, ge=0, le=0.5, help="Largest shift along each axis, as a share of the tile.")
    crop_p: float = _chance("cutting out a part of random size and bringing it to the tile's size")
    crop_zoom: tuple[float, float] = Field((0.8, 1.2), help="Smallest and largest zoom of a part that is cut out.")
    elastic_p: float = _chance("a smooth random displacement")
    elastic_alpha_px: float = Field(
        50.0, ge=0, unit="px", help="Strength of the displacement: noise from -1 to 1, blurred, times this."
    )
    elastic_sigma_px: float = Field(
        5.0, ge=1, le=200, unit="px", help="Smoothness of the displacement: deviation of the blur of its noise."
    )
    brightness_p: float = _chance("a change of brightness and contrast")
    brightness: float = Field(0.2, ge=0, le=1, help="Largest value added or taken away, of a range of 0 to 1.")
    contrast: float = Field(0.2, ge=0, le=1, help="Largest change of the distance from middle grey, as a share.")
    gamma_p: float = _chance("raising values to a power")
    gamma: tuple[float, float] = Field((0.8, 1.2), help="Smallest and largest exponent.")
    color_p: float = _chance("a change of hue, saturation and value; needs red, green and blue")
    hue_deg: float = Field(20.0, ge=0, le=180, unit="degrees", help="Largest turn of the hue to either side.")
    saturation: float = Field(0.1, ge=0, le=1, help="Largest change of the distance from grey, as a share.")
    value: float = Field(0.05, ge=0, le=1, help="Largest value added to all colours, of a range of 0 to 1.")
    noise_p: float = _chance("Gaussian noise")
    noise: tuple[float, float] = Field((0.005, 0.02), help="Smallest and largest deviation, of a range of 0 to 1.")
    blur_p: float = _chance("a Gaussian blur")
    blur_px: tuple[float, float] = Field((0.1, 2.0), unit="px", help="Smallest and largest deviation of the blur.")
    shadow_p: float = _chance("a shadow with a straight soft edge")
    shadow: tuple[float, float] = Field((0.2, 0.5), help="Smallest and largest share of the light it takes.")
    haze_p: float = _chance("haze, an even veil")
    haze: tuple[float, float] = Field((0.1, 0.3), help="Smallest and largest share of the veil.")
    fog_p: float = _chance("fog, a veil with swathes")
    fog: tuple[float, float] = Field((0.1, 0.3), help="Smallest and largest share of the veil where it is thickest.")
    flare_p: float = _chance("a sun flare, a bright round spot")
    flare: tuple[float, float] = Field((0.2, 0.5), help="Smallest and largest value added at its centre, of 0 to 1.")
    sensor_p: float = _chance("noise of a sensor: grain that grows with the light, stripes, dead pixels")
    sensor: tuple[float, float] = Field((0.2, 0.6), help="Smallest and largest strength, 0 to 1.")
    vignette_p: float = _chance("vignetting, corners darker than the centre")
    vignette: tuple[float, float] = Field((0.1, 0.4), help="Smallest and largest share of the light lost in corners.")
    band_shift_p: float = _chance("bands displaced against each other")
    band_shift_px: float = Field(1.0, ge=0, le=20, unit="px", help="Largest displacement of a band along each axis.")
    mixup_p: float = _chance("mixing a tile with another one; their masks are never blended")
    mixup_alpha: float = Field(0.2, gt=0, le=10, help="Beta distribution of the shares: small is mostly one of two.")

    @model_validator(mode="before")
    @classmethod
    def _preset_fills_in(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        preset = AUGMENT_PRESETS.get(str(values.get("preset", cls.model_fields["preset"].default)), {})
        return {**preset, **values}

    @model_validator(mode="after")
    def _settings_make_sense(self) -> ImageAugmentConfig:
        faults = []
        for name in (*_RANGES, *_STRENGTHS):
            low, high = getattr(self, name)
            if high < low or low < 0 or (name in _RANGES and low <= 0):
                kind = "above 0" if name in _RANGES else "of at least 0"
                faults.append(f"{name}: {[low, high]} must be two numbers {kind}, the smaller first")
            elif high > 1 and name in ("shadow", "haze", "fog", "vignette", "sensor"):
                faults.append(f"{name}: {[low, high]} reaches above 1. Give shares from 0 to 1")
        refuse(faults)
        return self
