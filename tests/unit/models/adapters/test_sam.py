"""SAM refinement through stand-ins with the calling conventions of segment_anything and sam2."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.errors import ModelError, ShapeError
from maskwright.models.adapters import SamRefiner, load_sam


class Predictor:
    """Answers with what is bright inside the box, if the point is bright."""

    dtype: type = bool

    def __init__(self, network: Any = None) -> None:
        self.network = network
        self.asked: list[tuple[list[float], list[float]]] = []
        self.score = 0.9

    def set_image(self, image: np.ndarray) -> None:
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        self.bright = image[..., 0] > 100

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert not multimask_output
        assert box is not None
        assert point_coords is not None
        assert point_labels is not None
        assert point_labels.tolist() == [1]
        left, top, right, bottom = box.astype(int)
        answer = np.zeros_like(self.bright)
        answer[top : bottom + 1, left : right + 1] = True
        col, row = point_coords[0].astype(int)
        self.asked.append((box.tolist(), [col, row]))
        answer &= self.bright & self.bright[row, col]
        return answer[None].astype(self.dtype), np.array([self.score]), np.zeros((1, 256, 256))


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright square of 8 x 8, and a coarse mask that is off by one and ragged."""
    truth = np.zeros((24, 30), np.bool_)
    truth[6:14, 10:18] = True
    coarse = np.zeros_like(truth)
    coarse[7:15, 11:18] = True
    image = np.repeat((truth * 200).astype(np.uint8)[..., None], 3, axis=2)
    return image, truth, coarse


@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_a_coarse_piece_becomes_what_the_network_sees(dtype: type) -> None:
    image, truth, coarse = scene()
    predictor = Predictor()
    predictor.dtype = dtype
    refined = SamRefiner(predictor, margin_px=2).refine(image, coarse)
    assert np.array_equal(refined.mask, truth)
    assert (refined.replaced, refined.kept) == (1, 0)
    ((box, point),) = predictor.asked
    assert box == [9, 5, 19, 16]  # the piece with its margin
    assert coarse[point[1], point[0]]
    assert point == [14, 10]  # its middle


def test_pieces_are_asked_for_one_by_one_and_small_ones_stay() -> None:
    image, truth, coarse = scene()
    coarse[0, 0] = True  # one pixel, in no bright place
    predictor = Predictor()
    refined = SamRefiner(predictor).refine(image, coarse)
    assert len(predictor.asked) == 1
    assert (refined.replaced, refined.kept) == (1, 1)
    assert refined.mask[0, 0]
    assert np.array_equal(refined.mask[1:], truth[1:])


def test_an_answer_about_something_else_or_an_unsure_one_changes_nothing() -> None:
    image, _, coarse = scene()
    elsewhere = np.roll(coarse, -9, axis=1)  # over dark ground
    predictor = Predictor()
    assert np.array_equal(SamRefiner(predictor).refine(image, elsewhere).mask, elsewhere)
    predictor.score = 0.3
    refined = SamRefiner(predictor).refine(image, coarse)
    assert np.array_equal(refined.mask, coarse)
    assert (refined.replaced, refined.kept) == (0, 1)


def test_pixels_that_do_not_count_are_in_no_mask() -> None:
    image, truth, coarse = scene()
    valid = np.ones_like(truth)
    valid[:, 17] = False
    refined = SamRefiner(Predictor()).refine(image, coarse, valid).mask
    assert np.array_equal(refined, truth & valid)


def test_an_empty_mask_costs_no_look_at_the_image() -> None:
    image, truth, _ = scene()
    predictor = Predictor()
    assert not SamRefiner(predictor).refine(image, np.zeros_like(truth)).mask.any()
    assert not hasattr(predictor, "bright")


def test_what_does_not_fit_is_refused() -> None:
    image, _, coarse = scene()
    with pytest.raises(ShapeError, match=r"mask \(23, 30\)"):
        SamRefiner(Predictor()).refine(image, coarse[1:])
    with pytest.raises(ModelError, match="uint8"):
        SamRefiner(Predictor()).refine(image.astype(np.float32), coarse)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="min_overlap 2"):
        SamRefiner(Predictor(), min_overlap=2.0)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"weights")
    return file


def test_segment_anything_is_called_as_its_authors_say(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    class Network:
        def __init__(self, checkpoint: str) -> None:
            self.checkpoint, self.device = checkpoint, ""

        def to(self, device: str) -> None:
            self.device = device

    module = types.ModuleType("segment_anything")
    module.sam_model_registry = {"vit_b": Network}  # type: ignore[attr-defined]
    module.SamPredictor = Predictor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "segment_anything", module)
    predictor: Any = load_sam(weights, device="cpu")
    assert (predictor.network.checkpoint, predictor.network.device) == (str(weights), "cpu")
    with pytest.raises(ModelError, match=r"no model 'vit_x'. Available: vit_b"):
        load_sam(weights, kind="vit_x")


def test_sam2_is_chosen_by_its_settings_and_called_as_its_authors_say(
    monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    build, maker = types.ModuleType("sam2.build_sam"), types.ModuleType("sam2.sam2_image_predictor")
    build.build_sam2 = lambda settings, checkpoint, device: (settings, checkpoint, device)  # type: ignore[attr-defined]
    maker.SAM2ImagePredictor = Predictor  # type: ignore[attr-defined]
    for name, module in (("sam2", types.ModuleType("sam2")), ("sam2.build_sam", build), (maker.__name__, maker)):
        monkeypatch.setitem(sys.modules, name, module)
    settings = "configs/sam2.1/sam2.1_hiera_s.yaml"
    predictor: Any = load_sam(weights, kind=settings, device="cuda")
    assert predictor.network == (settings, str(weights), "cuda")


@pytest.mark.parametrize(("kind", "package"), [("vit_b", "segment_anything"), ("a.yaml", "sam2")])
def test_without_a_package_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, weights: Path, kind: str, package: str
) -> None:
    for name in ("segment_anything", "sam2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=f"needs the package {package}.*not installed. Install it: pip install"):
        load_sam(weights, kind=kind)


def test_a_missing_file_and_an_unknown_package_are_named(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_sam(tmp_path / "none.pt")
    with pytest.raises(ModelError, match=r"'sam3' is unknown. Available: segment_anything, sam2"):
        load_sam(weights, package="sam3")
