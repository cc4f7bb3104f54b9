"""YOLO through a stand-in with the calling conventions of ultralytics."""

from __future__ import annotations

import sys
import types
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from maskwright.errors import ModelError
from maskwright.models.adapters import YoloSegmenter

RED = np.zeros((6, 8, 3), np.uint8)
RED[1:3, 2:5, 0] = 255
BLUE = np.zeros((6, 8, 3), np.uint8)
BLUE[4:, :2, 2] = 255


class Yolo:
    """Two objects: what is red (class 1, less sure), and what is blue (class 0)."""

    task = "segment"
    names: ClassVar[dict[int, str]] = {0: "blue", 1: "red"}
    calls: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, weights: str) -> None:
        if weights == "broken.pt":
            raise FileNotFoundError("no such file")

    def predict(self, source: np.ndarray, **options: Any) -> list[Any]:
        assert source.flags.c_contiguous
        assert source.dtype == np.uint8
        self.calls.append(options)
        found = [(mask, number) for number, mask in ((1, source[..., 2] > 0), (0, source[..., 0] > 0)) if mask.any()]
        if not found:
            return [types.SimpleNamespace(masks=None, boxes=None)]
        masks = torch.stack([torch.from_numpy(mask).float() for mask, _ in found])
        if not options["retina_masks"]:
            masks = masks[:, ::2, ::2]
        numbers = torch.tensor([float(number) for _, number in found])
        boxes = types.SimpleNamespace(
            xyxy=torch.tensor([[2.0, 1.0, 5.0, 3.0], [0.0, 4.0, 2.0, 6.0]])[[1 - int(n) for n in numbers]],
            cls=numbers,
            conf=0.9 - 0.3 * numbers,
        )
        return [types.SimpleNamespace(masks=types.SimpleNamespace(data=masks), boxes=boxes)]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("ultralytics")
    module.YOLO = type("YOLO", (Yolo,), {"calls": []})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ultralytics", module)
    return module


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(ModelError, match=r"needs the package ultralytics, which is not installed.*pip install ultr"):
        YoloSegmenter("yolo11n-seg.pt")


def test_objects_come_with_masks_of_the_pictures_size_the_surest_first(package: Any) -> None:
    found = YoloSegmenter("yolo11n-seg.pt", device="cpu", size_px=64).objects(RED + BLUE)
    assert len(found) == 2
    assert found.classes.tolist() == [0, 1]
    assert found.scores == pytest.approx([0.9, 0.6])
    assert np.array_equal(found.masks, [BLUE[..., 2] > 0, RED[..., 0] > 0])
    assert found.boxes.tolist() == [[0, 4, 2, 6], [2, 1, 5, 3]]
    (options,) = package.YOLO.calls
    assert options == {"conf": 0.25, "verbose": False, "retina_masks": True, "imgsz": 64, "device": "cpu"}


def test_a_mask_of_some_classes_holds_no_others(package: Any) -> None:
    yolo = YoloSegmenter("yolo11n-seg.pt")
    assert yolo.class_names == {0: "blue", 1: "red"}
    assert np.array_equal(yolo.mask(RED + BLUE), (RED + BLUE).any(axis=2))
    assert np.array_equal(yolo.mask(RED + BLUE, ["red"]), RED[..., 0] > 0)
    with pytest.raises(ModelError, match=r"no class 'green'. Available: blue, red"):
        yolo.mask(RED, ["green"])


def test_nothing_found_is_an_empty_mask(package: Any) -> None:
    yolo = YoloSegmenter("yolo11n-seg.pt")
    assert len(yolo.objects(np.zeros_like(RED))) == 0
    assert not yolo.mask(np.zeros_like(RED)).any()


def test_masks_of_another_size_are_refused(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    yolo = YoloSegmenter("yolo11n-seg.pt")
    monkeypatch.setitem(yolo._options, "retina_masks", False)
    with pytest.raises(ModelError, match=r"masks of \(3, 4\) for a picture of \(6, 8\)"):
        yolo.objects(RED)


def test_networks_without_masks_and_files_that_cannot_be_read_are_refused(package: Any) -> None:
    with pytest.raises(ModelError, match=r"broken.pt cannot be opened by ultralytics: no such file"):
        YoloSegmenter("broken.pt")
    package.YOLO.task = "detect"
    with pytest.raises(ModelError, match="for the task 'detect' and gives no masks"):
        YoloSegmenter("yolo11n.pt")


@pytest.mark.parametrize("image", [RED.astype(np.float32), RED[..., 0]])
def test_other_pictures_are_refused(package: Any, image: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"must be \(height, width, 3\) uint8"):
        YoloSegmenter("yolo11n-seg.pt").objects(image)


def test_a_confidence_out_of_range_is_refused(package: Any) -> None:
    with pytest.raises(ModelError, match="confidence: 1 must lie above 0 and below 1"):
        YoloSegmenter("yolo11n-seg.pt", confidence=1.0)
