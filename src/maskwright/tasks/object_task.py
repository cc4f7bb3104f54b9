"""What the tasks of objects share: heads, loss, grouping and scores."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from maskwright.data.instance_targets import InstanceTruth
from maskwright.errors import ConfigError, DataError, ShapeError
from maskwright.losses.instances import (
    centres_by_sample,
    class_by_sample,
    offsets_by_sample,
)
from maskwright.metrics import SegmentationMetrics, mode_of
from maskwright.metrics.instance_meter import InstanceMeter, TrueObjects
from maskwright.models import build_model
from maskwright.models.grouping import GroupSettings, group
from maskwright.models.heads import split_heads
from maskwright.models.mask_rcnn import MaskRcnn, ProposalOutputs
from maskwright.objects import FoundObjects
from maskwright.tasks.classes import REPORTED, ClassMeter
from maskwright.tasks.combined import Truth
from maskwright.tasks.multiclass import Multiclass
from maskwright.types import Batch, LossOutput, Prediction

if TYPE_CHECKING:
    from torch import nn

    from maskwright.config.model import ModelConfig
    from maskwright.losses import CombinedLoss

__all__ = ["ObjectMeter", "ObjectTask", "true_objects"]

_LOWER_IS_BETTER = ("error", "mae", "rmse")
_NEITHER = ("coverage", "called", "true", "bias", "std", "mean")  # facts that are neither good nor bad


class ObjectMeter(ClassMeter):
    """Counts of pixels by class, and of objects.

    Attributes:
        objects: The objects.
    """

    def __init__(self, metrics: SegmentationMetrics, objects: InstanceMeter) -> None:
        super().__init__(metrics, is_mean=True)
        self.objects = objects

    def merge(self, other: ClassMeter) -> None:
        """Add the images and objects of another meter, behind these."""
        super().merge(other)
        if isinstance(other, ObjectMeter):
            self.objects.merge(other.objects)

    def compute(self) -> dict[str, float]:
        """Scores of classes as for any task of classes, then those of objects."""
        return {**super().compute(), **self.objects.compute()}


class ObjectTask(Multiclass):
    """Objects one by one beside the classes of pixels.

    The network answers with heads one behind another: ``semantic`` logits of the classes; ``centre`` logits, a channel
    for each class of objects; ``offset`` x and y to the centre in units of ``scale_px``; and what kinds add.

    Args:
        class_names: Classes of pixels, the background first if there is one.
        loss: The loss; None where nothing is trained (prediction).
        object_classes: Those of them whose objects are found; empty: all but the first.
        grouping: How maps become objects; its ``object_ids`` are set here.
        scale_px: Unit of the network's offsets and diameters.
        centre_sigma_px: Width of the bells that mark centres in the maps that are learned.
        match_distance_m: A centre this near to a true one has found it.
        covers: Classes of pixels are learned. Where they are not (labels that are points tell none), a pixel is of the
            class of the object that lies on it.
        options: ``schedule``, ``learned`` and ``probability_threshold`` of ``ClassTask``.

    Raises:
        ConfigError: If an object class is no class, or none is left.
    """

    default_monitor: ClassVar[str] = "val/mAP_50"
    extra_heads: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        class_names: Sequence[str],
        loss: CombinedLoss | None = None,
        *,
        object_classes: Sequence[str] = (),
        grouping: GroupSettings | None = None,
        scale_px: float = 16.0,
        centre_sigma_px: float = 2.0,
        match_distance_m: float = 2.0,
        covers: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(class_names, loss, **options)
        wanted = tuple(object_classes) or self.class_names[1:]
        unknown = [name for name in wanted if name not in self.class_names]
        if unknown:
            raise ConfigError(
                f"task.object_classes: {', '.join(unknown)} is no class of the labels. Classes: "
                f"{', '.join(self.class_names)}."
            )
        self.object_classes = wanted
        ids = tuple(self.class_names.index(name) for name in wanted)
        self.grouping = replace(grouping or GroupSettings(), object_ids=ids)
        self.scale_px = float(scale_px)
        self.centre_sigma_px = float(centre_sigma_px)
        self.match_distance_m = float(match_distance_m)
        self.covers = bool(covers)

    @classmethod
    def from_dict(cls, description: Mapping[str, Any], loss: CombinedLoss | None = None) -> Self:
        """The inverse of :meth:`to_dict`."""
        known = {name: value for name, value in description.items() if name not in ("kind", "class_names", "grouping")}
        found = description["grouping"]
        grouping = GroupSettings(**{**found, "object_ids": tuple(found["object_ids"])})
        return cls(description["class_names"], loss, grouping=grouping, **known)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``model.json``."""
        return {
            **super().to_dict(),
            "object_classes": list(self.object_classes),
            "grouping": {**asdict(self.grouping), "object_ids": list(self.object_ids)},
            "scale_px": self.scale_px,
            "centre_sigma_px": self.centre_sigma_px,
            "match_distance_m": self.match_distance_m,
            "covers": self.covers,
        }

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Class id of each class of objects."""
        return self.grouping.object_ids

    @property
    def heads(self) -> dict[str, int]:
        """Name of each output to its channels, in their order."""
        first = {"semantic": self.num_classes, "centre": len(self.object_classes), "offset": 2}
        return {**first, **dict.fromkeys(self.extra_heads, 1)}

    def build_model(self, model: ModelConfig, in_channels: int, batch_size: int = 1) -> nn.Module:
        """A network for this task; ``batch_size`` decides the normalisation where the setting says ``auto``."""
        heads = self.heads
        network = build_model(
            model, in_channels=in_channels, num_classes=sum(heads.values()), batch_size=batch_size, heads=heads
        )
        if isinstance(network, MaskRcnn):
            network.object_ids, network.offset_unit_px = self.object_ids, self.scale_px
        return network

    def cut_at(self, point: Mapping[str, Any] | None) -> Self:
        """The same task at a point chosen before: ``min_score``, ``min_area_px``, ``duplicate_iou``; None: as it is."""
        if not point:
            return self
        score, area = float(point["min_score"]), int(point["min_area_px"])
        overlap = float(point["duplicate_iou"])
        cut = copy.copy(self)
        cut.grouping = replace(self.grouping, min_score=score, min_area_px=area, duplicate_iou=overlap)
        return cut

    # --- answers ------------------------------------------------------------------------------------------------------

    def maps(self, outputs: Tensor) -> dict[str, Tensor]:
        """Outputs (B, K, H, W) as maps by name, (B, C, H, W) float32: what :func:`group` takes, and the density.

        Raises:
            ShapeError: If the number of channels is not that of the heads.
        """
        heads = split_heads(outputs.float(), self.heads)
        return {
            "semantic": torch.softmax(heads["semantic"], dim=1),
            "centre": torch.sigmoid(heads["centre"]),
            "offset": heads["offset"] * self.scale_px,
        }

    def decode(
        self, outputs: Tensor, heights_m: Sequence[float] | None = None, valid: Tensor | None = None
    ) -> Prediction:
        """Probabilities of classes, the maps, and the objects of each sample.

        Args:
            outputs: (B, K, H, W) of all heads.
            heights_m: Not asked; ignored.
            valid: (B, H, W) bool; elsewhere there are no objects. None: everywhere.

        Raises:
            ShapeError: If the number of channels is not that of the heads.
        """
        maps = self.maps(outputs)
        return Prediction(maps["semantic"], objects=self.group_all(maps, valid), density=maps.get("density"), maps=maps)

    def group_all(self, maps: Mapping[str, Tensor], valid: Tensor | None = None) -> tuple[FoundObjects, ...]:
        """The objects of each sample of maps (B, C, H, W)."""
        arrays = {name: values.detach().cpu().numpy() for name, values in maps.items()}
        counted = None if valid is None else valid.cpu().numpy()
        return tuple(
            group(
                {name: values[index] for name, values in arrays.items()},
                self.grouping,
                None if counted is None else counted[index],
            )
            for index in range(len(arrays["centre"]))
        )

    def called(self, prediction: Prediction) -> Tensor:
        """(B, K, H, W) bool: the likeliest class; where no classes are learned, that of the object on a pixel."""
        if self.covers or prediction.objects is None:
            return super().called(prediction)
        height, width = prediction.probs.shape[-2:]
        ids = np.stack([np.append(0, found.labels)[found.id_map(height, width)] for found in prediction.objects])
        return self._as_masks(torch.from_numpy(ids).to(prediction.probs.device))

    # --- loss ---------------------------------------------------------------------------------------------------------

    def loss(self, outputs: Any, batch: Batch, weights: Mapping[str, Tensor] | None = None) -> LossOutput:
        """The loss of one batch; each term is its sum divided by ``weights`` (unset: by the batch's own).

        Args:
            outputs: (B, K, H, W) of all heads, or what a Mask R-CNN gives in training.
            batch: With the maps of its objects.
            weights: From ``loss_weights`` over the accumulation group.

        Raises:
            DataError: If the batch has no maps.
            ShapeError: If the outputs do not fit the batch.
        """
        self._check_batch(batch)
        dense = outputs.dense if isinstance(outputs, ProposalOutputs) else outputs
        self._check_outputs(dense, batch)
        weights = self._measure(batch) if weights is None else weights
        heads, maps = split_heads(dense.float(), self.heads), _maps(batch)
        sums = {name: self._sums(name, heads, maps, batch) for name in self._loss.terms}
        if isinstance(outputs, ProposalOutputs) and "instance" in sums:
            sums["instance"] = _of_proposals(outputs, batch, self.object_ids)
        given = {name: value[:, None] for name, value in sums.items()}
        none = dense.new_zeros(()).expand(len(batch), 1, *batch.valid.shape[-2:])  # no term looks at these
        if self.learned is not None:
            return self._learned_loss(none, batch, [Truth(none, batch.valid, None, given)], weights)
        output: LossOutput = self._loss(none, none, batch.valid, weights, None, given)
        return output

    def _check_batch(self, batch: Batch) -> None:
        if batch.maps is None:
            raise DataError(
                "A batch for a task of objects needs maps of centres and offsets. Give the loader a painter "
                "(maskwright.data.instance_targets.TargetPainter)."
            )

    def _measure(self, batch: Batch) -> dict[str, Tensor]:
        """What terms are divided by, from what the labels tell; ``samples`` are those with a pixel that counts."""
        maps, valid = _maps(batch), batch.valid
        with_objects = maps["has_objects"] & valid.any(2).any(1)
        counted = {
            "samples": valid.any(2).any(1).sum(),
            "samples_with_objects": with_objects.sum(),
            "pixels_with_class": (maps["tells_class"] & valid).sum(),
            "pixels_with_diameter": (maps["has_diameter"] & valid).sum(),
            "pixels_with_density": (with_objects[:, None, None] & valid).sum(),
        }
        return {name: number.double() for name, number in counted.items()}

    def _sums(self, name: str, heads: Mapping[str, Tensor], maps: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """(B,) sums of a term over each sample."""
        if name == "semantic":
            return class_by_sample(heads["semantic"], batch.target, maps["tells_class"] & batch.valid)
        if name != "instance":
            raise ConfigError(f"loss.{name}: task.kind {self.kind} does not learn it. Set it to 0.")
        centres = centres_by_sample(heads["centre"], maps["centre"], batch.valid, self.centre_sigma_px)
        offsets = offsets_by_sample(heads["offset"], maps["offset"] / self.scale_px, maps["inside"] & batch.valid)
        return torch.where(maps["has_objects"], centres + offsets, 0.0)

    def _check_outputs(self, outputs: Tensor, batch: Batch) -> None:
        wanted = (len(batch), self._channels(batch), *batch.target.shape[-2:])
        if tuple(outputs.shape) != wanted:
            raise ShapeError(
                f"The network answered with shape {tuple(outputs.shape)} where the batch needs {wanted}: "
                f"samples, channels of the heads {', '.join(self.heads)}, rows, columns."
            )

    @property
    def _outputs_are_logits(self) -> bool:
        return False  # not all of them

    def _channels(self, batch: Batch) -> int:
        return sum(self.heads.values())

    # --- scores -------------------------------------------------------------------------------------------------------

    def meters(self) -> ObjectMeter:
        """A fresh meter."""
        metrics = SegmentationMetrics(
            self.num_classes, class_names=self.class_names, scores=REPORTED, image_means=("skip",)
        )
        names = dict(zip(self.object_ids, self.object_classes, strict=True))
        return ObjectMeter(metrics, InstanceMeter(names, match_distance_m=self.match_distance_m))

    def update(self, meter: ClassMeter, outputs: Tensor, batch: Batch) -> None:
        """Count pixels by class where the labels tell it, and objects where they tell those."""
        self.count(meter, self.decode(outputs, valid=batch.valid), batch)

    def count(self, meter: ClassMeter, prediction: Prediction, batch: Batch) -> None:
        """As :meth:`update`, of what was decoded already."""
        assert isinstance(meter, ObjectMeter)
        self._check_batch(batch)
        maps = _maps(batch)
        classes_known = maps["tells_class"] & batch.valid
        meter.update(prediction.probs, batch.target, classes_known, batch.where)
        ids = torch.tensor(self.object_ids, device=batch.target.device)
        called = self.called(prediction)[:, list(self.object_ids)].any(dim=1).cpu().numpy()
        true = torch.isin(batch.target, ids).cpu().numpy()
        known = classes_known.cpu().numpy()
        for index, truth in enumerate(batch.instances or ()):
            meter.objects.update_canopy(called[index], true[index], known[index])
            if not isinstance(truth, InstanceTruth) or prediction.objects is None:
                continue
            there = true_objects(truth, batch.valid[index].cpu().numpy())
            meter.objects.update(prediction.objects[index], there)
            if prediction.density is not None:
                density = prediction.density[index, 0][batch.valid[index]].double().sum()
                meter.objects.update_density(float(density), int(there.counts.sum()))

    def score_names(self) -> tuple[str, ...]:
        """Names of the scores that can be better or worse: ``mAP_50``, ``count_accuracy`` and so on, then ``miou``."""
        objects = self.meters().objects.compute()
        told = [name for name in objects if not name.partition("@")[0].endswith(_NEITHER)]
        return (*told, *super().score_names())

    def better(self, name: str) -> Literal["max", "min"]:
        """Whether a larger or a smaller value of a score, or of a loss, is better."""
        score = name.rpartition("/")[2].partition("@")[0]
        if score in self.meters().objects.compute():
            return "min" if score.endswith(_LOWER_IS_BETTER) else "max"
        return mode_of(name)


def true_objects(truth: InstanceTruth, valid: Any) -> TrueObjects:
    """The truth of a tile as meters take it; what has its centre on a pixel that does not count, counts neither way."""
    return TrueObjects(
        boxes=truth.boxes,
        labels=truth.labels,
        centres=truth.centres,
        diameter=truth.diameter,
        masks=truth.crops(),
        counts=truth.counted(valid),
        pixel_size_m=truth.pixel_size_m,
    )


def _of_proposals(outputs: ProposalOutputs, batch: Batch, object_ids: Sequence[int]) -> Tensor:
    """(B,) the losses of a Mask R-CNN, a mean over the samples whose objects have an extent, for each of them."""
    known = {
        index: truth
        for index, truth in enumerate(batch.instances or ())
        if isinstance(truth, InstanceTruth) and truth.has_extent.all()
    }
    sums = outputs.dense.new_zeros(len(batch))
    if known:
        targets = [_proposal_target(truth, batch.valid[index], object_ids) for index, truth in known.items()]
        sums[list(known)] = outputs.losses(list(known), targets)
    return sums


def _proposal_target(truth: InstanceTruth, valid: Tensor, object_ids: Sequence[int]) -> dict[str, Tensor]:
    """Boxes and masks of the objects seen in a tile, as torchvision takes them."""
    seen = np.where(valid.cpu().numpy(), np.maximum(truth.ids, 0), 0)
    numbers = [int(n) for n in np.unique(seen) if n and not truth.crowd[n - 1]]
    masks = np.array([seen == n for n in numbers], np.uint8).reshape(-1, *seen.shape)
    boxes = np.array([_extent(mask) for mask in masks], np.float32).reshape(-1, 4)
    labels = np.array([1 + list(object_ids).index(int(truth.labels[n - 1])) for n in numbers], np.int64)
    arrays = {"boxes": boxes, "labels": labels, "masks": masks}
    return {name: torch.from_numpy(values).to(valid.device) for name, values in arrays.items()}


def _extent(mask: Any) -> tuple[int, int, int, int]:
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


def _maps(batch: Batch) -> Mapping[str, Tensor]:
    assert batch.maps is not None  # _check_batch said so
    return batch.maps
