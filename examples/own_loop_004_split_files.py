"""Photographs, masks and split files to a trained model: loaders, model, loss, training, resume, scores.

Run it: ``python examples/own_loop_004_split_files.py OUTPUT_FOLDER``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maskwright.data import create_dataloaders
from maskwright.data.synthetic_images import write_pictures
from maskwright.losses import get_loss_function
from maskwright.metrics import MetricsTracker
from maskwright.models import build_model
from maskwright.tracking import RunFolder
from maskwright.training import Callback, Trainer, TrainState, trainer_for


class StopAfter(Callback):
    """Stops a run after some epochs, as a person or a power cut would."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        if state.epoch == self.epochs:
            state.request_stop("enough for today")


def data_of(folder: Path, count: int, size_px: int) -> dict[str, Path]:
    """Invented photographs with 0/255 masks, and train.txt and val.txt that name them."""
    write_pictures(folder, "cracks", count, size_px=size_px, seed=5, difficulty="easy")
    names = sorted(path.name for path in (folder / "images").glob("*.png"))
    splits = folder / "splits"
    splits.mkdir(exist_ok=True)
    (splits / "train.txt").write_text("\n".join(names[:-3]) + "\n")
    (splits / "val.txt").write_text("\n".join(names[-3:]) + "\n")
    return {"split_dir": splits, "images_dir": folder / "images", "masks_dir": folder / "masks"}


def main(folder: Path, *, epochs: int = 20, count: int = 11, size_px: int = 64) -> dict[str, Any]:
    """Train half of the epochs, stop, go on in a new trainer, and score; returns what came of it."""
    train_loader, val_loader = create_dataloaders(
        **data_of(folder, count, size_px), image_size=(size_px, size_px), batch_size=4, augmentation_prob=0.5
    )
    loss_fn = get_loss_function("combined", dice_weight=0.5, bce_weight=0.3, focal_weight=0.2)
    run_folder = RunFolder.create(folder / "outputs", "defects")
    config = {
        "training": {"epochs": epochs, "clip_norm": 1.0},
        "optim": {"optimizer": {"lr": 5e-3}, "schedule": {"kind": "constant"}},
        "callbacks": {"monitor": "val_iou", "early_stopping": {"patience": 10}},
        "checkpoints": {"max_checkpoints": 3},
    }

    def trainer(*callbacks: Callback) -> Trainer:
        torch.manual_seed(0)
        model = build_model("unet", in_channels=3, num_classes=1, base_channels=8, depth=2)
        return trainer_for(
            model,
            config,
            train_loader,
            val_loader,
            loss_fn=loss_fn,
            device="cpu",
            run_folder=run_folder,
            callbacks=callbacks,
            quiet=True,
        )

    trainer(StopAfter(epochs // 2)).train()
    second = trainer()
    record = second.resume()
    assert record is not None
    result = second.train()

    tracker, model = MetricsTracker(), second.best_model()
    with torch.no_grad():
        for image, target in val_loader:
            tracker.update(torch.sigmoid(model(image)), target)
    return {"resumed_after": record.epoch, "result": result, "summary": tracker.get_summary()}


if __name__ == "__main__":
    found = main(Path(sys.argv[1] if len(sys.argv) > 1 else "own_loop_004"))
    iou = found["summary"]["iou"]
    print(f"IoU {iou['mean']:.3f} +- {iou['std']:.3f} over {iou['images']:.0f} images")
