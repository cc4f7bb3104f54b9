"""What came of a loop of one's own, as plain values."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from maskwright.training import quick_training_setup
from maskwright.training.manager_summary import training_summary


def test_the_summary_counts_epochs_and_steps_and_knows_the_best(tmp_path: Path) -> None:
    manager = quick_training_setup(tmp_path, "tiny")
    network = nn.Conv2d(1, 1, 1)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    image = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(image, (image > 0).float()), batch_size=2)
    assert training_summary(manager)["training_progress"]["total_epochs"] == 0
    for epoch in range(2):
        for batch in loader:
            train = manager.train_step(network, batch, optimizer, torch.device("cpu"))
        val = manager.validation_step(network, loader, torch.device("cpu"))
        manager.save_checkpoint(network, optimizer, None, epoch, val)
        manager.end_epoch(epoch, train, val)
    summary = training_summary(manager)
    assert summary == manager.get_training_summary()
    assert summary["training_progress"]["total_epochs"] == 2
    assert summary["training_progress"]["global_step"] == 4
    assert summary["model_info"]["model_name"] == "tiny"
    best = max(entry["val/dice"] for entry in manager.history.entries)
    assert summary["model_info"]["best_metric"] == best
    assert summary["loss_info"]["weights"] == {"dice": 0.7, "bce": 0.3}
    assert summary["checkpoint_info"]["total_checkpoints"] >= 1
    json.dumps(summary)
