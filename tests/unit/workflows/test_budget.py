"""Minutes laid out as epochs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from maskwright.config import Experiment
from maskwright.tracking import RunFolder
from maskwright.workflows.budget import within_budget


@dataclass(frozen=True)
class Parts:
    experiment: Experiment


def parts(**training: Any) -> Any:
    return Parts(Experiment.model_validate({"name": "a", "data": {"folder": "x"}, "training": training}))


def refuse(_: Any) -> Any:
    raise AssertionError("nothing is to be measured")


def test_a_run_without_a_budget_stays_as_it_is(tmp_path: Path) -> None:
    plain = parts(epochs=7)
    assert within_budget(plain, RunFolder.create(tmp_path, "a"), 0.0, refuse, say=print) is plain


def test_a_resumed_run_keeps_the_plan_and_measures_nothing(tmp_path: Path) -> None:
    folder, said = RunFolder.create(tmp_path, "a"), list[str]()
    folder.record.update(budget={"epochs": 3})
    found = within_budget(parts(epochs=50, budget=10), folder, 0.0, refuse, say=said.append)
    assert found.experiment.training.epochs == 3
    assert found.experiment.training.budget == pytest.approx(10)
    assert said == []
