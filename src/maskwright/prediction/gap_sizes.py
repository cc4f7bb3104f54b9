"""How many gaps there are of which size, and the exponent of the power law their larger ones follow.

The law is fitted by maximum likelihood above the size from which it describes the gaps best.
Source: Clauset, Shalizi, Newman 2009, arXiv:0706.1062.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import zeta

from maskwright.data.gap_statistics import GapSizes
from maskwright.errors import PredictionError
from maskwright.files import explain_os_error, write_bytes
from maskwright.pictures import line_chart

__all__ = ["PowerLaw", "fit_power_law", "fits_of_gaps", "write_gap_sizes"]

FloatArray = npt.NDArray[np.float64]

_LEAST_TAIL = 50  # fewer sizes say little about an exponent
_MOST_STARTS = 100  # sizes tried as the first that follows the law
_EXPONENTS = (1.01, 8.0)
_STEP = 1e-3
_POINTS = 60  # of a curve


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """A density that falls as size ** -exponent from a size on.

    Attributes:
        exponent: Larger than 1.
        standard_error: Of the exponent.
        first_size: From here on the law was fitted.
        sizes: How many sizes lie there.
        distance: Largest difference between the shares that are at least so large, law against data (Kolmogorov and
            Smirnov).
    """

    exponent: float
    standard_error: float
    first_size: float
    sizes: int
    distance: float


def fit_power_law(
    sizes: npt.ArrayLike,
    counts: npt.ArrayLike | None = None,
    *,
    discrete: bool,
    first_size: float | None = None,
    least: int = _LEAST_TAIL,
) -> PowerLaw | None:
    """The exponent and where the law begins.

    Args:
        sizes: (n,) larger than 0; whole numbers where ``discrete``.
        counts: (n,) how often each of them occurs; unset: once.
        discrete: True for counts such as pixels, False for sizes that may have any value.
        first_size: Where the law begins; unset: where it then lies nearest to the sizes.
        least: So many sizes must follow it.

    Returns:
        The law; None if there are too few sizes, or all of them are equal.
    """
    values, place = np.unique(np.asarray(sizes, np.float64), return_inverse=True)
    weights = None if counts is None else np.asarray(counts, np.float64)
    often = np.bincount(place, weights=weights, minlength=len(values)).astype(np.float64)
    starts = values if first_size is None else np.array([first_size])
    left = np.append(np.cumsum(often[::-1])[::-1], 0.0)[np.searchsorted(values, starts)]
    starts = starts[left >= max(least, 2)]
    if len(starts) > _MOST_STARTS:
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, _MOST_STARTS).round().astype(int))]
    firsts = np.searchsorted(values, starts)
    found = [_fitted(values[at:], often[at:], float(start), discrete) for start, at in zip(starts, firsts, strict=True)]
    laws = [law for law in found if law is not None]
    return min(laws, key=lambda law: law.distance) if laws else None


def fits_of_gaps(sizes: Sequence[GapSizes], pixel_m2: float) -> list[dict[str, float] | None]:
    """For each height the law of its gaps as plain values, ``first_size`` in square metres; None if there is none.

    Args:
        sizes: For each height.
        pixel_m2: Ground that a pixel covers.
    """
    laws = [fit_power_law(each.px, each.gaps, discrete=True) for each in sizes]
    return [None if law is None else asdict(law) | {"first_size": law.first_size * pixel_m2} for law in laws]


def write_gap_sizes(
    table: Path,
    picture: Path,
    heights_m: Sequence[float],
    sizes: Sequence[GapSizes],
    pixel_m2: float,
    laws: Sequence[dict[str, float] | None],
) -> None:
    """Write how many gaps there are of which size: a table of classes, each twice as wide as the last, and a plot.

    Args:
        table: CSV file.
        picture: PNG file.
        heights_m: K heights in metres.
        sizes: For each.
        pixel_m2: Ground that a pixel covers.
        laws: As :func:`fits_of_gaps` gives them.

    Raises:
        PredictionError: If a file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "height_m",
            "from_m2",
            "below_m2",
            "gaps",
            "share",
            "gaps_at_least",
            "exponent",
            "standard_error",
            "law_from_m2",
        ]
    )
    for height, each, law in zip(heights_m, sizes, laws, strict=True):
        writer.writerows(_rows(float(height), each, pixel_m2, law))
    write_bytes(table, text.getvalue().encode("utf-8"), error=PredictionError)
    try:
        _plot(heights_m, sizes, pixel_m2, laws).save(picture, "PNG")
    except OSError as error:
        raise PredictionError(explain_os_error(error, picture)) from error


def _fitted(values: FloatArray, often: FloatArray, start: float, discrete: bool) -> PowerLaw | None:
    """The law of sizes that all follow it, rising, each so often."""
    if len(values) < 2:
        return None
    from scipy.optimize import minimize_scalar  # slow to load, and only gaps of more than one size need it

    count, logs = int(often.sum()), float((often * np.log(values)).sum())
    share = np.cumsum(often[::-1])[::-1] / count  # at least so large, in the data
    if discrete:
        exponent = float(
            minimize_scalar(
                lambda a: count * np.log(zeta(a, start)) + a * logs,
                bounds=_EXPONENTS,
                method="bounded",
                options={"xatol": 1e-7},
            ).x
        )
        logged = np.log(zeta(exponent + np.array([-_STEP, 0.0, _STEP]), start))
        curvature = float(logged[0] - 2 * logged[1] + logged[2]) / _STEP**2
        error = 1 / float(np.sqrt(count * curvature))
        expected = zeta(exponent, values) / zeta(exponent, start)
        apart = np.abs(share - expected)
    else:
        exponent = 1 + count / (logs - count * np.log(start))
        error = (exponent - 1) / np.sqrt(count)
        expected = (values / start) ** (1 - exponent)
        after = np.append(share[1:], 0.0)  # the share jumps at a value
        apart = np.maximum(np.abs(share - expected), np.abs(after - expected))
    return PowerLaw(float(exponent), float(error), start, count, float(apart.max()))


def _rows(height: float, sizes: GapSizes, pixel_m2: float, law: dict[str, float] | None) -> list[list[Any]]:
    fit: list[Any] = ["", "", ""]
    if law is not None:
        fit = [round(law["exponent"], 4), round(law["standard_error"], 4), law["first_size"]]
    classes = int(sizes.px[-1]).bit_length() if sizes.total else 0
    rows = []
    for power in range(classes):
        low, high = 2**power, 2 ** (power + 1)
        beyond = int(sizes.gaps[sizes.px >= low].sum())
        inside = beyond - int(sizes.gaps[sizes.px >= high].sum())
        share = round(inside / sizes.total, 6)
        rows.append([height, low * pixel_m2, high * pixel_m2, inside, share, beyond, *fit])
    return rows


def _plot(
    heights_m: Sequence[float],
    sizes: Sequence[GapSizes],
    pixel_m2: float,
    laws: Sequence[dict[str, float] | None],
) -> Any:
    """Share of the gaps that are at least so large, over their size, both logarithmic; dashes are the laws."""
    most = max((int(each.px[-1]) for each in sizes if each.total), default=1)
    positions = np.unique(np.geomspace(1, max(most, 2), _POINTS).round()) * pixel_m2
    curves: dict[str, list[float | None]] = {}
    for height, each, law in zip(heights_m, sizes, laws, strict=True):
        smaller = np.append(0, np.cumsum(each.gaps))
        beyond = each.total - smaller[np.searchsorted(each.px * pixel_m2, positions * (1 - 1e-9))]
        share = beyond / max(each.total, 1)
        curves[f"{height:g} m"] = [float(value) if value > 0 else None for value in share]
        if law is not None:
            at_start = float(np.interp(law["first_size"], positions, share))
            exponent, starts = law["exponent"], law["first_size"] / pixel_m2
            fitted = at_start * zeta(exponent, positions / pixel_m2) / zeta(exponent, starts)
            name = f"{height:g} m: exponent {law['exponent']:.2f} +- {law['standard_error']:.2f}"
            inside = (positions >= law["first_size"]) & (share > 0)
            curves[name] = [float(value) if here else None for value, here in zip(fitted, inside, strict=True)]
    return line_chart(
        positions.tolist(), curves, x="gap area (m2)", y="share of gaps at least so large", log_x=True, log_y=True
    )
