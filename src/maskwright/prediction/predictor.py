"""Predictor: a model folder applied to arrays and rasters, with nothing left to ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
from maskwright.prediction.backends import load_exported
from maskwright.prediction.map_image import map_image
from maskwright.prediction.map_metres import map_metres
from maskwright.prediction.map_raster import map_raster
from maskwright.prediction.model_card import ModelCard, find_model_folder
from maskwright.prediction.outputs import RasterResult
from maskwright.prediction.scene_input import SceneInput
from maskwright.prediction.tta import averaged
from maskwright.tasks.height_gaps import HeightGaps
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
    def load(cls, path: str | Path, *, device: str = "auto", backend: str = "torch") -> Predictor:
        """Load a trained model.

        Args:
            path: A run folder, or a model folder; with the backend ``onnx`` also an exported file.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
            backend: What computes: ``torch``, or ``onnx`` for a file exported before.

        Raises:
            PredictionError: If there is no model at ``path``.
            CheckpointError: If the model folder is damaged or of another version.
        """
        if backend != "torch" or Path(path).suffix.lower() == ".onnx":
            return cls(*load_exported(path, device, backend), "cpu")
        folder = find_model_folder(path)
        card = ModelCard.load(folder)
        model = card.task.build_model(card.architecture, card.in_channels, card.batch_size)
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
            (B, K, H, W) float32, heights rising, never falling from one height to the next; NaN where not valid. Of a
            model of the task ``height``: (B, 1, H, W) metres.

        Raises:
            PredictionError: If the arrays or heights do not suit the model.
        """
        if self.card.image is not None:
            raise PredictionError("This model was trained on images. Use predict_image for arrays of pixels.")
        asked = self.card.heights(heights_m)
        bands = [_scenes(array, name) for array, name in self._bands(heights, chm)]
        if any(band.shape != bands[0].shape for band in bands):
            raise PredictionError(
                f"heights are {bands[0].shape} and chm is {bands[1].shape}; give arrays of one shape."
            )
        count, height, width = bands[0].shape
        probs = np.empty((count, self.channels(asked), height, width), np.float32)
        for index in range(count):
            reads = [_reader(band[index]) for band in bands]
            scene = SceneInput(
                self.card.bands, reads, height, width, self.card.normaliser, pixel_size_m, self.card.context
            )
            values, valid = scene.rows(0, height)
            image = torch.from_numpy(scene.window(values, valid)[None])
            with torch.inference_mode():
                prediction = self.card.task.decode(self.logits(image, asked), asked or None)
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
        if settings.tta > 1 and "aspect" in self.card.context:
            raise PredictionError(
                f"prediction.tta: {settings.tta} turns and mirrors windows, and this model sees the aspect "
                "(data.context), a compass direction, which would be wrong in them. Set prediction.tta: 1."
            )
        paths = self.inputs(path, chm)
        asked = self.card.heights(settings.heights_m if heights_m is None else heights_m)
        map_one = map_raster if isinstance(self.card.task, HeightGaps) else map_metres
        return map_one(self, paths, Path(out_dir), asked, settings, (nodata, chm_nodata), progress)

    def predict_image(self, values: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_] | None = None) -> FloatArray:
        """Probabilities of the classes of one image in one pass of the network.

        Args:
            values: (C, H, W) pixels as the files of the training hold them: of the same type and scale, bands chosen,
                resized if the training resized.
            valid: (H, W) bool; unset: every pixel counts.

        Returns:
            (K, H, W) float32, NaN where not valid.

        Raises:
            PredictionError: If the model sees no images, or the array has another number of bands.
        """
        if self.card.image is None:
            raise PredictionError("This model was trained on heights. Use predict for arrays of heights.")
        if values.ndim != 3 or len(values) != self.card.in_channels or 0 in values.shape:
            raise PredictionError(
                f"The image has shape {values.shape}; give ({self.card.in_channels}, H, W) with at least one pixel."
            )
        counts = np.ones(values.shape[1:], np.bool_) if valid is None else valid
        normaliser: Any = self.card.normaliser
        image = np.asarray(normaliser.normalise(values, counts), np.float32)
        probs: FloatArray = self.raw_probs(torch.from_numpy(image[None]), ())[0].cpu().numpy()
        np.copyto(probs, np.nan, where=~counts)
        return probs

    def predict_photograph(
        self,
        path: str | Path,
        out_dir: str | Path,
        *,
        settings: PredictionConfig | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> RasterResult:
        """Map the classes of one image file: PNGs for a photograph, GeoTIFFs for a raster with a place on the ground.

        Args:
            path: An image of the kind the model was trained on; any size.
            out_dir: Folder for masks and pictures; files of an earlier prediction of this image are replaced.
            settings: Windows, blending, outputs; unset: as the model's experiment says.
            progress: Called with (done, total, what is being done).

        Raises:
            PredictionError: If the model cannot be applied to the image, or the results cannot be written.
            DataError: If the image cannot be read.
        """
        if self.card.image is None:
            raise PredictionError(f"This model was trained on height rasters, and {path} is to be read as an image.")
        return map_image(self, Path(path), Path(out_dir), settings or self.card.prediction, progress)

    def inputs(self, path: str | Path, chm: str | Path | None = None) -> list[Path]:
        """The files of one input, in the order of the model's bands.

        Raises:
            PredictionError: If the model sees other rasters, or none.
        """
        if self.card.image is not None:
            raise PredictionError(f"This model was trained on images; {path} cannot be read as heights.")
        if chm is not None and "chm" not in self.card.bands[1:]:
            raise PredictionError(
                f"This model sees a {self.card.bands[0].upper()} only; leave the canopy height model {chm} out."
            )
        if chm is None and len(self.card.bands) > 1:
            raise PredictionError(
                f"This model sees a DSM and a CHM; {path} is taken as the DSM, so give the CHM as well "
                "(--chm, in Python chm=)."
            )
        return [Path(path)] if chm is None else [Path(path), Path(chm)]

    def channels(self, heights_m: Sequence[float]) -> int:
        """K, the channels of the probabilities: a height or a class each."""
        return len(heights_m) or self.card.task.num_classes

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

    def raw_probs(self, image: Tensor, heights_m: Sequence[float], *, views: int = 1) -> Tensor:
        """Probabilities (B, K, H, W) before any order over heights: each height is decoded as if it stood alone.

        Args:
            image: (B, C, H, W), normalised as in training.
            heights_m: K heights in metres; none for tasks of classes, and for ``height``, whose answer is metres.
            views: Views averaged, see ``tta``.
        """
        with torch.inference_mode():
            return averaged(lambda images: self._decoded(images, heights_m), image, views)

    def _decoded(self, image: Tensor, heights_m: Sequence[float]) -> Tensor:
        logits, decode = self.logits(image, heights_m), self.card.task.decode
        if not heights_m:
            return decode(logits).probs
        return torch.cat([decode(logits[:, k : k + 1], [height]).probs for k, height in enumerate(heights_m)], dim=1)

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
    """A reader of windows; outside of the scene is NaN."""
    whole = Window(0, 0, *scene.shape)

    def read(window: Window) -> FloatArray:
        inside = window.intersection(whole)
        if inside == window:
            return scene[window.row : window.row_stop, window.col : window.col_stop]
        out = np.full((window.height, window.width), np.nan, np.float32)
        if inside is not None:
            row, col = inside.row - window.row, inside.col - window.col
            part = scene[inside.row : inside.row_stop, inside.col : inside.col_stop]
            out[row : row + inside.height, col : col + inside.width] = part
        return out

    return read
