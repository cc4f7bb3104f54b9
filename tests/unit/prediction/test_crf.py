from __future__ import annotations

import sys
import types
from typing import Any, ClassVar

import numpy as np
import pytest

from maskwright.errors import PredictionError
from maskwright.prediction.crf import refined, require_crf


class StandInField:
    """Answers with the probabilities it was given, sharpened by squaring; keeps what it was told."""

    told: ClassVar[dict[str, Any]] = {}

    def __init__(self, width: int, height: int, labels: int) -> None:
        self.told.update(size=(width, height, labels))

    def setUnaryEnergy(self, energy: np.ndarray) -> None:
        self.energy = energy

    def addPairwiseGaussian(self, **options: Any) -> None:
        self.told.update(near=options)

    def addPairwiseBilateral(self, **options: Any) -> None:
        self.told.update(colour=options["rgbim"].shape)

    def inference(self, rounds: int) -> list[list[float]]:
        squared = np.exp(-2 * self.energy)
        return (squared / squared.sum(axis=0)).tolist()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = types.ModuleType("pydensecrf"), types.ModuleType("pydensecrf.densecrf")
    module.DenseCRF2D = StandInField  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pydensecrf", package)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", module)


@pytest.mark.usefixtures("stand_in")
def test_each_class_that_may_overlap_is_weighed_against_its_absence() -> None:
    probs = np.full((1, 2, 3), 0.75, np.float32)
    valid = np.ones((2, 3), bool)
    valid[0, 0] = False
    answer = refined(probs, np.zeros((2, 3, 3), np.uint8), valid, exclusive=False)
    np.testing.assert_allclose(answer[0][valid], 0.75**2 / (0.75**2 + 0.25**2), rtol=1e-5)
    assert answer[0, 0, 0] == np.float32(0.75)
    assert StandInField.told["size"] == (3, 2, 2)
    assert StandInField.told["colour"] == (2, 3, 3)


@pytest.mark.usefixtures("stand_in")
def test_classes_that_exclude_each_other_are_weighed_together() -> None:
    probs = np.array([[[0.5]], [[0.25]], [[0.25]]], np.float32)
    answer = refined(probs, np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), bool), exclusive=True)
    np.testing.assert_allclose(answer[:, 0, 0], [4 / 6, 1 / 6, 1 / 6], rtol=1e-5)


def test_without_a_package_the_message_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(PredictionError, match=r"Install pydensecrf .* or set prediction\.crf: false\."):
        require_crf()
