"""A loop written by hand from single parts: settings, loss, optimizer, schedule, callbacks and steps.

Nothing here calls a trainer. Run it: ``python examples/own_loop_000_parts_by_hand.py OUTPUT_FOLDER``.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from maskwright.checkpoints import CheckpointStore
from maskwright.config import load_experiment
from maskwright.data.synthetic_images import make_picture
from maskwright.losses import ComboLoss
from maskwright.metrics import SegmentationMetrics
from maskwright.models import build_model
from maskwright.optim import create_scheduler
from maskwright.tracking import History
from maskwright.training import (
    CallbackList,
    Checkpointing,
    EarlyStopping,
    HistoryCallback,
    Monitor,
    ProgressCallback,
    TrainingOptimizer,
    TrainState,
)
from maskwright.training.averages import LossSums
from maskwright.training.validation import evaluation_mode
from maskwright.types import LossOutput


def pictures(count: int, seed: int, size_px: int) -> TensorDataset:
    """Invented photographs of cracks, scaled to about -1..1, and their masks."""
    found = [make_picture("cracks", size_px, seed + number, "easy") for number in range(count)]
    image = torch.stack([torch.from_numpy(each.image).permute(2, 0, 1).float() / 127.5 - 1 for each in found])
    return TensorDataset(image, torch.stack([torch.from_numpy(each.mask > 0).float() for each in found]))


def validate(model: torch.nn.Module, criterion: ComboLoss, loader: DataLoader[Any]) -> dict[str, float]:
    """Loss and scores of a whole part; the model is back in its former mode afterwards."""
    metrics, total, images = SegmentationMetrics(), 0.0, 0
    with evaluation_mode(model), torch.no_grad():
        for inputs, targets in loader:
            logits = model(inputs)
            total += float(criterion(logits, targets)[0]) * len(inputs)
            images += len(inputs)
            metrics.update(torch.sigmoid(logits), targets)
    return {"val/loss": total / images, **{f"val/{name}": value for name, value in metrics.compute().items()}}


def main(folder: Path, *, epochs: int = 20, size_px: int = 64, count: int = 12) -> tuple[dict[str, Any], ...]:
    """Train, and return the history."""
    torch.manual_seed(42)
    # 1. Settings: a file, and what is to be different.
    (folder / "settings.yaml").write_text(
        "name: cracks\ntask: {kind: binary}\n"
        f"data: {{kind: images, images: {folder}, labels: {{kind: masks, folder: {folder}}}}}\n"
        "model: {kind: unet, base_channels: 8, depth: 2}\n"
    )
    config = load_experiment(folder / "settings.yaml", overrides={"training": {"epochs": epochs, "accumulate": 2}})
    train_loader = DataLoader(pictures(count, 0, size_px), batch_size=4, shuffle=True)
    val_loader = DataLoader(pictures(4, 1000, size_px), batch_size=4)

    # 2. Loss, optimizer and schedule.
    model = build_model(config.model, in_channels=3, num_classes=1, batch_size=4)
    criterion = ComboLoss(bce_weight=0.5, dice_weight=0.3, focal_weight=0.2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    steps_per_epoch = math.ceil(len(train_loader) / config.training.accumulate)
    scheduler = create_scheduler(optimizer, {"type": "onecycle", "max_lr": 0.01}, steps_per_epoch, epochs)

    # 3. Mixed precision, clipping and accumulation.
    steps = TrainingOptimizer(
        gradient_clip_norm=1.0,
        use_amp=False,
        accumulate_grad_batches=config.training.accumulate,
        device="cpu",
        batches=len(train_loader),
    )

    # 4. Callbacks: each hook gets the state first.
    history = HistoryCallback(History(folder / "training_history.json"))
    store = CheckpointStore(folder / "checkpoints", monitor="val/loss", mode="min", strategy="best")
    callbacks = CallbackList([EarlyStopping(patience=10), history, Checkpointing(store), ProgressCallback(quiet=True)])
    state = TrainState(
        model,
        optimizer,
        scheduler,
        steps.updater,
        LossSums({}),
        device="cpu",
        epochs=epochs,
        batches_per_epoch=len(train_loader),
        monitor=Monitor("val/loss", "min"),
    )
    state.attach(callbacks)

    # 5. The loop.
    callbacks.on_train_begin(state)
    while state.epoch < epochs and state.stop_reason is None:
        callbacks.on_epoch_begin(state)
        losses = []
        for inputs, targets in train_loader:
            callbacks.on_batch_begin(state)
            with steps.forward_context():
                loss, parts = criterion(model(inputs), targets)
            info = steps.backward_step(loss, optimizer, model.parameters())
            losses.append(loss.item())
            callbacks.on_batch_end(state, LossOutput(loss, parts))
            if info.stepped:
                scheduler.step()
                state.global_step += 1
        scores = {"train/loss": sum(losses) / len(losses), **validate(model, criterion, val_loader)}
        state.finish_epoch(scores)
        callbacks.on_epoch_end(state, scores)
    callbacks.on_train_end(state)
    return tuple(history.entries)


if __name__ == "__main__":
    output = Path(sys.argv[1] if len(sys.argv) > 1 else "own_loop_000")
    output.mkdir(parents=True, exist_ok=True)
    for entry in main(output):
        print(f"epoch {entry['epoch']}: loss {entry['val/loss']:.4f}, IoU {entry['val/iou']:.3f}")
