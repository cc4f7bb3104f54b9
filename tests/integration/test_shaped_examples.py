"""The examples of progressive training, pseudo-labels and transfer learning run as they stand, on invented pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from maskwright.config import load_experiment
from maskwright.data.synthetic_images import write_pictures
from maskwright.tracking.folder import find_runs
from maskwright.training import Callback, TrainState
from maskwright.workflows.shape import train_shaped
from maskwright.workflows.train import TrainOutcome

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TINY = ["training.threads=1", "metrics.bootstrap=100", "tracking.quiet=true", "tracking.tensorboard=false"]


@pytest.fixture(scope="module")
def cracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "crack_cfd", "cracks", 10, size_px=64, difficulty="easy")
    write_pictures(folder / "other", "cracks", 4, size_px=64, seed=100, difficulty="easy")
    (folder / "other" / "images").rename(folder / "crack_unlabelled")
    return folder


def run(
    example: str, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str, watch: Callback | None = None
) -> TrainOutcome:
    monkeypatch.setenv("MASKWRIGHT_DATA", str(data))
    settings = [*TINY, f"tracking.output_dir={out}", *overrides]
    experiment = load_experiment([EXAMPLES / example / "experiment.yaml"], settings)
    return train_shaped(experiment, callbacks=[] if watch is None else [watch])


def test_progressive_training_grows_its_tiles(cracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = "stages=[{name: coarse, size_px: 16, batch_size: 32, epochs: 1}, {name: fine, size_px: 64, batch_size: 2, "
    small += "epochs: 1, lr: 2.0e-4, settings: [optim.schedule.kind=cosine, training.accumulate=4]}]"
    outcome = run("progressive", cracks, tmp_path, monkeypatch, "model.base_channels=4", "data.tiles.size_px=16", small)
    assert outcome.finished
    sizes = {found.record.load()["name"]: load_experiment([found.config]) for found in find_runs(outcome.folder.path)}
    assert [sizes[name].data.tiles.size_px for name in sorted(sizes)] == [16, 64]
    assert sizes["stage_2_fine"].training.accumulate == 4


def test_pseudo_labels_say_what_they_added(cracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["model.base_channels=4", "data.tiles.size_px=64", "training.epochs=1", "pseudo_labels.rounds=1"]
    outcome = run("pseudo_labels", cracks, tmp_path, monkeypatch, *words, "pseudo_labels.confidence=0.51")
    assert outcome.finished
    told = json.loads((outcome.folder.path / "pseudo_labels.json").read_text())
    assert [entry["number"] for entry in told["rounds"]] == [0, 1]
    assert set(told["rounds"][1]["images_added"]) <= {f"cracks_{number:04d}" for number in range(4)}


class Watch(Callback):
    """Weights and running statistics of each part after each epoch, and learning rates."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.lrs: list[dict[str, float]] = []

    def on_train_begin(self, state: TrainState) -> None:
        self._look(state)

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self._look(state)

    def _look(self, state: TrainState) -> None:
        self.states.append({name: value.clone() for name, value in state.model.state_dict().items()})
        self.lrs.append({str(group["name"]): float(group["lr"]) for group in state.optimizer.param_groups})

    def moved(self, part: str) -> list[bool]:
        """For each epoch whether anything in a part has changed."""
        names = [name for name in self.states[0] if f"{part}." in name]
        assert names
        pairs = zip(self.states, self.states[1:], strict=False)
        return [any(not torch.equal(a[name], b[name]) for name in names) for a, b in pairs]


def test_a_frozen_encoder_keeps_weights_and_statistics_and_then_learns_with_smaller_steps(
    cracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch()
    words = ["model.encoder_weights=none", "training.epochs=4", "training.unfreeze.start_epoch=2"]
    words += ["data.tiles.size_px=32", "data.loader.samples_per_epoch=8", "optim.schedule.kind=constant"]
    run("transfer", cracks, tmp_path, monkeypatch, *words, watch=watch)
    assert any("running_mean" in name for name in watch.states[0])
    assert watch.moved("encoder") == [False, False, True, True]
    assert watch.moved("decoder") == [True, True, True, True]
    rates = watch.lrs[-1]
    encoder = {rate for name, rate in rates.items() if name.startswith("encoder")}
    decoder = {rate for name, rate in rates.items() if name.startswith("decoder")}
    assert [*encoder] == pytest.approx([1e-4])
    assert decoder == {1e-3}


def test_the_words_of_the_documents_say_the_same() -> None:
    """A smaller rate for the backbone than for new heads, and a checkpoint to start from."""
    experiment = load_experiment(
        overrides={
            "name": "document",
            "task": {"kind": "binary"},
            "data": {"kind": "images", "folder": "/photos"},
            "model": {"kind": "unet", "initial_weights": "/models/before"},
            "optim": {"groups": [{"name": "encoder", "lr": 1e-5}, {"name": "head", "lr": 1e-4}]},
        }
    )
    assert [(group.name, group.lr) for group in experiment.optim.groups] == [("encoder", 1e-5), ("head", 1e-4)]
    assert experiment.model.initial_weights == Path("/models/before")
