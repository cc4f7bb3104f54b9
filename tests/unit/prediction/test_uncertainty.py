from __future__ import annotations

import numpy as np
import pytest

from maskwright.config.prediction import PredictionConfig
from maskwright.errors import PredictionError
from maskwright.prediction.uncertainty import check_uncertainty, entropy_bits, uncertainty_names, uncertainty_unit


def test_a_coin_has_one_bit_and_certainty_none() -> None:
    probs = np.array([[[0.5, 0.0, 1.0, 0.25]]], np.float32)
    expected = [[[1.0, 0.0, 0.0, 0.811278]]]
    np.testing.assert_allclose(entropy_bits(probs, exclusive=False), expected, atol=1e-6)


def test_classes_that_exclude_each_other_have_one_entropy() -> None:
    probs = np.array([0.25, 0.25, 0.25, 0.25], np.float32)[:, None, None]
    assert entropy_bits(probs, exclusive=True).tolist() == [[[2.0]]]


def test_bands_and_units_are_named() -> None:
    assert uncertainty_names(["a", "b"], "entropy", exclusive=True) == ("entropy",)
    assert uncertainty_names(["5 m"], "entropy", exclusive=False) == ("entropy, 5 m",)
    assert uncertainty_names(["5 m"], "spread", exclusive=False) == ("standard deviation, 5 m",)
    assert [uncertainty_unit("entropy"), uncertainty_unit("spread"), uncertainty_unit("spread", metres=True)] == [
        "bit",
        "1",
        "m",
    ]


def test_one_answer_has_no_spread_and_metres_no_entropy() -> None:
    with pytest.raises(PredictionError, match=r"there is one only.*--with.*--tta 8"):
        check_uncertainty(PredictionConfig(uncertainty="spread"), 1)
    check_uncertainty(PredictionConfig(uncertainty="spread"), 2)
    check_uncertainty(PredictionConfig(uncertainty="spread", tta=4), 1)
    with pytest.raises(PredictionError, match="this model answers metres"):
        check_uncertainty(PredictionConfig(uncertainty="entropy"), 1, metres=True)
