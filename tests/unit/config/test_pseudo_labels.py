"""Settings of pseudo-labels: ranges, and what they do not go with."""

from __future__ import annotations

from typing import Any

import pytest

from maskwright.config import Experiment, load_experiment
from maskwright.errors import ConfigError


def experiment(pseudo: dict[str, Any], **more: Any) -> Experiment:
    settings: dict[str, Any] = {
        "name": "sure",
        "task": {"kind": "binary"},
        "data": {"kind": "images", "folder": "/photos"},
        "pseudo_labels": {"folder": "/more"} | pseudo,
    }
    return load_experiment(overrides=settings | more)


@pytest.mark.parametrize("confidence", [0.5, 1.0, 1.2, -0.1])
def test_a_confidence_that_is_no_probability_above_a_half_is_refused(confidence: float) -> None:
    with pytest.raises(ConfigError, match=r"pseudo_labels\.confidence"):
        experiment({"confidence": confidence})


def test_heights_have_no_pseudo_labels() -> None:
    with pytest.raises(ConfigError, match="being sure of a gap tells no height"):
        experiment({}, task={"kind": "height_gaps"}, data={"kind": "height_rasters", "folder": "/chm"})


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"stages": [{"name": "a"}]}, "stages are set too"),
        ({"training": {"budget": 5}}, "it would be given to each round"),
        ({"data": {"folder": "/photos", "extra": {"folder": "/x"}}}, "data.extra.folder is set too"),
        ({"data": {"folder": "/photos", "balance": {"by": "foreground"}}}, "decides how often tiles come"),
    ],
)
def test_what_does_not_go_with_pseudo_labels_is_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        experiment({}, **more)


def test_without_a_folder_nothing_is_asked() -> None:
    whole = experiment({"folder": None}, training={"budget": 5})
    assert whole.pseudo_labels.folder is None
