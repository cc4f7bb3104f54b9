"""Activation maps: where in an image the layers of a trained network answer strongly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskwright.errors import PredictionError, RunError
from maskwright.files import explain_os_error
from maskwright.pictures import contact_sheet
from maskwright.pictures.colors import RGB

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskwright.prediction import Predictor

__all__ = ["activation_maps", "draw_activations", "layers_of"]

_LARGEST_PX = 1024  # side of the middle of an image that is looked at
_MOST_SHOWN = 12
_RAMP: tuple[RGB, ...] = ((252, 253, 191), (252, 137, 97), (183, 55, 121), (81, 18, 124), (0, 0, 4))
_WEIGHT = 0.75


def draw_activations(run: str | Path, image: str | Path, out: Path, layers: Sequence[str] = ()) -> tuple[str, ...]:
    """Draw where the layers of a trained network answer to an image, and write the sheet.

    The middle of the image is looked at, at most 1024 px a side. Each map is the mean of the sizes of a layer's
    channels, light where it is lowest in the picture and dark where it is highest, over the image.

    Args:
        run: A run folder, model folder or checkpoint of a model of images.
        image: An image of the kind it was trained on.
        out: The picture, PNG.
        layers: Names of layers; none: the largest parts of the network.

    Returns:
        The layers that were drawn.

    Raises:
        PredictionError: If a layer does not exist or gives no map, or the model was trained on heights.
        DataError: If the image cannot be read.
        RunError: If the picture cannot be written.
    """
    from maskwright.prediction import Predictor
    from maskwright.prediction.map_image import check_image
    from maskwright.types import Window

    predictor = Predictor.load(run)
    if predictor.card.image is None:
        raise PredictionError(
            f"{run} was trained on height rasters; activations are drawn for models of images. "
            "maskwright predict draws what it answers."
        )
    names = list(layers) or layers_of(predictor.model)[:_MOST_SHOWN]
    with check_image(predictor, Path(image)) as reader:
        height, width = reader.grid.height, reader.grid.width
        rows, cols = min(height, _LARGEST_PX), min(width, _LARGEST_PX)
        window = Window((height - rows) // 2, (width - cols) // 2, rows, cols)
        values, valid = reader.read(window)
        maps = activation_maps(predictor, values, valid, names)
        picture = _picture(values, valid)
    panels = [(Path(image).name, picture), *((name, _over(picture, found)) for name, found in maps.items())]
    sheet = contact_sheet(panels, entries=[("weak", _RAMP[0]), ("strong", _RAMP[-1])])
    _save(sheet, out)
    return tuple(names)


def layers_of(model: nn.Module) -> list[str]:
    """The parts of a network worth a first look: its children with weights, and the members of their lists."""
    names: list[str] = []
    for name, part in model.named_children():
        if not any(True for _ in part.parameters()):
            continue
        lists = [(inner, list(kept)) for inner, kept in part.named_children() if isinstance(kept, nn.ModuleList)]
        names += [f"{name}.{inner}.{index}" for inner, kept in lists for index in range(len(kept))] or [name]
    return names


def activation_maps(
    predictor: Predictor, values: NDArray[Any], valid: NDArray[np.bool_], layers: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """The mean size of each layer's channels, one pass of the network.

    Args:
        predictor: The model; of several the first one is looked at.
        values: (C, H, W) pixels as the files of the training hold them.
        valid: (H, W) bool.
        layers: Names of modules.

    Returns:
        By name (h, w) of the layer's own size, 0 or more.

    Raises:
        PredictionError: If a layer does not exist, or gives no map.
    """
    known = dict(predictor.model.named_modules())
    unknown = [name for name in layers if name not in known]
    if unknown:
        some = ", ".join(layers_of(predictor.model)[:_MOST_SHOWN])
        raise PredictionError(f"The network has no layer {', '.join(unknown)}. Some that it has: {some}.")
    found: dict[str, NDArray[np.float32]] = {}
    with _listening({name: known[name] for name in layers}, found):
        predictor.predict_image(values, valid)
    silent = [name for name in layers if name not in found]
    if silent:
        raise PredictionError(f"{', '.join(silent)} gives no map (rows and columns). Name another layer.")
    return found


@contextmanager
def _listening(layers: dict[str, nn.Module], found: dict[str, NDArray[np.float32]]) -> Iterator[None]:
    """While it lasts, the layers leave their maps in ``found``."""
    handles = [layer.register_forward_hook(partial(_keep, found, name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep(found: dict[str, NDArray[np.float32]], name: str, layer: nn.Module, inputs: Any, answer: Any) -> None:
    tensor = answer[-1] if isinstance(answer, (list, tuple)) and answer else answer  # of several, the deepest
    if isinstance(tensor, Tensor) and tensor.ndim == 4:
        found[name] = tensor[0].detach().to(torch.float32).abs().mean(dim=0).cpu().numpy()


def _picture(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The first three bands, or the first as grey, stretched between the percentiles 2 and 98 unless they are bytes."""
    bands = values[:3] if len(values) >= 3 else np.repeat(values[:1], 3, axis=0)
    shown = bands.transpose(1, 2, 0).astype(np.float64)
    if bands.dtype != np.uint8 and valid.any():
        low, high = np.percentile(shown[valid], (2, 98), axis=0)
        shown = (shown - low) * 255 / np.maximum(high - low, 1e-12)
    picture: NDArray[np.uint8] = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
    picture[~valid] = 0
    return picture


def _over(picture: NDArray[np.uint8], found: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A map as paint over the picture, enlarged to its size."""
    import PIL.Image

    size = picture.shape[1], picture.shape[0]
    enlarged = PIL.Image.fromarray(found).resize(size, PIL.Image.Resampling.BILINEAR)
    values = np.asarray(enlarged, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    share = (values - low) / max(high - low, 1e-12)
    stops = np.linspace(0, 1, len(_RAMP))
    paint = np.stack([np.interp(share, stops, [color[band] for color in _RAMP]) for band in range(3)], axis=-1)
    grey = picture.mean(axis=-1, keepdims=True)
    painted: NDArray[np.uint8] = np.rint(_WEIGHT * paint + (1 - _WEIGHT) * grey).astype(np.uint8)
    return painted


def _save(sheet: Image, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(out)
    except OSError as cause:
        raise RunError(explain_os_error(cause, out)) from cause
