"""Settings: frozen sections, files of settings and overrides to an experiment, and back. Loads no torch."""

from __future__ import annotations

from maskwright.config.base import Field, Section
from maskwright.config.callbacks import CallbacksConfig, EarlyStoppingConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.data import (
    AugmentConfig,
    DataConfig,
    HeightRastersData,
    MetresNormalise,
    NormaliseConfig,
    PerTileNormalise,
    SiteConfig,
    SplitConfig,
    TerrainConfig,
)
from maskwright.config.data_parts import BalanceConfig, CacheConfig, LoaderConfig, TileConfig
from maskwright.config.experiment import Experiment
from maskwright.config.fields import Explanation, FieldSpec, explain, field_specs
from maskwright.config.flat import from_flat
from maskwright.config.image_augment import ImageAugmentConfig
from maskwright.config.images import ImageNormaliseConfig, ImagesData, ImageSplitConfig, ImageTileConfig
from maskwright.config.labels import (
    ClassConfig,
    CocoLabels,
    LabelsConfig,
    MaskLabels,
    PointLabels,
    VectorLabels,
    YoloLabels,
)
from maskwright.config.load import (
    Override,
    dump_experiment,
    dump_section,
    load_experiment,
    load_section,
    presets,
    save_experiment,
    save_section,
)
from maskwright.config.loss import (
    AdaptiveLossSchedule,
    CombinedLossConfig,
    CosineLossSchedule,
    LossConfig,
    LossScheduleConfig,
    NoLossSchedule,
    PerformanceLossSchedule,
    RegressionLossConfig,
    StepLossSchedule,
)
from maskwright.config.metric_names import canonical_metric, resolve_monitor
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import (
    AttentionUNetConfig,
    DeepLabV3PlusConfig,
    DeepLabV3PlusFilmConfig,
    FilmUNetConfig,
    HeightCdfConfig,
    ModelConfig,
    RegressionUNetConfig,
    ResUNetConfig,
    ResUNetFilmConfig,
    SmpConfig,
    SmpFilmConfig,
    UNetAllFeaturesConfig,
    UNetConfig,
)
from maskwright.config.optim import AdamWConfig, ConstantSchedule, OneCycleSchedule, OptimConfig, ScheduleConfig
from maskwright.config.prediction import PredictionConfig
from maskwright.config.task import BinaryTask, HeightGapsTask, HeightTask, MulticlassTask, MultilabelTask, TaskConfig
from maskwright.config.tracking import TrackingConfig
from maskwright.config.training import TrainingConfig

__all__ = [
    "AdamWConfig",
    "AdaptiveLossSchedule",
    "AttentionUNetConfig",
    "AugmentConfig",
    "BalanceConfig",
    "BinaryTask",
    "CacheConfig",
    "CallbacksConfig",
    "CheckpointsConfig",
    "ClassConfig",
    "CocoLabels",
    "CombinedLossConfig",
    "ConstantSchedule",
    "CosineLossSchedule",
    "DataConfig",
    "DeepLabV3PlusConfig",
    "DeepLabV3PlusFilmConfig",
    "EarlyStoppingConfig",
    "Experiment",
    "Explanation",
    "Field",
    "FieldSpec",
    "FilmUNetConfig",
    "HeightCdfConfig",
    "HeightGapsTask",
    "HeightRastersData",
    "HeightTask",
    "ImageAugmentConfig",
    "ImageNormaliseConfig",
    "ImageSplitConfig",
    "ImageTileConfig",
    "ImagesData",
    "LabelsConfig",
    "LoaderConfig",
    "LossConfig",
    "LossScheduleConfig",
    "MaskLabels",
    "MetresNormalise",
    "MetricsConfig",
    "ModelConfig",
    "MulticlassTask",
    "MultilabelTask",
    "NoLossSchedule",
    "NormaliseConfig",
    "OneCycleSchedule",
    "OptimConfig",
    "Override",
    "PerTileNormalise",
    "PerformanceLossSchedule",
    "PointLabels",
    "PredictionConfig",
    "RegressionLossConfig",
    "RegressionUNetConfig",
    "ResUNetConfig",
    "ResUNetFilmConfig",
    "ScheduleConfig",
    "Section",
    "SiteConfig",
    "SmpConfig",
    "SmpFilmConfig",
    "SplitConfig",
    "StepLossSchedule",
    "TaskConfig",
    "TerrainConfig",
    "TileConfig",
    "TrackingConfig",
    "TrainingConfig",
    "UNetAllFeaturesConfig",
    "UNetConfig",
    "VectorLabels",
    "YoloLabels",
    "canonical_metric",
    "dump_experiment",
    "dump_section",
    "explain",
    "field_specs",
    "from_flat",
    "load_experiment",
    "load_section",
    "presets",
    "resolve_monitor",
    "save_experiment",
    "save_section",
]
