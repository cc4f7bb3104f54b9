"""Networks: image in, logits out."""

from __future__ import annotations

from maskwright.models.build import MODELS, build_model, count_parameters, settle_norm
from maskwright.models.film_unet import FilmUNet
from maskwright.models.unet import UNet

__all__ = ["MODELS", "FilmUNet", "UNet", "build_model", "count_parameters", "settle_norm"]
