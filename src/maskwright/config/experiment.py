"""Experiment: a whole run described in one frozen object."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import field_validator, model_validator

from maskwright.config.base import Field, Section, refuse
from maskwright.config.callbacks import CallbacksConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.data import DataConfig
from maskwright.config.loss import CombinedLossConfig, LossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import HeightCdfConfig, ModelConfig
from maskwright.config.optim import OptimConfig
from maskwright.config.prediction import PredictionConfig
from maskwright.config.pseudo_labels import PseudoLabelsConfig, pseudo_label_faults
from maskwright.config.stages import StageConfig, stage_faults
from maskwright.config.task import OBJECTS, HeightGapsTask, TaskConfig
from maskwright.config.tracking import TrackingConfig
from maskwright.config.training import TrainingConfig
from maskwright.config.tune import TuneConfig, tune_faults

__all__ = ["Experiment"]

# What each task learns from, and the network and loss it has where none is said.
_BY_TASK = {
    "height_gaps": ("height_rasters", "height_cdf", "combined"),
    "height": ("height_rasters", "regression_unet", "regression"),
    "binary": ("images", "unet", "combined"),
    "multiclass": ("images", "unet", "combined"),
    "multilabel": ("images", "unet", "combined"),
    "instances": ("images", "multitask_unet", "multitask"),
    "agroforestry": ("images", "multitask_unet", "multitask"),
}

# What a loss left unsaid means where images are learned from. Half of their tiles and more hold nothing to find (56 %
# of magnetic tiles cut to 256 px, 75 % to 128 px). A Dice ratio of each tile gives such a tile its whole reward for
# calling less than a pixel, so a network that calls nothing anywhere looks good; one ratio over the batch does not.
# Focal loss at its usual alpha of 0.25 lets the rare pixels weigh a third of the others. So images take cross entropy
# and Dice over the batch half by half, as nnU-Net does (arXiv:1809.10486). On whole pictures of magnetic tiles the loss
# for heights called next to nothing until epoch 9 of 16, this one found defects from epoch 6 of 20 on. Heights keep
# what they have: nearly all their tiles hold gaps.
_REDUCTION_OF_IMAGES = {"dice_reduction": "batch", "overlap_reduction": "batch"}
_TERMS_OF_IMAGES = {"bce": 0.5, "dice": 0.5, "focal": 0.0}  # only where no term is said, so that sums stay as meant
# A distribution of heights learns from the canopy height of each pixel as well, not only from the heights asked: on
# invented ground the IoU at heights never asked rose from 0.78 to 0.93 (docs/explanation/heights.md).
_TERMS_OF_DISTRIBUTION = {"bce": 0.45, "dice": 0.27, "focal": 0.18, "likelihood": 0.1}
_OF_OBJECTS = ("mask_rcnn", "multitask_smp", "multitask_unet")  # networks
_OF_IMAGES = tuple(task for task, (data, _, _) in _BY_TASK.items() if data == "images")


class Experiment(Section):
    """Everything a run needs to know, and the checks that span sections."""

    name: str = Field(
        help="Name of the run, of letters, digits, _ . and -; its folder starts with it.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
    )
    task: TaskConfig = Field(default_factory=HeightGapsTask, help="What is to be learned.")
    data: DataConfig = Field(
        help="Where the data lies and how it becomes tiles; kind unsaid: height_rasters for tasks of heights, else "
        "images."
    )
    model: ModelConfig = Field(
        default_factory=HeightCdfConfig,
        help="The network; kind unsaid: height_cdf for height_gaps, regression_unet for height, else unet.",
    )
    loss: LossConfig = Field(
        default_factory=CombinedLossConfig,
        help="What the training minimises; kind unsaid: regression for height, else combined.",
    )
    optim: OptimConfig = Field(default_factory=OptimConfig, help="How weights are updated.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, help="The loop.")
    callbacks: CallbacksConfig = Field(default_factory=CallbacksConfig, help="What watches the run.")
    checkpoints: CheckpointsConfig = Field(default_factory=CheckpointsConfig, help="Saving and keeping.")
    metrics: MetricsConfig = Field(default_factory=MetricsConfig, help="How the model is scored.")
    tracking: TrackingConfig = Field(default_factory=TrackingConfig, help="Where runs are written.")
    prediction: PredictionConfig = Field(default_factory=PredictionConfig, help="How the model is applied.")
    stages: tuple[StageConfig, ...] = Field(
        (), help="Trainings one after another in one run, each from the best weights of the one before; unset: one."
    )
    pseudo_labels: PseudoLabelsConfig = Field(
        default_factory=PseudoLabelsConfig, help="Images without labels that the model labels itself."
    )
    tune: TuneConfig = Field(default_factory=TuneConfig, help="Search over settings, with maskwright tune.")

    @classmethod
    def kinds_unsaid(cls, said: Mapping[str, str | None]) -> dict[str, str | None]:
        """The kinds that follow from one another: data, network and loss from the task, the task from height rasters.

        Images alone do not say what is to be learned. A misspelt task counts as what it resembles, so that one slip
        is told once.
        """
        task, data = said.get("task"), said.get("data")
        unsaid_task = "height_gaps" if data in (None, "height_rasters") else None
        meant = get_close_matches(task, _BY_TASK, 1) if task is not None else []
        implied = _BY_TASK[meant[0] if meant else unsaid_task or "binary"]
        following = dict(zip(("data", "model", "loss"), implied, strict=True))
        return {**super().kinds_unsaid(said), "task": unsaid_task, **following}

    @model_validator(mode="before")
    @classmethod
    def _unsaid_suits_the_task(cls, values: Any) -> Any:
        """What is left unsaid, for tasks that learn from images, and for a network that answers with a distribution."""
        if not isinstance(values, Mapping):
            return values
        task = _kind_said(values.get("task"))
        values = _minutes_used(values)
        if task in _OF_IMAGES:
            loss = _loss_of_objects(values, task) if task in OBJECTS else _loss_of_images(values)
            return {**values, "loss": loss, "callbacks": _callbacks_of_images(values)}
        if task in (None, "height_gaps") and _kind_said(values.get("model")) in (None, "height_cdf"):
            return {**values, "loss": _loss_with(values, lambda said: _terms_unsaid(said, _TERMS_OF_DISTRIBUTION))}
        return values

    @field_validator("task", mode="before")
    @classmethod
    def _task_is_said(cls, task: Any) -> Any:
        if isinstance(task, Mapping) and "kind" not in task:
            raise ValueError(
                "kind: missing. Images do not say what is to be learned: set binary, multiclass or multilabel"
            )
        return task

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Experiment:
        model, size_px = self.model, self.data.tiles.size_px
        faults = [*self._faults_of_kinds()] or [*self._faults_of_heights(), *self._faults_of_loss()]
        shrink = getattr(model, "shrink", 1)
        if size_px < shrink * 2**model.depth:
            blocks = "" if shrink == 1 else f" in blocks of {shrink}"
            faults.append(
                f"data.tiles.size_px: {size_px} px{blocks} cannot be halved {model.depth} times. Lower model.depth"
            )
        faults += self._faults_of_objects()
        refuse(faults)
        refuse([*stage_faults(self), *pseudo_label_faults(self), *tune_faults(self)])
        return self

    def _faults_of_kinds(self) -> Iterator[str]:
        """Kinds that do not go together."""
        task, data, model, loss = self.task.kind, self.data.kind, self.model, self.loss.kind
        wanted_data, wanted_model, wanted_loss = _BY_TASK[task]
        if data != wanted_data:
            others = [name for name, (kind, _, _) in _BY_TASK.items() if kind == data]
            yield (
                f"data.kind: task.kind {task} learns from {wanted_data}, not from {data}. "
                f"Set data.kind: {wanted_data}, or one of {', '.join(others)} as task.kind"
            )
        if model.conditioned and task != "height_gaps":
            yield (
                f"model.kind: {model.kind} is told heights, which task.kind {task} does not ask. "
                f"Set model.kind: {wanted_model}"
            )
        if model.kind == "regression_unet" and task != "height":
            yield (
                f"model.kind: regression_unet answers one value in metres, which is task.kind height, not {task}. "
                f"Set model.kind: {wanted_model}"
            )
        if loss != wanted_loss:
            yield f"loss.kind: {loss} does not fit task.kind {task}. Set loss.kind: {wanted_loss}"

    def _faults_of_objects(self) -> Iterator[str]:
        """Settings that mean nothing to objects, or that only they have."""
        task, data, loss = self.task, self.data, self.loss
        if self.model.kind in _OF_OBJECTS and task.kind not in OBJECTS:
            yield (
                f"model.kind: {self.model.kind} has a head for each output of task.kind {' or '.join(OBJECTS)}, "
                f"not of {task.kind}. Set model.kind: {_BY_TASK[task.kind][1]}"
            )
        if task.kind not in OBJECTS:
            return
        if task.kind == "instances" and loss.kind == "multitask":
            for name in ("crown", "density"):
                if loss.terms[name]:
                    yield f"loss.{name}: task.kind instances does not learn it. Set it to 0, or task.kind: agroforestry"
        if self.metrics.calibrate:
            yield "metrics.calibrate: a temperature would move centres as well. Set it to false for tasks of objects"
        if data.kind == "images" and data.augment.mixup_p > 0:
            yield "data.augment.mixup_p: two images blended have the objects of both. Set it to 0 for tasks of objects"
        if data.kind == "images" and data.resize_px is not None:
            yield "data.resize_px: objects keep the size they have in the labels. Leave it out; tiles cut large images"

    def _faults_of_heights(self) -> Iterator[str]:
        """Heights that a network without condition cannot answer."""
        task, model = self.task, self.model
        if task.kind != "height_gaps" or model.conditioned:
            return
        only = f"model.kind {model.kind} answers the heights of task.heights_m, all at once"
        for name in ("train_heights_m", "train_range_m"):
            if getattr(task, name) is not None:
                yield f"task.{name}: {only}. Leave it out, or set model.kind: height_cdf"
        if task.heights_per_sample != 1:
            yield f"task.heights_per_sample: {only}. Leave it at 1, or set model.kind: height_cdf"

    def _faults_of_loss(self) -> Iterator[str]:
        """Settings of the loss that mean nothing to the task."""
        task, loss = self.task.kind, self.loss
        if loss.kind != "combined":
            return
        if loss.likelihood and self.model.kind != "height_cdf":
            yield (
                f"loss.likelihood: model.kind {self.model.kind} gives no distribution of heights. Set it to 0"
                + (", or model.kind: height_cdf" if task == "height_gaps" else "")
            )
        if loss.height_weights != "none" and task != "height_gaps":
            yield f"loss.height_weights: task.kind {task} is not asked for heights. Set none"
        if task != "multiclass":
            if loss.class_weights is not None:
                yield f"loss.class_weights: the classes of task.kind {task} exclude no other. Set loss.pos_weight"
            return
        if loss.pos_weight != 1:
            yield "loss.pos_weight: task.kind multiclass has classes that exclude each other. Set loss.class_weights"
        for name in ("boundary", "cldice", "balanced_bce"):
            if loss.terms[name]:
                yield f"loss.{name}: there is no such loss of classes that exclude each other. Set it to 0"


def _kind_said(section: Any) -> Any:
    """The kind of a section, however it was given."""
    return section.get("kind") if isinstance(section, Mapping) else getattr(section, "kind", None)


def _loss_of_images(values: Mapping[str, Any]) -> Any:
    def unsaid(said: Container[str]) -> dict[str, Any]:
        reductions = {name: value for name, value in _REDUCTION_OF_IMAGES.items() if name not in said}
        return {**reductions, **_terms_unsaid(said, _TERMS_OF_IMAGES)}

    return _loss_with(values, unsaid)


def _loss_of_objects(values: Mapping[str, Any], task: str) -> Any:
    """Objects alone have no crown diameter and no density to learn."""
    loss = values.get("loss", {})
    if task == "instances" and isinstance(loss, Mapping) and loss.get("kind", "multitask") == "multitask":
        return {"crown": 0.0, "density": 0.0, **loss}
    return loss


def _loss_with(values: Mapping[str, Any], unsaid: Callable[[Container[str]], dict[str, Any]]) -> Any:
    """The loss, a combined one with what ``unsaid`` gives for the settings that were said."""
    loss = values.get("loss", {})
    if isinstance(loss, CombinedLossConfig):
        return loss.model_copy(update=unsaid(loss.model_fields_set))
    if isinstance(loss, Mapping) and loss.get("kind", "combined") == "combined":
        return {**loss, **unsaid(loss)}
    return loss


def _terms_unsaid(said: Container[str], terms: Mapping[str, float]) -> dict[str, Any]:
    """The terms, unless one was said: a sum that a user meant stays as it is."""
    return {} if any(name in said for name in CombinedLossConfig().terms) else dict(terms)


def _minutes_used(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """With a budget, no early stop where nothing is said of it: the time was given, and rates fall to its very end."""
    callbacks, training = values.get("callbacks", {}), values.get("training", {})
    budget = training.get("budget") if isinstance(training, Mapping) else getattr(training, "budget", None)
    if budget is None or not isinstance(callbacks, Mapping) or callbacks.get("early_stopping"):
        return values
    return {**values, "callbacks": {**callbacks, "early_stopping": {"enabled": False}}}


def _callbacks_of_images(values: Mapping[str, Any]) -> Any:
    """No early stop in the first half: where little is to be found, calling everything scores best for many epochs."""
    callbacks, training = values.get("callbacks", {}), values.get("training", {})
    stopping = callbacks.get("early_stopping", {}) if isinstance(callbacks, Mapping) else None
    if not isinstance(stopping, Mapping):
        return callbacks
    default = TrainingConfig.model_fields["epochs"].default
    epochs = training.get("epochs", default) if isinstance(training, Mapping) else getattr(training, "epochs", default)
    if not isinstance(epochs, int) or epochs < 1:
        return callbacks  # told as a fault of its own
    return {**callbacks, "early_stopping": {"min_epochs": epochs // 2, **stopping}}
