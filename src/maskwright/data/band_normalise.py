"""Values of bands to network input and back: linear band by band, fixed before or fitted on training pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from maskwright.data.band_statistics import BandStatistics
from maskwright.errors import DataError

__all__ = ["BAND_KINDS", "FITTED_KINDS", "BandNormaliser", "PerTileBands", "Unfitted", "make_normaliser"]

FITTED_KINDS = ("standard", "minmax", "percentile", "robust", "adaptive")  # need statistics of the training pixels
BAND_KINDS = ("imagenet", "unit", *FITTED_KINDS)  # what a BandNormaliser may be

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_LARGEST = {"uint8": 255.0, "uint16": 65535.0}
_SKEWED = 1.0  # |mean - median| in standard deviations
_WIDE = 5.0  # the whole range in distances of the percentiles 1 and 99
_MANY_OUTLIERS = 0.05


@dataclass(frozen=True, slots=True)
class BandNormaliser:
    """(value - shift) / scale for each band, cut to 0..1 where ``clip``.

    Attributes:
        kind: One of :data:`BAND_KINDS`.
        shift: (C,) what becomes 0.
        scale: (C,) positive.
        clip: True if values beyond 0..1 are cut; they cannot be brought back.
    """

    kind: str
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    clip: bool = False

    def __post_init__(self) -> None:
        if self.kind not in BAND_KINDS or not 0 < len(self.shift) == len(self.scale):
            raise DataError(
                f"Normalisation {self.kind!r} with {len(self.shift)} shifts and {len(self.scale)} scales is none. "
                f"Give one of each for every band, and one of the kinds {', '.join(BAND_KINDS)}."
            )
        if not np.isfinite([*self.shift, *self.scale]).all() or min(self.scale) <= 0:
            raise DataError(f"Normalisation {self.kind!r}: shifts must be finite and scales above 0, got {self}.")

    def normalise(self, values: np.ndarray, valid: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Network input (C, H, W) float32, exactly 0 where not valid.

        Args:
            values: (C, H, W) of any type; anything where not valid.
            valid: (H, W) bool.
            out: (C, H, W) float32, written to if given; may be ``values``.

        Raises:
            DataError: If ``values`` has another number of bands.
        """
        self._check(values)
        out = np.empty(values.shape, np.float32) if out is None else out
        for band in range(len(self.shift)):
            self.normalise_band(values[band], valid, band, out[band])
        return out

    def normalise_band(self, values: np.ndarray, valid: np.ndarray, band: int, out: np.ndarray) -> None:
        """As :meth:`normalise` for one band: values, valid and out are (H, W)."""
        with np.errstate(over="ignore", invalid="ignore"):  # whatever lies under pixels that do not count
            np.subtract(values, np.float32(self.shift[band]), out=out, dtype=np.float32, casting="unsafe")
            out /= np.float32(self.scale[band])
        if self.clip:
            np.clip(out, 0.0, 1.0, out=out)
        np.copyto(out, 0.0, where=~valid)

    def denormalise(self, image: np.ndarray) -> np.ndarray:
        """Values (C, H, W) float32 of normalised ones; ``shift`` where a pixel did not count."""
        self._check(image)
        values = image * np.asarray(self.scale, np.float32)[:, None, None]
        values += np.asarray(self.shift, np.float32)[:, None, None]
        return np.asarray(values, np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON takes."""
        return {"kind": self.kind, "shift": list(self.shift), "scale": list(self.scale), "clip": self.clip}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BandNormaliser:
        """The inverse of :meth:`to_dict`. Raises DataError if something is missing, unknown or no number."""
        try:
            if set(values) != {"kind", "shift", "scale", "clip"} or not isinstance(values["clip"], bool):
                raise ValueError("kind, shift, scale and clip are needed")
            shift, scale = (tuple(float(value) for value in values[name]) for name in ("shift", "scale"))
        except (TypeError, ValueError) as cause:
            raise DataError(
                f"Normalisation {values.get('kind')!r} cannot be understood: {cause}; got {dict(values)}. "
                "The model file is damaged or of another version."
            ) from cause
        return cls(str(values["kind"]), shift, scale, values["clip"])

    def _check(self, values: np.ndarray) -> None:
        if len(values) != len(self.shift):
            raise DataError(
                f"An image of {len(values)} bands meets a normalisation of {len(self.shift)}. Choose the bands of the "
                "training in data.bands."
            )


@dataclass(frozen=True, slots=True)
class PerTileBands:
    """Each band of each tile stretched to 0..1 by its own valid least and largest value; a flat band is all 0."""

    kind: ClassVar[str] = "per_tile_bands"

    def normalise(self, values: np.ndarray, valid: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """As :meth:`BandNormaliser.normalise`."""
        return self.normalise_with_range(values, valid, out)[0]

    def normalise_with_range(
        self, values: np.ndarray, valid: np.ndarray, out: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The image, and for each band the least and largest valid value (C,) float32 (0 where none is valid)."""
        out = np.empty(values.shape, np.float32) if out is None else out
        low, high = np.zeros((2, len(values)), np.float32)
        for band, plane in enumerate(values):
            counted = plane if valid.all() else plane[valid]
            if counted.size:
                low[band], high[band] = counted.min(), counted.max()
            if not low[band] < high[band]:
                out[band] = 0.0
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                np.subtract(plane, low[band], out=out[band], dtype=np.float32, casting="unsafe")
                out[band] /= high[band] - low[band]
            np.copyto(out[band], 0.0, where=~valid)
        return out, low, high

    def denormalise(self, image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Values (C, H, W) float32 from the image and the range :meth:`normalise_with_range` gave."""
        values = image * (high - low)[:, None, None] + low[:, None, None]
        return np.asarray(values, np.float32)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}


@dataclass(frozen=True, slots=True)
class Unfitted:
    """Stands where a normalisation will be once the statistics of the training pixels are known."""

    kind: str
    low: float = 2.0
    high: float = 98.0

    def fit(self, statistics: BandStatistics) -> BandNormaliser:
        """The normalisation these statistics give."""
        return _fitted(self.kind, statistics, self.low, self.high)

    def normalise(self, values: np.ndarray, valid: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Raises DataError: there is nothing to normalise with yet."""
        raise self._early()

    def to_dict(self) -> dict[str, Any]:
        """Raises DataError: there is nothing to store yet."""
        raise self._early()

    def _early(self) -> DataError:
        return DataError(
            f"The normalisation {self.kind!r} is taken from the training pixels and has not been fitted yet. "
            "Call fit_normaliser(config, source, split) once the split is known."
        )


def make_normaliser(
    kind: str,
    statistics: BandStatistics | None,
    bands: int,
    dtype: str,
    largest: float | None = None,
    low: float = 2.0,
    high: float = 98.0,
) -> BandNormaliser | PerTileBands:
    """The normalisation of a kind.

    Args:
        kind: ``auto`` (imagenet for three bands of 8 or 16 bits, else standard), ``imagenet``, ``unit``, ``standard``,
            ``minmax``, ``percentile``, ``robust``, ``adaptive`` or ``per_tile``.
        statistics: Of the training pixels that count; needed by the kinds in :data:`FITTED_KINDS`.
        bands: Bands of the image.
        dtype: Name of the type of its values.
        largest: What ``unit`` divides by; None: 255 or 65535 by type.
        low: Percentile that becomes 0, with ``percentile``.
        high: Percentile that becomes 1, with ``percentile``.

    Raises:
        DataError: If the kind does not suit bands or type, is unknown, or statistics are missing.
    """
    if kind == "auto":
        kind = "imagenet" if bands == 3 and dtype in _LARGEST else "standard"
    if kind == "per_tile":
        return PerTileBands()
    if kind == "imagenet":
        return _imagenet(bands, dtype, largest)
    if kind == "unit":
        return BandNormaliser("unit", (0.0,) * bands, (_largest(kind, dtype, largest),) * bands)
    if kind not in FITTED_KINDS:
        known = ", ".join(("auto", *BAND_KINDS, "per_tile"))
        raise DataError(f"Normalisation {kind!r} is not known. Known: {known}.")
    if statistics is None:
        raise DataError(f"The normalisation {kind!r} needs statistics of the training pixels. Give band_statistics.")
    if statistics.bands != bands:
        raise DataError(f"The statistics are of {statistics.bands} bands, the image has {bands}. Compute them again.")
    return _fitted(kind, statistics, low, high)


def _imagenet(bands: int, dtype: str, largest: float | None) -> BandNormaliser:
    if bands != 3:
        raise DataError(
            f"The normalisation 'imagenet' is for three bands and the images have {bands}. Choose three in data.bands, "
            "or set data.normalise.kind: standard."
        )
    top = _largest("imagenet", dtype, largest)
    shift = tuple(mean * top for mean in _IMAGENET_MEAN)
    return BandNormaliser("imagenet", shift, tuple(std * top for std in _IMAGENET_STD))


def _largest(kind: str, dtype: str, largest: float | None) -> float:
    if largest is None and dtype not in _LARGEST:
        raise DataError(
            f"The normalisation {kind!r} needs to know the largest value, which the type {dtype} does not tell. Set "
            "data.normalise.kind: unit with data.normalise.largest, or kind: standard."
        )
    return float(largest) if largest is not None else _LARGEST[dtype]


def _fitted(kind: str, statistics: BandStatistics, low: float, high: float) -> BandNormaliser:
    if kind == "minmax":
        return _between(kind, statistics.min, statistics.max, clip=False)
    if kind == "percentile":
        return _between(kind, statistics.percentile(low), statistics.percentile(high), clip=True)
    pairs = [_centre(kind, statistics, band) for band in range(statistics.bands)]
    return BandNormaliser(kind, tuple(shift for shift, _ in pairs), tuple(_safe(*pair) for pair in pairs))


def _between(kind: str, low: tuple[float, ...], high: tuple[float, ...], *, clip: bool) -> BandNormaliser:
    scale = tuple(_safe(first, last - first) for first, last in zip(low, high, strict=True))
    return BandNormaliser(kind, low, scale, clip)


def _centre(kind: str, statistics: BandStatistics, band: int) -> tuple[float, float]:
    """Shift and scale of a band: mean and deviation, or median and the distance of the percentiles 1 and 99."""
    mean, std = statistics.mean[band], statistics.std[band]
    median, first, last = (statistics.percentile(percent)[band] for percent in (50.0, 1.0, 99.0))
    if kind == "adaptive":
        spread = statistics.max[band] - statistics.min[band]
        skewed = std > 0 and abs(mean - median) / std > _SKEWED
        wide = spread > _WIDE * (last - first)
        robust = skewed or wide or statistics.outlier_share[band] > _MANY_OUTLIERS
        kind = "robust" if robust and last > first else "standard"
    return (median, last - first) if kind == "robust" else (mean, std)


def _safe(shift: float, scale: float) -> float:
    """A scale to divide by: 1 for a band without contrast, whose few odd values would otherwise become enormous."""
    return scale if scale > 1e-6 * abs(shift) and scale > 1e-30 else 1.0
