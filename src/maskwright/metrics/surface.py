"""How well outlines agree: boundary F, normalised surface distance (NSD), Hausdorff and mean surface distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.metrics.streams import masks_of, with_means

__all__ = ["SurfaceDistances", "SurfaceMeter", "boundary", "surface_distances"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class SurfaceDistances(NamedTuple):
    """Metres from each pixel of one outline to the nearest of the other; infinite if the other has none.

    ``from_called`` (P,) and ``from_true`` (T,).
    """

    from_called: Floats
    from_true: Floats

    @property
    def hausdorff95(self) -> float:
        """The larger of the two 95th percentiles; nan without any outline, inf if one mask alone has one."""
        if not self.from_called.size and not self.from_true.size:
            return math.nan
        if not self.from_called.size or not self.from_true.size:
            return math.inf
        return float(max(np.percentile(side, 95) for side in self))

    @property
    def mean(self) -> float:
        """Mean of the two mean distances; nan without any outline, inf if one mask alone has one."""
        if not self.from_called.size and not self.from_true.size:
            return math.nan
        if not self.from_called.size or not self.from_true.size:
            return math.inf
        return float((self.from_called.mean() + self.from_true.mean()) / 2)


def boundary(mask: NDArray[np.bool_], valid: NDArray[np.bool_]) -> Bools:
    """Outermost pixels of a mask.

    Args:
        mask: (H, W) bool.
        valid: (H, W) bool.

    Returns:
        (H, W) bool: pixels of the mask that share a side with a valid pixel outside it. Neither the edge of the image
        nor nodata makes a boundary: what lies behind is not known.
    """
    inside = ndimage.binary_erosion(mask | ~valid, border_value=1)
    return np.asarray(mask & valid & ~inside, dtype=np.bool_)


def surface_distances(
    pred: NDArray[np.bool_], target: NDArray[np.bool_], valid: NDArray[np.bool_], pixel_size_m: float = 1.0
) -> SurfaceDistances:
    """Distances between the boundaries of two masks.

    Args:
        pred: (H, W) bool, True where called.
        target: (H, W) bool, True where true.
        valid: (H, W) bool; other pixels have no part in either outline.
        pixel_size_m: Metres per pixel; distances are in pixels if it is left at 1.
    """
    called, true = boundary(pred, valid), boundary(target, valid)
    sides = []
    for here, there in ((called, true), (true, called)):
        if there.any():
            sides.append(ndimage.distance_transform_edt(~there, sampling=pixel_size_m)[here])
        else:
            sides.append(np.full(int(here.sum()), math.inf))
    return SurfaceDistances(*sides)


class SurfaceMeter:
    """Agreement of outlines over a data set.

    Shares (boundary F, NSD) are taken from boundary pixels counted over all images. Distances are means over the images
    in which both masks have an outline; images in which only one has are left out of them and told as a share.

    Args:
        names: Names of the K channels in results.
        tolerance_m: Boundaries that are no farther apart agree; in pixels if updates leave ``pixel_size_m`` at 1.

    Raises:
        ConfigError: If names are missing or the tolerance is negative.

    Source: doi:10.5244/C.27.32 (boundary F), arXiv:1809.04430 (NSD).
    """

    def __init__(self, names: Sequence[str], tolerance_m: float = 1.0) -> None:
        self.names, self.tolerance_m = tuple(names), float(tolerance_m)
        if not self.names or len(set(self.names)) != len(self.names):
            raise ConfigError(f"names: {list(self.names)} must be different names, at least one.")
        if not 0 <= tolerance_m < math.inf:
            raise ConfigError(f"tolerance_m: {tolerance_m:g} is not a distance.")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._near = np.zeros((len(self.names), 2, 2), dtype=np.int64)  # called, true: pixels near, pixels
        self._distances: list[list[tuple[float, float]]] = [[] for _ in self.names]  # hausdorff95, mean

    def update(self, pred: Tensor, target: Tensor, valid: Tensor, pixel_size_m: float = 1.0) -> None:
        """Add a batch of images.

        Args:
            pred: (B, K, H, W) bool, True where called.
            target: (B, K, H, W) bool, or numbers 0 and 1.
            valid: (B, H, W) bool; other pixels have no part in any outline.
            pixel_size_m: Metres per pixel.

        Raises:
            ShapeError: If sizes do not fit together.
            DataError: If a mask holds something else than 0 and 1.
        """
        for k, called, true, counted in masks_of(pred, target, valid, len(self.names)):
            found = surface_distances(called, true, counted, pixel_size_m)
            for side, distances in enumerate(found):
                self._near[k, side] += (int((distances <= self.tolerance_m).sum()), distances.size)
            if not math.isnan(found.hausdorff95):
                self._distances[k].append((found.hausdorff95, found.mean))

    def merge(self, other: SurfaceMeter) -> None:
        """Add the images of another meter.

        Raises:
            ConfigError: If it has other names or another tolerance.
        """
        mine, theirs = ((meter.names, meter.tolerance_m) for meter in (self, other))
        if mine != theirs:
            raise ConfigError(f"Outlines of {theirs} and {mine} (names, tolerance_m) cannot be merged.")
        self._near += other._near
        for images, more in zip(self._distances, other._distances, strict=True):
            images.extend(list(more))

    def compute(self) -> dict[str, float]:
        """Scores of the whole data set.

        Returns:
            ``boundary_precision`` and ``boundary_recall`` (share of the called, of the true boundary within the
            tolerance of the other), ``boundary_f1`` of the two, ``nsd`` (share of both boundaries together), ``hd95``
            and ``surface_distance`` in metres, ``lonely_share`` (share of images with any outline in which only one
            mask has one): the mean over channels, and each as ``nsd@name``. nan where not defined.
        """
        return with_means({name: self._scores(k) for k, name in enumerate(self.names)})

    def _scores(self, k: int) -> dict[str, float]:
        (called_near, called), (true_near, true) = self._near[k].tolist()
        precision, recall = _share(called_near, called), _share(true_near, true)
        if called and true:
            f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        else:
            f1 = 0.0 if called or true else math.nan
        pairs = [pair for pair in self._distances[k] if math.isfinite(pair[0])]
        hausdorff, mean = ([pair[side] for pair in pairs] for side in (0, 1))
        return {
            "boundary_f1": f1,
            "boundary_precision": precision,
            "boundary_recall": recall,
            "nsd": _share(called_near + true_near, called + true),
            "hd95": _share(math.fsum(hausdorff), len(pairs)),
            "surface_distance": _share(math.fsum(mean), len(pairs)),
            "lonely_share": _share(len(self._distances[k]) - len(pairs), len(self._distances[k])),
        }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
