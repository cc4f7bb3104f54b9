"""Are masks where the things they mark are? The outline of masks against the edges seen in images.

The outlines of masks that fit lie on edges of the image. Moved by the right offset, those of shifted masks do too, and
by the same offset in all images; by chance they do not. So the correlations over all offsets of many images are added,
and an offset is told only where the images agree on it.

Source: phase correlation (Kuglin and Hines 1975), here of logarithmic gradients without whitening, which holds up
better with thin structures on rough ground.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.preflight import Finding, listed

__all__ = ["REACH_PX", "Shift", "common_shift", "offset_scores", "shift_findings"]

REACH_PX = 24  # offsets looked at, to each side, in pixels of the shrunk image
_WORK_PX = 768  # longer side of the image the offsets are looked for in
_ROUGH_PX = 8.0  # slower changes than this are taken out of both pictures
_LEAST_IMAGES = 4
_LEAST_OFFSET_PX = 2
_CLEAR = 4.0  # gain over offset 0, in standard errors over images
_AGREE = 0.35  # share of images whose own best offset is the common one
_PROMINENT = 5.5  # height of the common peak, in deviations over all offsets


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much masks lie off, if at all.

    Attributes:
        down_px: Rows the masks have to move down to fit; negative: up.
        right_px: Columns the masks have to move to the right; negative: to the left.
        images: Images looked at.
        agree: Share of them whose own best offset is this one, give or take 2 px of the shrunk image.
        gain: How much better it fits than offset 0, in standard errors over images.
        prominence: Height of the peak, in deviations over all offsets.
    """

    down_px: int
    right_px: int
    images: int
    agree: float
    gain: float
    prominence: float

    @property
    def is_clear(self) -> bool:
        """True if so many images agree so strongly that the masks can be called shifted."""
        return (
            self.images >= _LEAST_IMAGES
            and max(abs(self.down_px), abs(self.right_px)) >= _LEAST_OFFSET_PX
            and self.agree >= _AGREE
            and self.gain >= _CLEAR
            and self.prominence >= _PROMINENT
        )


def offset_scores(grey: NDArray[Any], mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int] | None:
    """How well a mask's outline fits an image's edges at each offset.

    Args:
        grey: (H, W) image.
        mask: (H, W) bool, the foreground.

    Returns:
        (2 R + 1, 2 R + 1) correlations in -1..1, offset (0, 0) in the middle, R = 24 px; and how many pixels of the
        image one pixel of an offset stands for. None if the mask has no outline, or the image is too small.
    """
    step = max(1, math.ceil(max(grey.shape) / _WORK_PX))
    rows, cols = (side // step for side in grey.shape)
    if min(rows, cols) < 2 * REACH_PX:
        return None
    image = _blocks(grey, step)
    outline = _outline(_blocks(mask, step) >= 0.5)
    if not outline.any():
        return None
    edges, rims = _windowed(np.log1p(_gradient(image))), _windowed(outline.astype(np.float32))
    norm = float(np.sqrt((edges**2).sum() * (rims**2).sum()))
    if norm <= 0:
        return None
    import scipy.fft

    size = [scipy.fft.next_fast_len(side + 2 * REACH_PX, real=True) for side in (rows, cols)]
    spectrum = scipy.fft.rfft2(edges, size) * np.conj(scipy.fft.rfft2(rims, size))
    scores = np.roll(scipy.fft.irfft2(spectrum, size), (REACH_PX, REACH_PX), (0, 1))
    found: NDArray[np.float64] = scores[: 2 * REACH_PX + 1, : 2 * REACH_PX + 1].astype(np.float64) / norm
    return found, step


def common_shift(scores: Sequence[tuple[NDArray[np.float64], int]]) -> Shift | None:
    """The offset that suits most images; None with fewer than four that can be compared.

    Images shrunk by another factor than most are left out, since their offsets count in other pixels.
    """
    steps = [step for _, step in scores]
    if not steps:
        return None
    step = max(set(steps), key=steps.count)
    stack = np.stack([score for score, own in scores if own == step])
    if len(stack) < _LEAST_IMAGES:
        return None
    mean = stack.mean(axis=0)
    peak = np.unravel_index(int(mean.argmax()), mean.shape)
    gains = stack[:, peak[0], peak[1]] - stack[:, REACH_PX, REACH_PX]
    error = float(gains.std(ddof=1)) / math.sqrt(len(stack))
    flat = stack.reshape(len(stack), -1).argmax(axis=1)
    own = np.stack(np.unravel_index(flat, mean.shape), axis=1)
    agree = float((np.abs(own - np.array(peak)).max(axis=1) <= 2).mean())
    return Shift(
        down_px=(int(peak[0]) - REACH_PX) * step,
        right_px=(int(peak[1]) - REACH_PX) * step,
        images=len(stack),
        agree=agree,
        gain=float(gains.mean()) / max(error, 1e-9),
        prominence=float((mean.max() - mean.mean()) / max(float(mean.std()), 1e-12)),
    )


def shift_findings(scores: Sequence[tuple[NDArray[np.float64], int]], names: Sequence[str]) -> list[Finding]:
    """Masks that lie off by a common offset, if the evidence over several images is strong.

    Args:
        scores: Of :func:`offset_scores`, one for each image looked at.
        names: Names of these images.
    """
    shift = common_shift(scores)
    if shift is None or not shift.is_clear:
        return []
    moves = [
        f"{abs(size)} px {words[size > 0]}"
        for size, words in ((shift.down_px, ("up", "down")), (shift.right_px, ("to the left", "to the right")))
        if size
    ]
    return [
        Finding(
            "warning",
            "mask_shifted",
            listed(names),
            f"The masks do not lie on what they mark: moved {' and '.join(moves)} they would, in {shift.agree:.0%} of "
            f"{shift.images} images by the same offset.",
            "Find the step that cut or moved the masks (a crop, a resize, half a pixel at each export) and redo it.",
            {
                "down_px": shift.down_px,
                "right_px": shift.right_px,
                "images": shift.images,
                "agree": shift.agree,
                "gain": shift.gain,
            },
        )
    ]


def _blocks(values: NDArray[Any], step: int) -> NDArray[np.float32]:
    rows, cols = (side // step for side in values.shape)
    cut = values[: rows * step, : cols * step].astype(np.float32)
    means: NDArray[np.float32] = cut.reshape(rows, step, cols, step).mean(axis=(1, 3))
    return means


def _gradient(image: NDArray[np.float32]) -> NDArray[np.float32]:
    import cv2

    down, right = cv2.Sobel(image, cv2.CV_32F, 0, 1), cv2.Sobel(image, cv2.CV_32F, 1, 0)
    size: NDArray[np.float32] = np.hypot(down, right)
    return size


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels on either side of the mask's rim, so that the outline's middle is the rim itself."""
    rim = np.zeros_like(mask)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    rim[1:] |= down
    rim[:-1] |= down
    rim[:, 1:] |= right
    rim[:, :-1] |= right
    return rim


def _windowed(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without slow changes, and fading out towards the border, which is an edge of nothing."""
    import cv2

    rough = picture - cv2.GaussianBlur(picture, (0, 0), _ROUGH_PX)
    fade = np.sqrt(np.outer(np.hanning(picture.shape[0]), np.hanning(picture.shape[1])))
    faded: NDArray[np.float32] = (rough * fade).astype(np.float32)
    return faded
