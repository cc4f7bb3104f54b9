"""Pages for people from elsewhere: every name of the earlier documents stands there and leads to one that exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "docs/explanation"
DOCUMENTED = {  # the names in the documents of each system that a program or a shell would use
    "ForestGaps": """
        load_yaml save_yaml load_training_config load_data_config load_model_config load_complete_config merge_configs
        TrainingConfig OptimizerConfig SchedulerConfig LossConfig CallbackConfig OptimizationConfig DataConfig
        PreprocessingConfig AugmentationConfig DatasetConfig ModelConfig Config ComboLoss DiceLoss FocalLoss
        CombinedFocalDiceLoss AdaptiveLoss create_threshold_weights create_loss_function create_scheduler
        WarmupScheduler Callback CallbackList on_train_begin on_train_end on_epoch_begin on_epoch_end on_batch_begin
        on_batch_end EarlyStoppingCallback ModelCheckpointCallback LRSchedulerCallback TensorBoardCallback
        ProgressBarCallback LoggingCallback CheckpointingCallback GradientClipper AMPManager autocast_context scale_loss
        GradientAccumulator should_step TrainingOptimizer forward_context backward_step enable_gradient_checkpointing
        compile_model Trainer train_model SegmentationMetrics ThresholdMetrics CompositeRegularization DropPath
        AdaptiveNorm InferenceManager evaluate_model evaluate_site evaluate_model_on_sites compare_models
        create_binary_mask refine_mask calculate_mask_statistics mask_to_vector check_alignment align_rasters
        create_tile_grid merge_tiles NormalizationMethod NormalizationLayer split_dataset ForestGapDataset
        WeightedRandomSampler BalancedGapSampler TrainingMonitor unet_film res_unet_film deeplabv3_plus regression_unet
        --model-type --data-dir --optimize-dataloader
    """,
    "The agroforestry pipeline": """
        --config --resume --experiment-name --device --lr --batch-size --epochs --grad-accum --use-mlflow --use-wandb
        --mixed-precision --compile --no-tensorboard --val-frequency --save-frequency --output-dir --quiet monitor.py
        training_monitor.py param_groups pretrained_checkpoint MLFLOW_TRACKING_URI WANDB_MODE ExperimentTracker
        log_metrics log_model log_artifact finish MemoryEfficientTrainer train_epoch validate save_checkpoint
        load_checkpoint TrainingMonitor AgroforestryMetrics evaluate_batch plantation_data train_annotations
        save_predictions profile_batches training_history.json config.yaml
    """,
    "The coronary training system": """
        quick_training_setup create_training_manager TrainingManager setup_loss_function setup_checkpointing train_step
        validation_step save_checkpoint end_epoch get_training_summary get_checkpoint_summary export_training_data
        loss_function checkpoint_manager CheckpointManager load_checkpoint list_checkpoints get_best_checkpoint_path
        AutoCheckpointManager auto_strategy LossManager create_loss_function create_loss_scheduler LossScheduler
        get_preset_loss_config get_loss_components update_weights get_config EnhancedDiceLoss EnhancedBCELoss
        CombinedLoss EarlyStopping DynamicLearningRateScheduler enhanced loss_preset checkpoint_preset save_strategy
    """,
    "The defect inspector": """
        build_model UNet DeepLabV3Plus FPN get_available_encoders freeze_encoder unfreeze_encoder SegmentationDataset
        get_training_augmentation get_validation_augmentation create_dataloaders load_dataset_from_split_files
        compute_class_weights DiceLoss FocalLoss IoULoss CombinedLoss get_loss_function compute_iou compute_dice
        compute_pixel_accuracy compute_precision_recall_f1 compute_all_metrics MetricsTracker get_summary ModelTrainer
        start_epoch TrainingThread TrainConfigDialog exec_ _on_train_model Predictor InferenceThread
        remove_small_objects fill_holes keep_largest_component
    """,
}


@pytest.mark.parametrize("system", DOCUMENTED)
def test_every_documented_name_of_a_system_stands_in_its_table(system: str) -> None:
    page = (PAGES / "coming_from.md").read_text(encoding="utf-8")
    table = page.partition(f"### {system}\n")[2].partition("\n### ")[0]
    left = "\n".join(line.split(" | ")[0] for line in table.splitlines() if line.startswith("|"))
    words = {*re.findall(r"[\w.-]+", left), *re.findall(r"\w+", left)}
    absent = [name for name in DOCUMENTED[system].split() if name not in words]
    assert not absent, absent


def test_every_name_that_earlier_systems_are_sent_to_exists() -> None:
    pages = ("coming_from.md", "coming_from_libraries.md")
    text = "".join((PAGES / page).read_text(encoding="utf-8") for page in pages)
    names = set(re.findall(r"`(maskwright(?:\.\w+)+)(?:\(.*?\))?`", text))
    assert len(names) > 80
    for name in sorted(names):
        module, _, attribute = name.rpartition(".")
        if module == "maskwright.desktop":
            pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
        found = importlib.import_module(module)
        assert hasattr(found, attribute) or importlib.import_module(name), name
