"""What processes compare before they train together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from maskwright import __version__
from maskwright.config import Experiment, load_experiment
from maskwright.workflows import assemble_together as module
from maskwright.workflows.assemble import data_fingerprint
from maskwright.workflows.assemble_together import assemble_together

DATA = SimpleNamespace(describe=lambda: {"north": {"files": [{"path": "a.tif", "sha256": "1"}], "notes": []}})


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    file = tmp_path / "experiment.yaml"
    file.write_text(f"name: toy\ntask: {{heights_m: [5]}}\ndata: {{folder: {tmp_path}}}\n", encoding="utf-8")
    return load_experiment([file])


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is done, in order, and compared, in a process of two."""
    done: list[Any] = []

    def assemble(experiment: Experiment, **options: Any) -> Any:
        done.append(("assembled", options))
        return SimpleNamespace(source=DATA, split=SimpleNamespace(tiles={"train": (1, 2), "val": (3,)}))

    @contextlib.contextmanager
    def host_first() -> Iterator[None]:
        done.append("waited for the first of this computer")
        yield
        done.append("let the others go on")

    monkeypatch.setattr(module, "world_size", lambda: 2)
    monkeypatch.setattr(module, "assemble", assemble)
    monkeypatch.setattr(module, "host_first", host_first)
    monkeypatch.setattr(module, "require_alike", lambda facts, what: done.append((what, dict(facts))))
    return done


def test_settings_come_before_the_data_is_read_and_its_content_after(experiment: Experiment, order: list[Any]) -> None:
    split: Any = object()
    assemble_together(experiment, split=split)
    assert [each if isinstance(each, str) else each[0] for each in order] == [
        "the experiment",
        "waited for the first of this computer",
        "assembled",
        "let the others go on",
        "the data",
    ]
    assert order[2][1] == {"split": split, "check": None}


def test_what_each_computer_may_have_of_its_own_is_not_compared(experiment: Experiment, order: list[Any]) -> None:
    assemble_together(experiment)
    compared = order[0][1]
    assert compared["Maskwright"] == __version__
    assert compared["torch"] == torch.__version__
    assert compared["optim.optimizer.lr"] == experiment.optim.optimizer.lr
    assert compared["data.loader.batch_size"] == experiment.data.loader.batch_size
    own = ("data.folder", "data.cache", "tracking.", "training.threads")
    assert not [name for name in compared if name.startswith(own)]


def test_the_data_is_compared_by_content_and_the_split_whatever_its_order(
    experiment: Experiment, order: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assemble_together(experiment)
    first = order[-1][1]
    assert first["the content"] == data_fingerprint(DATA)  # type: ignore[arg-type]
    for tiles, is_same in (({"val": (3,), "train": (1, 2)}, True), ({"val": (2,), "train": (1, 3)}, False)):
        other = SimpleNamespace(source=DATA, split=SimpleNamespace(tiles=tiles))
        monkeypatch.setattr(module, "assemble", lambda *_, other=other, **__: other)
        assemble_together(experiment)
        assert (order[-1][1] == first) is is_same


def test_a_process_alone_compares_nothing(
    experiment: Experiment, order: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "world_size", lambda: 1)
    assert assemble_together(experiment).source is DATA
    assert order == [("assembled", {"split": None, "check": None})]
