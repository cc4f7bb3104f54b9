"""What an attempt settles at its start, and what a resumed one keeps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from maskwright.config import Experiment
from maskwright.workflows import start_choices as module
from maskwright.workflows.resume_plan import Change
from maskwright.workflows.start_choices import as_first_chosen, settle_start, tell_crowding


def experiment(**training: Any) -> Experiment:
    sites = [{"name": "a", "dsm": "a_dsm.tif", "chm": "a_chm.tif"}]
    values = {"name": "toy", "task": {"heights_m": [5]}, "data": {"sites": sites}, "model": {"kind": "film_unet"}}
    return Experiment.model_validate(values | {"training": {"device": "cpu", **training}})


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of threads torch was told."""
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    return told


def test_an_attempt_makes_and_records_its_choices(threads: list[int]) -> None:
    parts: Any = SimpleNamespace(experiment=experiment(threads=3, channels_last=False), source=SimpleNamespace())
    assert settle_start(parts, own_process=False) == {
        "threads": 3,
        "allocator": "unchanged",
        "workers": 0,
        "layout": "channels first",
        "compile": "off",
    }
    assert threads == [3]


def test_threads_of_the_first_attempt_are_kept_unless_asked_otherwise(threads: list[int]) -> None:
    parts: Any = SimpleNamespace(experiment=experiment(), source=SimpleNamespace())
    assert settle_start(parts, own_process=False, threads=7)["threads"] == 7
    parts.experiment = experiment(threads=2)
    assert settle_start(parts, own_process=False, threads=7)["threads"] == 2
    assert threads == [7, 2]


def test_what_auto_came_to_first_is_kept() -> None:
    record = {"precision": "bf16", "process_choices": {"threads": 2, "workers": 3}}
    going_on = as_first_chosen(experiment(), record, ())
    assert (going_on.training.precision, going_on.data.loader.workers) == ("bf16", 3)
    assert as_first_chosen(experiment(), {}, ()) == experiment()


def test_what_is_asked_anew_is_chosen_anew() -> None:
    record = {"precision": "bf16", "process_choices": {"workers": 3}}
    changes = (Change("training.precision", "bf16", "auto"), Change("data.loader.workers", 3, "auto"))
    assert as_first_chosen(experiment(), record, changes) == experiment()
    asked = experiment(precision="fp32")
    assert as_first_chosen(asked, {"precision": "bf16"}, ()).training.precision == "fp32"


def test_a_precision_this_device_has_not_is_left_to_auto() -> None:
    assert as_first_chosen(experiment(), {"precision": "fp16"}, ()) == experiment()


def test_more_loader_processes_than_cores_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    tell_crowding({"workers": 2}, said.append)
    assert said == []
    tell_crowding({"workers": 6}, said.append)
    assert said == ["data.loader.workers: 6 loader processes share 2 cores, as asked; auto chooses by cores."]
