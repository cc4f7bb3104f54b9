"""Predictor: a model folder applied to arrays and rasters, with nothing left to ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from maskwright.checkpoints import load_weights
from maskwright.config.prediction import PredictionConfig
from maskwright.devices import choose_device
from maskwright.errors import PredictionError
from maskwright.models.blocks import ConvUnit, SkipUnit
from maskwright.prediction.map_raster import RasterResult, map_raster
from maskwright.prediction.model_card import ModelCard, find_model_folder
from maskwright.prediction.scene_input import SceneInput
from maskwright.types import Window

__all__ = ["Predictor", "fold_batch_norm"]

FloatArray = npt.NDArray[np.float32]


class Predictor:
    """A trained model, ready for arrays and rasters.

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

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Predictor:
        """Load a trained model.

        Args:
            path: A run folder, or a model folder.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

        Raises:
            PredictionError: If there is no model at ``path``.
            CheckpointError: If the model folder is damaged or of another version.
        """
        folder = find_model_folder(path)
        card = ModelCard.load(folder)
        model = card.task.build_model(card.architecture, len(card.bands), card.batch_size)
        load_weights(folder, model)
        fold_batch_norm(model.eval())
        return cls(model, card, choose_device(device))

    def predict(
        self,
        heights: FloatArray,
        heights_m: Sequence[float] | None = None,
        *,
        pixel_size_m: float,
        chm: FloatArray | None = None,
    ) -> FloatArray:
        """Probabilities that pixels are gaps, each array in one pass of the network.

        Args:
            heights: (H, W) or (B, H, W) metres, NaN where not measured: surfaces for a model trained on a DSM or on
                both, heights above ground for one trained on a CHM. The reference of a surface is taken from the array.
            heights_m: K heights in metres; unset: those the model was scored at.
            pixel_size_m: Side of a pixel in metres.
            chm: The same shape, for a model that sees both.

        Returns:
            (B, K, H, W) float32, heights rising, never falling from one height to the next; NaN where not valid.

        Raises:
            PredictionError: If the arrays or heights do not suit the model.
        """
        asked = self.card.heights(heights_m)
        bands = [_scenes(array, name) for array, name in self._bands(heights, chm)]
        if any(band.shape != bands[0].shape for band in bands):
            raise PredictionError(
                f"heights are {bands[0].shape} and chm is {bands[1].shape}; give arrays of one shape."
            )
        count, height, width = bands[0].shape
        probs = np.empty((count, len(asked), height, width), np.float32)
        for index in range(count):
            reads = [_reader(band[index]) for band in bands]
            scene = SceneInput(self.card.bands, reads, height, width, self.card.normaliser, pixel_size_m)
            values, valid = scene.rows(0, height)
            image = torch.from_numpy(scene.window(values, valid)[None])
            with torch.inference_mode():
                prediction = self.card.task.decode(self.logits(image, asked), asked)
            probs[index] = prediction.probs[0].cpu().numpy()
            np.copyto(probs[index], np.nan, where=~valid)
        return probs

    def predict_raster(
        self,
        path: str | Path,
        out_dir: str | Path,
        heights_m: Sequence[float] | None = None,
        *,
        settings: PredictionConfig | None = None,
        nodata: float | str | None = None,
        chm: str | Path | None = None,
        chm_nodata: float | str | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> RasterResult:
        """Map gaps on a raster of any size; memory grows with its width, not its height.

        Args:
            path: A raster of heights of the kind the model was trained on.
            out_dir: Folder for maps, polygons, picture and summary; made if missing. Files of an earlier prediction of
                this raster are replaced, all at the end, and none if something fails.
            heights_m: Heights in metres; unset: those of ``settings``, then those the model was scored at.
            settings: Windows, blending, outputs; unset: as the model's experiment says.
            nodata: Value meaning "not measured", ``"tag"`` for the file's own or ``"none"``; unset: the file's tag,
                else the value of the training.
            chm: Canopy height model on the same grid, for a model that sees both.
            chm_nodata: The same as ``nodata`` for that one.
            progress: Called with (done, total, what is being done).

        Raises:
            PredictionError: If the model cannot be applied to the raster, or the results cannot be written.
            DataError: If the raster cannot be read.
        """
        settings = settings or self.card.prediction
        if chm is not None and "chm" not in self.card.bands[1:]:
            raise PredictionError(
                f"This model sees a {self.card.bands[0].upper()} only; leave the canopy height model {chm} out."
            )
        if chm is None and len(self.card.bands) > 1:
            raise PredictionError(
                f"This model sees a DSM and a CHM; {path} is taken as the DSM, so give the CHM as well "
                "(--chm, in Python chm=)."
            )
        paths = [Path(path)] if chm is None else [Path(path), Path(chm)]
        asked = self.card.heights(settings.heights_m if heights_m is None else heights_m)
        return map_raster(self, paths, Path(out_dir), asked, settings, (nodata, chm_nodata), progress)

    def logits(self, image: Tensor, heights_m: Sequence[float]) -> Tensor:
        """Raw output (B, K, H, W) on the device for input (B, C, H, W), normalised as in training."""
        image = image.to(self.device)
        own = self.card.task.heights_m
        if not self.card.task.fixed:
            condition = image.new_tensor(list(heights_m)).expand(len(image), -1)
            answered: Tensor = self.model(image, condition)
            return answered
        logits: Tensor = self.model(image, image.new_tensor(own).expand(len(image), -1))
        return logits[:, [own.index(height) for height in heights_m]]

    def raw_probs(self, image: Tensor, heights_m: Sequence[float]) -> Tensor:
        """Probabilities (B, K, H, W) before any order over heights: each height is decoded as if it stood alone."""
        with torch.inference_mode():
            logits = self.logits(image, heights_m)
            decode = self.card.task.decode
            return torch.cat(
                [decode(logits[:, k : k + 1], [height]).probs for k, height in enumerate(heights_m)], dim=1
            )

    def _bands(self, heights: FloatArray, chm: FloatArray | None) -> list[tuple[FloatArray, str]]:
        if len(self.card.bands) == 1:
            if chm is not None:
                raise PredictionError(f"This model sees a {self.card.bands[0].upper()} only; leave chm out.")
            return [(heights, "heights")]
        if chm is None:
            raise PredictionError("This model sees a DSM and a CHM; give the canopy heights as chm.")
        return [(heights, "heights"), (chm, "chm")]


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


def _scenes(array: FloatArray, name: str) -> FloatArray:
    scenes = np.asarray(array, np.float32)
    if scenes.ndim == 2:
        scenes = scenes[None]
    if scenes.ndim != 3 or 0 in scenes.shape:
        raise PredictionError(f"{name} has shape {scenes.shape}; give (H, W) or (B, H, W) with at least one pixel.")
    return scenes


def _reader(scene: FloatArray) -> Callable[[Window], FloatArray]:
    return lambda window: scene[window.row : window.row_stop, window.col : window.col_stop]
