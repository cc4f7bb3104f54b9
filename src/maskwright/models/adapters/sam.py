"""Coarse masks made sharp by a Segment Anything network (SAM), where the user installed one.

Every piece of a coarse mask becomes a prompt, its box and its innermost pixel, and the answer takes the piece's place
unless the two have little to do with each other. arXiv:2304.02643, arXiv:2408.00714.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy import ndimage

from maskwright.errors import ModelError, ShapeError
from maskwright.models.adapters.optional import check_picture, import_or_say

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Refinement", "SamPredictor", "SamRefiner", "load_sam"]

_EIGHT = ndimage.generate_binary_structure(2, 2)
_PACKAGES = ("segment_anything", "sam2")


class SamPredictor(Protocol):
    """What ``segment_anything.SamPredictor`` and ``sam2``'s ``SAM2ImagePredictor`` have in common."""

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Look at an image (H, W, 3) uint8: red, green, blue."""

    def predict(
        self,
        point_coords: NDArray[np.float32] | None = None,
        point_labels: NDArray[np.int64] | None = None,
        box: NDArray[np.float32] | None = None,
        *,
        multimask_output: bool = True,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Masks (M, H, W), how sure the network is of each (M,), and what they were cut from."""


@dataclass(frozen=True)
class Refinement:
    """A refined mask and what became of the pieces of the coarse one.

    Attributes:
        mask: (H, W) bool.
        replaced: Pieces that the network's answer took the place of.
        kept: Pieces that stayed as they were: too small to ask about, or the answer was unsure or about something else.
    """

    mask: NDArray[np.bool_]
    replaced: int
    kept: int


class SamRefiner:
    """Refines masks piece by piece.

    Args:
        predictor: From :func:`load_sam`, or a predictor of either package made by hand.
        margin_px: How far the box of a prompt reaches beyond the piece.
        min_px: Smaller pieces stay as they are.
        min_overlap: Least intersection over union of answer and piece, 0..1; below it the piece stays.
        min_score: Least score the network gives its answer, 0..1.

    Raises:
        ModelError: If a number is out of range.
    """

    def __init__(
        self,
        predictor: SamPredictor,
        *,
        margin_px: int = 4,
        min_px: int = 16,
        min_overlap: float = 0.5,
        min_score: float = 0.5,
    ) -> None:
        if margin_px < 0 or min_px < 1 or not (0 <= min_overlap <= 1 and 0 <= min_score <= 1):
            raise ModelError(
                f"margin_px {margin_px}, min_px {min_px}, min_overlap {min_overlap:g}, min_score {min_score:g}: the "
                "first must be 0 or more, the second 1 or more, the others inside 0..1."
            )
        self.predictor = predictor
        self.margin_px = margin_px
        self.min_px = min_px
        self.min_overlap = min_overlap
        self.min_score = min_score

    def refine(
        self, image: NDArray[np.uint8], mask: NDArray[np.bool_], valid: NDArray[np.bool_] | None = None
    ) -> Refinement:
        """A coarse mask with sharper pieces.

        Args:
            image: (H, W, 3) uint8: red, green, blue.
            mask: (H, W) bool, the coarse mask.
            valid: (H, W) bool; other pixels are in no mask. Unset: all count.

        Raises:
            ShapeError: If the sizes differ.
            ModelError: If the image is of another kind.
        """
        check_picture(image)
        valid = np.ones(mask.shape, np.bool_) if valid is None else valid
        if not mask.shape == valid.shape == image.shape[:2]:
            raise ShapeError(f"mask {mask.shape} and valid {valid.shape} do not fit an image of {image.shape[:2]}.")
        pieces, count = ndimage.label(mask & valid, _EIGHT)
        refined = np.zeros(mask.shape, np.bool_)
        replaced = 0
        if count:
            self.predictor.set_image(image)  # the costly half; the prompts come after at little cost
        for number, place in enumerate(ndimage.find_objects(pieces), start=1):
            piece = pieces == number
            answer = self._ask(piece, place) if np.count_nonzero(piece) >= self.min_px else None
            replaced += answer is not None
            refined |= piece if answer is None else answer
        return Refinement(refined & valid, replaced, count - replaced)

    def _ask(self, piece: NDArray[np.bool_], place: tuple[slice, slice]) -> NDArray[np.bool_] | None:
        """What the network says a piece is; None where that is no help."""
        rows, cols = place
        height, width = piece.shape
        left, top = max(cols.start - self.margin_px, 0), max(rows.start - self.margin_px, 0)
        right, bottom = min(cols.stop - 1 + self.margin_px, width - 1), min(rows.stop - 1 + self.margin_px, height - 1)
        masks, scores, _ = self.predictor.predict(
            point_coords=_innermost(piece, place),
            point_labels=np.ones(1, np.int64),
            box=np.array([left, top, right, bottom], np.float32),
            multimask_output=False,
        )
        answer = np.asarray(masks)[0] > 0.5  # one package gives bool, the other 0.0 and 1.0
        if answer.shape != piece.shape:
            raise ShapeError(f"The SAM package gave a mask of {answer.shape} for an image of {piece.shape} pixels.")
        either = np.count_nonzero(answer | piece)
        overlap = np.count_nonzero(answer & piece) / either
        return answer if overlap >= self.min_overlap and float(scores[0]) >= self.min_score else None


def load_sam(
    checkpoint: str | Path, *, kind: str = "vit_b", package: str | None = None, device: str = "cpu"
) -> SamPredictor:
    """A predictor of the SAM package that is installed.

    Checkpoints of both packages are read by the packages themselves; open only files from people you trust.

    Args:
        checkpoint: The file of weights that the package's authors offer.
        kind: For ``segment_anything`` one of its models, ``vit_b``, ``vit_l`` or ``vit_h``; for ``sam2`` the name of
            the settings that belong to the weights, for example ``configs/sam2.1/sam2.1_hiera_s.yaml``.
        package: ``segment_anything`` or ``sam2``; None: sam2 where ``kind`` names a YAML file, else the other.
        device: For example ``cpu`` or ``cuda``.

    Raises:
        ModelError: If there is no such package, model or file.
    """
    package = package or ("sam2" if kind.endswith((".yaml", ".yml")) else "segment_anything")
    if package not in _PACKAGES:
        raise ModelError(f"SAM package {package!r} is unknown. Available: {', '.join(_PACKAGES)}.")
    if not Path(checkpoint).is_file():
        raise ModelError(f"{checkpoint} does not exist. Give the file of weights that belongs to {kind}.")
    predictor: SamPredictor
    if package == "sam2":
        build = import_or_say("sam2.build_sam", "Refinement by SAM 2", "Install it: pip install sam2")
        maker = import_or_say("sam2.sam2_image_predictor", "Refinement by SAM 2", "Install it: pip install sam2")
        predictor = maker.SAM2ImagePredictor(build.build_sam2(kind, str(checkpoint), device=device))
        return predictor
    library = import_or_say(
        "segment_anything",
        "Refinement by SAM",
        "Install it: pip install git+https://github.com/facebookresearch/segment-anything.git (or sam2)",
    )
    if kind not in library.sam_model_registry:
        raise ModelError(f"segment_anything has no model {kind!r}. Available: {', '.join(library.sam_model_registry)}.")
    network = library.sam_model_registry[kind](checkpoint=str(checkpoint))
    network.to(device=device)
    predictor = library.SamPredictor(network)
    return predictor


def _innermost(piece: NDArray[np.bool_], place: tuple[slice, slice]) -> NDArray[np.float32]:
    """(1, 2) column and row of the pixel farthest from the edge of a piece."""
    rows, cols = place
    depth = ndimage.distance_transform_edt(np.pad(piece[place], 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([[cols.start + col, rows.start + row]], np.float32)
