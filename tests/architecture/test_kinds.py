"""The tables in build modules hold exactly the kinds and words that settings allow."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import pytest

from maskwright.config import (
    CombinedLossConfig,
    Experiment,
    LossConfig,
    ModelConfig,
    NormaliseConfig,
    OptimConfig,
    ScheduleConfig,
    TaskConfig,
    field_specs,
)
from maskwright.config.base import kind_of, sections_in

SPECS = {spec.path: spec for spec in field_specs(Experiment)}


def table(path: str) -> Mapping[str, Any]:
    module, _, name = path.partition(":")
    found: Mapping[str, Any] = getattr(importlib.import_module(module), name)
    return found


@pytest.mark.parametrize(
    ("path", "annotation"),
    [
        ("maskwright.data.build:NORMALISERS", NormaliseConfig),
        ("maskwright.losses.build:LOSSES", LossConfig),
        ("maskwright.models.build:MODELS", ModelConfig),
        ("maskwright.optim.build:OPTIMIZERS", OptimConfig.model_fields["optimizer"].annotation),
        ("maskwright.optim.build:SCHEDULES", ScheduleConfig),
        ("maskwright.tasks.build:TASKS", TaskConfig),
    ],
)
def test_a_table_holds_exactly_the_kinds_of_its_section(path: str, annotation: Any) -> None:
    assert set(table(path)) == {kind_of(section) for section in sections_in(annotation)}


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        ("maskwright.models.blocks:ACTIVATIONS", "model.activation"),
        ("maskwright.prediction.blending:BLENDS", "prediction.blend"),
    ],
)
def test_a_table_holds_exactly_the_words_of_its_setting(path: str, setting: str) -> None:
    assert set(table(path)) == set(SPECS[setting].choices)


def test_every_term_of_the_loss_has_a_weight_in_the_settings() -> None:
    weights = CombinedLossConfig().terms
    of_distributions = {"likelihood"}  # of no logits: its sums come from the task
    assert set(table("maskwright.losses.composite:TERMS")) | of_distributions == set(weights)
    assert set(weights) <= set(CombinedLossConfig.model_fields)
