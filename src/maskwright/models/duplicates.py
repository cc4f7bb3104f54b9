"""Objects that are one: masks that overlap so much that the better one alone is kept."""

from __future__ import annotations

import numpy as np

from maskwright.objects import Crop, FoundObjects

__all__ = ["crop_iou", "meeting_boxes", "without_duplicates"]


def without_duplicates(objects: FoundObjects, most_iou: float) -> np.ndarray:
    """Positions, rising, of the objects that overlap no better one by more than ``most_iou``.

    Whatever their class: one crown is one tree. Of two with the same score the one listed first is the better.
    """
    order = np.argsort(-objects.scores, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    pairs = meeting_boxes(objects.boxes, objects.boxes)
    pairs = pairs[place[pairs[:, 0]] < place[pairs[:, 1]]]
    pairs = pairs[np.lexsort((place[pairs[:, 1]], place[pairs[:, 0]]))]
    out = np.zeros(len(objects), bool)
    for better, worse in pairs:
        if not out[better] and not out[worse] and crop_iou(objects.masks[better], objects.masks[worse]) > most_iou:
            out[worse] = True
    return np.flatnonzero(~out)


def crop_iou(one: Crop, other: Crop) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    top, left = max(one.row, other.row), max(one.col, other.col)
    bottom = min(one.row + one.pixels.shape[0], other.row + other.pixels.shape[0])
    right = min(one.col + one.pixels.shape[1], other.col + other.pixels.shape[1])
    if bottom <= top or right <= left:
        return 0.0
    shared = int(np.count_nonzero(_part(one, top, left, bottom, right) & _part(other, top, left, bottom, right)))
    union = int(np.count_nonzero(one.pixels)) + int(np.count_nonzero(other.pixels)) - shared
    return shared / union if union else 0.0


def _part(crop: Crop, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    part: np.ndarray = crop.pixels[top - crop.row : bottom - crop.row, left - crop.col : right - crop.col]
    return part


def meeting_boxes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(P, 2) positions of boxes that share more than a border, by the first, then the second."""
    if not len(first) or not len(second):
        return np.zeros((0, 2), np.int64)
    import shapely

    tree = shapely.STRtree(shapely.box(*second.T.astype(np.float64)))
    pairs = tree.query(shapely.box(*first.T.astype(np.float64))).T
    low = np.maximum(first[pairs[:, 0], :2], second[pairs[:, 1], :2])
    high = np.minimum(first[pairs[:, 0], 2:], second[pairs[:, 1], 2:])
    pairs = pairs[(high > low).all(axis=1)]
    return np.asarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], np.int64)
