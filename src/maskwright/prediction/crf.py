"""Probabilities sharpened along the edges of the picture by a fully connected CRF, where a package for it is installed.

Source: Kraehenbuehl and Koltun, arXiv:1210.5644, with its usual two kernels: nearness alone, nearness and colour.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from maskwright.errors import PredictionError

__all__ = ["PACKAGES", "refined", "require_crf"]

PACKAGES = ("pydensecrf.densecrf",)
"""Modules that are tried, in this order; each offers ``DenseCRF2D`` as pydensecrf does."""

_SMOOTH_PX, _SMOOTH_WEIGHT = 3, 3
_EDGE_PX, _EDGE_LEVELS, _EDGE_WEIGHT = 60, 10, 5
_LEAST = 1e-6

FloatArray = npt.NDArray[np.float32]


def require_crf() -> Any:
    """The module that computes.

    Raises:
        PredictionError: If none is installed.
    """
    for name in PACKAGES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise PredictionError(
        "prediction.crf: no package for conditional random fields is installed. Install pydensecrf (or the fork "
        "pydensecrf2, which has wheels), or set prediction.crf: false."
    )


def refined(
    probs: FloatArray, rgb: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], *, exclusive: bool, rounds: int = 5
) -> FloatArray:
    """Probabilities after some rounds of mean field inference.

    Args:
        probs: (K, H, W), 0..1.
        rgb: (H, W, 3), what the edges are taken from.
        valid: (H, W); other pixels say nothing and keep their values.
        exclusive: The classes exclude each other; else each is weighed against its absence.
        rounds: Of inference.

    Raises:
        PredictionError: If no package for it is installed.
    """
    module = require_crf()
    if exclusive:
        answer = _inferred(module, probs, rgb, valid, rounds)
    else:
        pairs = [_inferred(module, np.stack((1 - plane, plane)), rgb, valid, rounds)[1] for plane in probs]
        answer = np.stack(pairs)
    return np.where(valid, answer, probs)


def _inferred(
    module: Any, probs: FloatArray, rgb: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], rounds: int
) -> FloatArray:
    labels, height, width = probs.shape
    said = np.where(valid, np.clip(probs, _LEAST, 1.0), np.float32(1 / labels))
    field = module.DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(said).reshape(labels, -1), np.float32))
    field.addPairwiseGaussian(sxy=_SMOOTH_PX, compat=_SMOOTH_WEIGHT)
    field.addPairwiseBilateral(sxy=_EDGE_PX, srgb=_EDGE_LEVELS, rgbim=np.ascontiguousarray(rgb), compat=_EDGE_WEIGHT)
    return np.asarray(field.inference(rounds), np.float32).reshape(labels, height, width)
