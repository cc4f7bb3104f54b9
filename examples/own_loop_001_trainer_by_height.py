"""Trainer on gaps in a forest: scores by height, a callback of one's own, checkpoints, test and prediction.

Run it: ``python examples/own_loop_001_trainer_by_height.py OUTPUT_FOLDER``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maskwright.config import load_experiment
from maskwright.data.build import build_loaders, build_source, build_split_of, fit_normaliser
from maskwright.data.synthetic import write_forest
from maskwright.metrics import ThresholdMetrics
from maskwright.tasks import build_task
from maskwright.tracking import RunFolder
from maskwright.training import Callback, Trainer, TrainState

HEIGHTS_M = (5.0, 10.0)


class BestSoFar(Callback):
    """A callback of one's own: override the hooks you need; the state comes first."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self.seen.append(max([scores["val/iou"], *self.seen[-1:]]))


def settings(folder: Path, epochs: int, size_px: int) -> Any:
    """Rasters of an invented forest, and the settings of a small run on it."""
    forest = folder / "forest"
    write_forest(forest, size_px=size_px, seed=3)
    return load_experiment(
        overrides={
            "name": "forest",
            "task": {"kind": "height_gaps", "heights_m": list(HEIGHTS_M)},
            "data": {
                "kind": "height_rasters",
                "folder": str(forest),
                "split": {"by": "blocks"},
                "tiles": {"size_px": 32},
                "loader": {"batch_size": 4, "samples_per_epoch": 32, "workers": 0},
            },
            "model": {"kind": "film_unet", "base_channels": 8, "depth": 2},
            "optim": {"optimizer": {"lr": 5e-3}},
            "training": {"epochs": epochs, "device": "cpu"},
            "callbacks": {"early_stopping": {"patience": 10}},
            "checkpoints": {"strategy": "best", "max_checkpoints": 3},
        }
    )


def main(folder: Path, *, epochs: int = 10, size_px: int = 512) -> dict[str, Any]:
    """Train, test, save, load and predict; returns what came of it."""
    config = settings(folder, epochs, size_px)
    torch.manual_seed(config.training.seed)
    source = build_source(config.data)
    split = build_split_of(config.data, source)
    fit_normaliser(config.data, source, split)
    train_loader, others = build_loaders(config.data, source, split, heights_m=HEIGHTS_M, seed=config.training.seed)
    task = build_task(config.task, config.loss, config.metrics, config.model)
    best = BestSoFar()
    trainer = Trainer(
        task,
        task.build_model(config.model, in_channels=1, batch_size=4),
        train_loader,
        others["val"],
        test_loader=others["test"],
        training=config.training,
        optim=config.optim,
        monitoring=config.callbacks,
        checkpoints=config.checkpoints,
        run_folder=RunFolder.create(folder, "forest"),
        callbacks=[best],
        quiet=True,
    )
    history = trainer.train().history
    test_scores = trainer.test()

    trainer.save_checkpoint(folder / "model_best.pt")
    trainer.load_checkpoint(folder / "model_best.pt")

    metrics = ThresholdMetrics(thresholds=HEIGHTS_M)
    for batch in others["test"]:
        probs = trainer.predict(batch.image, HEIGHTS_M).probs
        target = task.target(batch)
        for channel, height_m in enumerate(HEIGHTS_M):
            metrics.update(
                probs[:, channel],
                target[:, channel].long().masked_fill(~batch.valid, 255),
                0.5,
                threshold_value=height_m,
            )
    return {"history": history, "test": test_scores, "by_height": metrics.compute(), "best": best.seen, "probs": probs}


if __name__ == "__main__":
    output = Path(sys.argv[1] if len(sys.argv) > 1 else "own_loop_001")
    output.mkdir(parents=True, exist_ok=True)
    result = main(output)
    print(f"IoU on the test blocks: {result['test']['test/iou']:.3f}; by height: {result['by_height']}")
