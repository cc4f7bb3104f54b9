"""The calls that the documents print, beside those of the loops under examples/: each runs, with the values printed.

Names that are other names here stand in the comments: document's name on the left, ours on the right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.config import from_flat, load_experiment
from maskwright.losses import CombinedFocalDiceLoss, ComboLoss, LossManager, get_loss_function
from maskwright.metrics import MetricsTracker, SegmentationMetrics, ThresholdMetrics
from maskwright.metrics.functions import compute_all_metrics, compute_dice, compute_iou
from maskwright.models import build_model, freeze_encoder, unfreeze_encoder
from maskwright.optim import create_scheduler
from maskwright.training import CompositeRegularization, TrainingManager, TrainingOptimizer

LOGITS = torch.linspace(-3, 3, 2 * 8 * 8).reshape(2, 1, 8, 8)
TARGETS = (torch.arange(2 * 8 * 8).reshape(2, 1, 8, 8) % 3 == 0).float()


def small() -> torch.nn.Module:
    return build_model("unet", in_channels=1, num_classes=1, base_channels=4, depth=1)


class TestInfrastructure:
    """Document 000."""

    def test_load_complete_config_is_load_experiment(self, tmp_path: Path) -> None:
        file = tmp_path / "my_training.yaml"
        file.write_text("name: mine\ntask: {kind: binary}\ndata: {kind: images, folder: photos}\n")
        config = load_experiment(file, overrides={"training": {"epochs": 100}})
        assert config.training.epochs == 100

    def test_a_combo_loss_gives_its_sum_and_its_terms(self) -> None:
        loss, breakdown = ComboLoss(bce_weight=0.5, dice_weight=0.3, focal_weight=0.2)(LOGITS, TARGETS)
        assert loss.ndim == 0
        assert set(breakdown) == {"bce", "dice", "focal", "total"}

    @pytest.mark.parametrize("kind", ["onecycle", "cosine", "plateau", "step", "exponential", "none"])
    def test_create_scheduler_takes_each_printed_type(self, kind: str) -> None:
        optimizer = torch.optim.AdamW(small().parameters(), lr=1e-3, weight_decay=0.01)
        scheduler = create_scheduler(optimizer, {"type": kind}, steps_per_epoch=3, epochs=2)
        optimizer.step()
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] > 0

    def test_a_training_optimizer_says_what_a_step_did(self) -> None:
        model = small()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        steps = TrainingOptimizer(gradient_clip_norm=1.0, use_amp=False, accumulate_grad_batches=1, device="cpu")
        with steps.forward_context():
            loss, _ = ComboLoss()(model(LOGITS), TARGETS)
        info = steps.backward_step(loss, optimizer, model.parameters())
        assert info.stepped
        assert info.grad_norm is not None


class TestTrainingModule:
    """Document 001."""

    def test_metrics_over_all_and_by_height(self) -> None:
        predictions, targets = torch.sigmoid(LOGITS), TARGETS
        metrics = SegmentationMetrics()  # SegmentationMetrics(device=...): it counts where its tensors are
        metrics.update(predictions, targets)
        by_height = ThresholdMetrics(thresholds=[5, 10, 15, 20])
        by_height.update(predictions, targets, 0.5, threshold_value=10)
        assert 0 <= metrics.compute()["iou"] <= 1
        assert by_height.compute()

    def test_a_focal_dice_loss_by_its_two_numbers(self) -> None:
        loss = CombinedFocalDiceLoss(alpha=0.5, gamma=2.0)(LOGITS, TARGETS)
        value = loss[0] if isinstance(loss, tuple) else loss
        assert float(value) > 0

    def test_composite_regularization_and_a_schedule_without_epochs(self) -> None:
        model = build_model("resunet", in_channels=1, num_classes=1, base_channels=4, depth=1)
        CompositeRegularization(model=model, dropout_rate=0.2, weight_decay=1e-4, drop_path_rate=0.1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        assert create_scheduler(optimizer, {"type": "step"}, 3) is not None

    def test_the_attribute_config_is_from_flat(self) -> None:
        class Config:
            epochs = 100
            learning_rate = 1e-3
            optimizer = "adamw"
            scheduler_type = "cosine_warm"
            warmup_epochs = 5
            use_gradient_clipping = True
            clip_value = 1.0
            use_threshold_weights = True

        experiment = from_flat(Config(), data={"kind": "height_rasters", "folder": "/rasters"})
        assert (experiment.training.epochs, experiment.training.clip_value) == (100, 1.0)
        assert experiment.optim.warmup_epochs == 5


class TestEnhancedTraining:
    """Document 003."""

    @pytest.mark.parametrize(
        "config",
        [
            {"dice_weight": 0.8, "bce_weight": 0.2, "dice_config": {"smooth": 1e-6, "squared_pred": True}},
            {"dice_weight": 0.6, "bce_weight": 0.4, "bce_config": {"gamma": 2.0, "alpha": 0.25}},
            {"dice_weight": 0.7, "bce_weight": 0.3, "dice_config": {"jaccard": True, "smooth": 1e-6}},
        ],
    )
    def test_each_printed_loss_gives_its_components(self, config: dict[str, Any]) -> None:
        loss = LossManager.create_loss_function({"type": "combined", **config})
        components = loss.get_loss_components(LOGITS, TARGETS)
        assert {"dice_loss", "bce_loss"} <= set(components)

    @pytest.mark.parametrize("kind", ["adaptive", "cosine", "step", "performance"])
    def test_each_printed_loss_schedule_steps(self, kind: str) -> None:
        loss = LossManager.create_loss_function({"type": "combined", "dice_weight": 0.7, "bce_weight": 0.3})
        schedule = LossManager.create_loss_scheduler(loss, {"type": kind, "params": {}})
        schedule.step(0, {"val_dice": 0.5, "val_loss": 0.4})

    @pytest.mark.parametrize(
        "config",
        [
            {"save_strategy": "best", "monitor_metric": "val_dice", "mode": "max", "max_checkpoints": 3},
            {"save_strategy": "epoch", "max_checkpoints": 5},
            {"manager_type": "auto", "auto_strategy": "adaptive", "max_checkpoints": 5},
            {"manager_type": "auto", "auto_strategy": "performance_based", "max_checkpoints": 3},
        ],
    )
    def test_each_printed_way_to_keep_checkpoints_saves_and_tells(self, config: dict[str, Any], tmp_path: Path) -> None:
        manager = TrainingManager(model_dir=tmp_path / "out", model_name="coronary_unet")
        manager.setup_loss_function({"type": "combined", "dice_weight": 0.8, "bce_weight": 0.2})
        manager.setup_checkpointing(config)
        model = small()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        step_metrics = manager.train_step(model, (LOGITS, TARGETS), optimizer, "cpu")
        manager.save_checkpoint(model, optimizer, None, 0, {**step_metrics, "val_dice": 0.5, "val_loss": 0.4})
        manager.end_epoch(0, step_metrics, {"val_dice": 0.5, "val_loss": 0.4})
        assert len(manager.checkpoint_manager.list_checkpoints()) == 1
        assert manager.checkpoint_manager.get_best_checkpoint_path() is not None
        assert manager.get_checkpoint_summary()["total_checkpoints"] == 1
        summary = manager.get_training_summary()
        assert summary["training_progress"]["total_epochs"] == 1
        assert Path(manager.export_training_data()).is_file()


class TestDefectsModule:
    """Document 004."""

    def test_build_model_by_architecture_and_encoder(self) -> None:
        # build_model(architecture=..., encoder_weights="imagenet") -> build_model(name, ...); weights need a network
        model = build_model("unet", encoder="resnet18", encoder_weights="none", in_channels=3, classes=1)
        with torch.no_grad():
            assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)
        assert freeze_encoder(model) == unfreeze_encoder(model) > 0

    def test_losses_by_name_and_by_weights(self) -> None:
        # CombinedLoss(dice_weight=...) -> get_loss_function("combined", ...); CombinedLoss is that of document 003
        combined = get_loss_function("combined", dice_weight=0.5, bce_weight=0.3, focal_weight=0.2)
        for loss in (get_loss_function("dice"), combined):
            value = loss(LOGITS, TARGETS)
            assert float(value[0] if isinstance(value, tuple) else value) > 0

    def test_scores_of_a_picture_and_their_mean_and_spread(self) -> None:
        predictions = torch.sigmoid(LOGITS)
        assert float(compute_iou(predictions, TARGETS)) <= float(compute_dice(predictions, TARGETS))
        assert {"iou", "dice"} <= set(compute_all_metrics(predictions, TARGETS))
        tracker = MetricsTracker()
        tracker.update(predictions, TARGETS)
        assert {"mean", "std"} <= set(tracker.get_summary()["iou"])
