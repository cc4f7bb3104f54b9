"""Experiment: a whole run described in one frozen object."""

from __future__ import annotations

from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse
from maskwright.config.callbacks import CallbacksConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.data import DataConfig
from maskwright.config.loss import LossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import FilmUNetConfig, ModelConfig
from maskwright.config.optim import OptimConfig
from maskwright.config.prediction import PredictionConfig
from maskwright.config.task import TaskConfig
from maskwright.config.tracking import TrackingConfig
from maskwright.config.training import TrainingConfig

__all__ = ["Experiment"]


class Experiment(Section):
    """Everything a run needs to know, and the checks that span sections."""

    name: str = Field(
        help="Name of the run, of letters, digits, _ . and -; its folder starts with it.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
    )
    task: TaskConfig = Field(default_factory=TaskConfig, help="What is to be learned.")
    data: DataConfig = Field(help="Where the data lies and how it becomes tiles.")
    model: ModelConfig = Field(default_factory=FilmUNetConfig, help="The network.")
    loss: LossConfig = Field(default_factory=LossConfig, help="What the training minimises.")
    optim: OptimConfig = Field(default_factory=OptimConfig, help="How weights are updated.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, help="The loop.")
    callbacks: CallbacksConfig = Field(default_factory=CallbacksConfig, help="What watches the run.")
    checkpoints: CheckpointsConfig = Field(default_factory=CheckpointsConfig, help="Saving and keeping.")
    metrics: MetricsConfig = Field(default_factory=MetricsConfig, help="How the model is scored.")
    tracking: TrackingConfig = Field(default_factory=TrackingConfig, help="Where runs are written.")
    prediction: PredictionConfig = Field(default_factory=PredictionConfig, help="How the model is applied.")

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Experiment:
        task, model, size_px = self.task, self.model, self.data.tiles.size_px
        faults = []
        if not model.conditioned:
            only = f"model.kind {model.kind} answers the heights of task.heights_m, all at once"
            for name in ("train_heights_m", "train_range_m"):
                if getattr(task, name) is not None:
                    faults.append(f"task.{name}: {only}. Leave it out, or set model.kind: film_unet")
            if task.heights_per_sample != 1:
                faults.append(f"task.heights_per_sample: {only}. Leave it at 1, or set model.kind: film_unet")
        if size_px < 2**model.depth:
            faults.append(f"data.tiles.size_px: {size_px} px cannot be halved {model.depth} times. Lower model.depth")
        refuse(faults)
        return self
