"""Member: one network with its card, applied to windows. A predictor has one, an ensemble several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from maskwright.checkpoints import load_state, load_weights
from maskwright.devices import choose_device
from maskwright.errors import CheckpointError, PredictionError
from maskwright.files import sha256_file
from maskwright.models.blocks import ConvUnit, SkipUnit
from maskwright.prediction.backends import OnnxNetwork, load_exported
from maskwright.prediction.model_card import ModelCard, find_model_folder
from maskwright.prediction.tta import views_of
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.tasks.object_task import ObjectTask

__all__ = ["Member", "WindowAnswer", "fold_batch_norm", "load_member"]

_CHECKPOINT_ENDINGS = (".pt", ".pth", ".ckpt")


class Member:
    """A trained network.

    Args:
        model: The network; put in evaluation mode and moved to the device.
        card: What it was trained on and how.
        device: Where it runs.
    """

    def __init__(self, model: nn.Module, card: ModelCard, device: torch.device | str = "cpu") -> None:
        self.card = card
        self.device = torch.device(device)
        model = model.eval().requires_grad_(False).to(self.device)
        self.model = model.to(memory_format=torch.channels_last)

    @property
    def is_exported(self) -> bool:
        """Whether another runtime computes, with threads of its own."""
        return isinstance(self.model, OnnxNetwork)

    @property
    def multiple(self) -> int:
        """What windows are padded to by the network."""
        return int(getattr(self.model, "multiple", 1))

    @property
    def receptive_field_px(self) -> int | None:
        """How far the network looks to each side; None if there is no end to it."""
        reach: int | None = getattr(self.model, "receptive_field_px", None)
        return reach

    @property
    def draws(self) -> bool:
        """Whether maps are drawn of objects found before, so that those of two windows have no mean."""
        return bool(getattr(self.model, "draws_objects", False))

    def logits(self, image: Tensor, heights_m: Sequence[float]) -> Tensor:
        """Raw output (B, K, H, W) on the device for input (B, C, H, W), normalised as in training."""
        image = image.to(self.device)
        task = self.card.task
        if not isinstance(task, HeightGaps):
            raw: Tensor = self.model(image)
        elif task.fixed:
            own = task.heights_m
            every: Tensor = self.model(image, image.new_tensor(own).expand(len(image), -1))
            raw = every[:, [own.index(height) for height in heights_m]]
        else:
            raw = self.model(image, image.new_tensor(list(heights_m)).expand(len(image), -1))
        return raw if self.card.temperature == 1.0 else raw / self.card.temperature

    def probs(self, image: Tensor, heights_m: Sequence[float]) -> Tensor:
        """Probabilities (B, K, H, W) of one view, each height decoded as if it stood alone; metres of ``height``.

        For tasks of objects: all maps, in the order of the heads.
        """
        logits, task = self.logits(image, heights_m), self.card.task
        if isinstance(task, ObjectTask):  # maps are blended, and objects grouped from what comes of that
            return torch.cat(list(task.maps(logits).values()), dim=1)
        decode = task.decode
        if not heights_m:
            return decode(logits).probs
        return torch.cat([decode(logits[:, k : k + 1], [height]).probs for k, height in enumerate(heights_m)], dim=1)


@dataclass(frozen=True)
class WindowAnswer:
    """What is blended of a window: the mean over members and views; may be pickled and called by several threads.

    Attributes:
        members: M networks. The channels of a window are their inputs, one behind the other.
        heights_m: K heights in metres; none for tasks of classes.
        views: See ``tta``.
        spread: Blend the standard deviation over members and views as well, in K further channels.
    """

    members: tuple[Member, ...]
    heights_m: tuple[float, ...]
    views: int = 1
    spread: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """Windows (B, C, h, w) to (B, K, h, w), or (B, 2 K, h, w) with the spread."""
        with torch.inference_mode():
            answers, count = self._answers(images), len(self.members) * self.views
            first = next(answers)
            if count == 1 and not self.spread:
                return first
            total, squares = first.clone(), torch.zeros_like(first)
            for answer in answers:
                total.add_(answer)
                if self.spread:  # around the first answer: squares of nearly equal numbers would cancel
                    squares.add_((answer - first).square_())
            mean = total.div_(count)
            if not self.spread:
                return mean
            variance = squares.div_(count) - (mean - first).square_()
            return torch.cat([mean, variance.clamp_(min=0).sqrt_()], dim=1)

    def _answers(self, images: Tensor) -> Iterator[Tensor]:
        start = 0
        for member in self.members:
            part = images[:, start : start + member.card.in_channels]
            yield from views_of(partial(member.probs, heights_m=self.heights_m), part, self.views)
            start += member.card.in_channels


# --- loading ----------------------------------------------------------------------------------------------------------


def load_member(path: str | Path, device: str = "auto", backend: str = "torch") -> Member:
    """Load a network; arguments and errors as of :meth:`Predictor.load`."""
    path = Path(path)
    if backend != "torch" or path.suffix.lower() == ".onnx":
        return Member(*load_exported(path, device, backend), "cpu")
    is_divided = path.suffix == ".json" and path.name.startswith("checkpoint_")
    is_checkpoint = path.is_file() and (is_divided or path.suffix.lower() in _CHECKPOINT_ENDINGS)
    folder = _model_folder_of(path) if is_checkpoint else find_model_folder(path)
    card = ModelCard.load(folder)
    model = card.task.build_model(card.architecture, card.in_channels, card.batch_size)
    if is_checkpoint:
        _load_checkpoint(path, model)
        card = replace(card, sha256=sha256_file(path))
    else:
        load_weights(folder, model)
    fold_batch_norm(model.eval())
    return Member(model, card, choose_device(device))


def _model_folder_of(checkpoint: Path) -> Path:
    """The model folder of the run whose checkpoint it is: it says all that a checkpoint does not."""
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        if (folder / "model" / "model.json").is_file():
            return folder / "model"
    raise PredictionError(
        f"{checkpoint} lies in no run folder: normalisation, bands and classes are told by the model/model.json beside "
        "its folder. Leave the checkpoint in its run, or give the run's model folder."
    )


def _load_checkpoint(path: Path, model: nn.Module) -> None:
    state = load_state(path)
    average: Any = state.get("ema")
    weights: Any = average["weights"] if average else state.get("model")
    try:
        model.load_state_dict(weights)
    except (TypeError, RuntimeError, AttributeError) as cause:
        reason = " ".join(str(cause).split())[:300]
        raise CheckpointError(
            f"{path} does not fit the network that its run describes: {reason}. Give a checkpoint of this run."
        ) from cause


def fold_batch_norm(model: nn.Module) -> None:
    """Let each convolution do the work of the batch norm behind it, in place; the output is the same up to rounding.

    Args:
        model: In evaluation mode.
    """
    for unit in model.modules():
        if not isinstance(unit, ConvUnit | SkipUnit) or not isinstance(unit.norm, nn.BatchNorm2d):
            continue
        if isinstance(unit, ConvUnit):
            unit.conv = fuse_conv_bn_eval(unit.conv, unit.norm)
        else:  # the norm of a sum: both parts are scaled, one carries the shift
            unit.from_skip = fuse_conv_bn_eval(unit.from_skip, unit.norm)
            unit.from_deep = fuse_conv_bn_eval(unit.from_deep, unit.norm)
            unit.from_deep.bias = None
        unit.norm = nn.Identity()
