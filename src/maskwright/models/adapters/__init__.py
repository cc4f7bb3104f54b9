"""Networks of packages that Maskwright does not bring along: used where the user installed them, named where not."""

from __future__ import annotations

from maskwright.models.adapters.sam import Refinement, SamPredictor, SamRefiner, load_sam
from maskwright.models.adapters.yolo import YoloObjects, YoloSegmenter

__all__ = ["Refinement", "SamPredictor", "SamRefiner", "YoloObjects", "YoloSegmenter", "load_sam"]
