"""Settings: frozen sections, files of settings and overrides to an experiment, and back. Loads no torch."""

from __future__ import annotations

from maskwright.config.base import Field, Section
from maskwright.config.callbacks import CallbacksConfig, EarlyStoppingConfig, canonical_metric
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.data import (
    AugmentConfig,
    CacheConfig,
    DataConfig,
    HeightRastersData,
    LoaderConfig,
    MetresNormalise,
    NormaliseConfig,
    PerTileNormalise,
    SiteConfig,
    SplitConfig,
    TerrainConfig,
    TileConfig,
)
from maskwright.config.experiment import Experiment
from maskwright.config.fields import Explanation, FieldSpec, explain, field_specs
from maskwright.config.flat import from_flat
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
from maskwright.config.loss import CombinedLossConfig, LossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import (
    AttentionUNetConfig,
    DeepLabV3PlusConfig,
    DeepLabV3PlusFilmConfig,
    FilmUNetConfig,
    HeightCdfConfig,
    ModelConfig,
    ResUNetConfig,
    ResUNetFilmConfig,
    SmpConfig,
    SmpFilmConfig,
    UNetAllFeaturesConfig,
    UNetConfig,
)
from maskwright.config.optim import AdamWConfig, ConstantSchedule, OneCycleSchedule, OptimConfig, ScheduleConfig
from maskwright.config.prediction import PredictionConfig
from maskwright.config.task import HeightGapsTask, TaskConfig
from maskwright.config.tracking import TrackingConfig
from maskwright.config.training import TrainingConfig

__all__ = [
    "AdamWConfig",
    "AttentionUNetConfig",
    "AugmentConfig",
    "CacheConfig",
    "CallbacksConfig",
    "CheckpointsConfig",
    "CombinedLossConfig",
    "ConstantSchedule",
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
    "LoaderConfig",
    "LossConfig",
    "MetresNormalise",
    "MetricsConfig",
    "ModelConfig",
    "NormaliseConfig",
    "OneCycleSchedule",
    "OptimConfig",
    "Override",
    "PerTileNormalise",
    "PredictionConfig",
    "ResUNetConfig",
    "ResUNetFilmConfig",
    "ScheduleConfig",
    "Section",
    "SiteConfig",
    "SmpConfig",
    "SmpFilmConfig",
    "SplitConfig",
    "TaskConfig",
    "TerrainConfig",
    "TileConfig",
    "TrackingConfig",
    "TrainingConfig",
    "UNetAllFeaturesConfig",
    "UNetConfig",
    "canonical_metric",
    "dump_experiment",
    "dump_section",
    "explain",
    "field_specs",
    "from_flat",
    "load_experiment",
    "load_section",
    "presets",
    "save_experiment",
    "save_section",
]
