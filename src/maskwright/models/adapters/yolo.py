"""YOLO segmentation networks of the package ultralytics, where the user installed it.

The package is under AGPL-3.0, so Maskwright neither brings nor needs it. Its weight files are pickles, which can run
any program when they are read: open only files from people you trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.errors import ModelError
from maskwright.models.adapters.optional import check_picture, import_or_say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["YoloObjects", "YoloSegmenter"]


@dataclass(frozen=True)
class YoloObjects:
    """Objects found in a picture, the surest first.

    Attributes:
        masks: (N, H, W) bool, of the picture's own size.
        boxes: (N, 4) float32 pixels: left, top, right, bottom.
        classes: (N,) int64 class ids.
        scores: (N,) float32 in 0..1.
    """

    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)


class YoloSegmenter:
    """A YOLO network that gives objects with masks.

    Args:
        weights: A file of weights, for example ``yolo11n-seg.pt``; a name the package knows is fetched by it.
        confidence: Objects with a lower score are left out, above 0, below 1.
        size_px: Side the package scales pictures to; None: the one the network was trained with.
        device: For example ``cpu`` or ``cuda:0``; None: the package's choice.

    Attributes:
        class_names: Names by class id.

    Raises:
        ModelError: If ultralytics is not installed, the weights cannot be read or do not give masks.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        confidence: float = 0.25,
        size_px: int | None = None,
        device: str | None = None,
    ) -> None:
        if not 0 < confidence < 1:
            raise ModelError(f"confidence: {confidence:g} must lie above 0 and below 1.")
        package = import_or_say(
            "ultralytics", "A YOLO network", "Install it if its licence (AGPL-3.0) suits you: pip install ultralytics"
        )
        try:
            self._model: Any = package.YOLO(str(weights))
        except Exception as cause:  # the package raises many kinds
            raise ModelError(f"{weights} cannot be opened by ultralytics: {cause}") from cause
        if self._model.task != "segment":
            raise ModelError(
                f"{weights} is a YOLO network for the task {self._model.task!r} and gives no masks. "
                "Use one for segmentation, such as yolo11n-seg.pt."
            )
        self.class_names: dict[int, str] = {int(number): str(name) for number, name in self._model.names.items()}
        self._options: dict[str, Any] = {"conf": confidence, "verbose": False, "retina_masks": True}
        self._options |= {} if size_px is None else {"imgsz": size_px}
        self._options |= {} if device is None else {"device": device}

    def objects(self, image: NDArray[np.uint8]) -> YoloObjects:
        """The objects of a picture (H, W, 3) uint8: red, green, blue.

        Raises:
            ModelError: If the picture is of another kind, or the masks are not of its size.
        """
        check_picture(image)
        backwards = np.ascontiguousarray(image[:, :, ::-1])  # the package takes arrays as blue, green, red
        result = self._model.predict(backwards, **self._options)[0]
        height, width = image.shape[:2]
        if result.masks is None:
            return YoloObjects(
                np.zeros((0, height, width), np.bool_), np.zeros((0, 4), np.float32),
                np.zeros(0, np.int64), np.zeros(0, np.float32),
            )  # fmt: skip
        masks = _array(result.masks.data)
        if masks.shape[1:] != (height, width):
            raise ModelError(
                f"ultralytics gave masks of {masks.shape[1:]} for a picture of {(height, width)} pixels. "
                "Its version does not know retina_masks; update it: pip install -U ultralytics"
            )
        scores = _array(result.boxes.conf).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        return YoloObjects(
            masks=(masks > 0.5)[order],
            boxes=_array(result.boxes.xyxy).astype(np.float32)[order],
            classes=_array(result.boxes.cls).astype(np.int64)[order],
            scores=scores[order],
        )

    def mask(self, image: NDArray[np.uint8], classes: Sequence[str] | None = None) -> NDArray[np.bool_]:
        """(H, W) bool: pixels of any object, or of objects of some classes.

        Raises:
            ModelError: If a class is unknown, and as :meth:`objects`.
        """
        known = set(self.class_names.values())
        unknown = sorted(set(classes or ()) - known)
        if unknown:
            raise ModelError(f"The network has no class {unknown[0]!r}. Available: {', '.join(sorted(known))}.")
        found = self.objects(image)
        wanted = [number for number, name in self.class_names.items() if classes is None or name in classes]
        return np.asarray(found.masks[np.isin(found.classes, wanted)].any(axis=0), np.bool_)


def _array(values: Any) -> NDArray[Any]:
    """A tensor of the package, on whatever device, as an array."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
