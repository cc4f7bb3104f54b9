"""What those who cut tiles themselves have in common: how often a picture is drawn from, and whole-picture answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from accuracy.ground import Sample

__all__ = ["draws", "scaled", "whole_picture"]


def draws(samples: list[Sample], tile_px: int) -> list[int]:
    """Indices of pictures for an epoch: each as often as tiles cover it, as if it had been cut into tiles before."""
    return [
        index
        for index, sample in enumerate(samples)
        for _ in range(-(-sample.image.shape[0] // tile_px) * -(-sample.image.shape[1] // tile_px))
    ]


def scaled(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Bytes to 0..1; metres to zero mean and unit deviation of the raster, as elevations mean nothing by themselves."""
    if image.dtype == np.uint8:
        return image.astype(np.float32) / 255
    return ((image - image.mean()) / image.std()).astype(np.float32)


def whole_picture(model: torch.nn.Module, image: torch.Tensor, multiple: int = 32) -> torch.Tensor:
    """Logits (outputs, rows, columns) of a whole picture (bands, rows, columns), padded to a multiple by reflection."""
    import torch
    from torch.nn import functional as F

    rows, columns = image.shape[-2:]
    pads = (0, -columns % multiple, 0, -rows % multiple)
    model.eval()
    with torch.inference_mode():
        logits: torch.Tensor = model(F.pad(image[None], pads, mode="reflect"))[0]
    return logits[..., :rows, :columns]
