"""An existing loop that adopts TrainingManager: presets, checkpoint strategies, a loss schedule, and a summary.

Stop it at any time and start it again: it goes on from the last epoch. Run it:
``python examples/own_loop_003_training_manager.py OUTPUT_FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from maskwright.checkpoints import CheckpointManager
from maskwright.data.synthetic_images import make_picture
from maskwright.losses import LossManager, get_preset_loss_config
from maskwright.models import build_model
from maskwright.training import TrainingManager, create_training_manager, quick_training_setup


def angiograms(count: int, seed: int, size_px: int) -> TensorDataset:
    """Invented grey pictures of vessels, scaled to about -1..1, and their masks."""
    found = [make_picture("vessels", size_px, seed + number, "easy") for number in range(count)]
    image = torch.stack([torch.from_numpy(each.image).float().mean(dim=-1)[None] / 127.5 - 1 for each in found])
    return TensorDataset(image, torch.stack([torch.from_numpy(each.mask > 0).float()[None] for each in found]))


def small_unet() -> nn.Module:
    """Any network will do: images in, logits out."""
    torch.manual_seed(0)
    return build_model("unet", in_channels=1, num_classes=1, base_channels=8, depth=2)


def run(
    manager: TrainingManager, train_loader: DataLoader[Any], val_loader: DataLoader[Any], epochs: int, device: str
) -> dict[str, Any]:
    """The loop itself."""
    model = small_unet().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(manager.resume(model, optimizer, scheduler), epochs):
        for inputs, targets in train_loader:
            step_metrics = manager.train_step(model, (inputs, targets), optimizer, device)
        scheduler.step()
        val_metrics = manager.validation_step(model, val_loader, device)
        manager.save_checkpoint(model, optimizer, scheduler, epoch, val_metrics)
        manager.end_epoch(epoch, step_metrics, val_metrics)
    manager.export_training_data()
    return manager.get_training_summary()


def main(folder: Path, *, epochs: int = 12, size_px: int = 64, count: int = 8, device: str = "cpu") -> dict[str, Any]:
    """Three managers, from the shortest to the fullest; returns their summaries by name."""
    train_loader = DataLoader(angiograms(count, 0, size_px), batch_size=4, shuffle=True)
    val_loader = DataLoader(angiograms(4, 1000, size_px), batch_size=4)
    torch.manual_seed(1)

    quick = quick_training_setup(model_dir=folder / "quick", model_name="coronary_unet_v1")
    presets = create_training_manager(
        model_dir=folder / "presets",
        model_name="coronary_unet_focal",
        loss_preset="focal_segmentation",
        checkpoint_preset="adaptive",
        accumulate=2,
        clip_norm=1.0,
    )
    full = TrainingManager(model_dir=folder / "full", model_name="coronary_unet")
    full.setup_loss_function(
        {"type": "combined", "dice_weight": 0.8, "bce_weight": 0.2, "scheduler": {"type": "adaptive"}}
    )
    full.setup_checkpointing({"manager_type": "auto", "auto_strategy": "adaptive", "max_checkpoints": 3})
    managers = {"quick": quick, "presets": presets, "full": full}
    summaries = {name: run(manager, train_loader, val_loader, epochs, device) for name, manager in managers.items()}

    # Each part alone: the terms of a loss, and checkpoints without the manager.
    loss = LossManager.create_loss_function(get_preset_loss_config("jaccard_based"))
    inputs, targets = next(iter(val_loader))
    model = small_unet()
    components = loss.get_loss_components(model(inputs), targets)
    checkpoints = CheckpointManager(
        checkpoint_dir=folder / "alone", model_name="my_model", save_strategy="interval", max_checkpoints=3,
        monitor_metric="val_dice", mode="max", save_interval=2,
    )  # fmt: skip
    for epoch in range(5):
        checkpoints.save_checkpoint(model=model, epoch=epoch, metrics={"val_dice": 0.5 + 0.05 * epoch})
    checkpoints.load_checkpoint(checkpoint_path=checkpoints.get_best_checkpoint_path(), model=model)
    return {**summaries, "components": components, "alone": checkpoints.get_checkpoint_summary()}


if __name__ == "__main__":
    found = main(Path(sys.argv[1] if len(sys.argv) > 1 else "own_loop_003"))
    for name in ("quick", "presets", "full"):
        told = found[name]
        best, epochs = told["model_info"]["best_metric"], told["training_progress"]["total_epochs"]
        print(f"{name}: {epochs} epochs, best Dice {best:.3f}, {told['checkpoint_info']['total_checkpoints']} kept")
