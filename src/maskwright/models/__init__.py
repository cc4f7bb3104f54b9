"""Networks: image in, logits out."""

from __future__ import annotations

from maskwright.models.build import ALIASES, MODELS, build_model, count_parameters, model_config, settle_norm
from maskwright.models.deeplab import DeepLabV3Plus, DeepLabV3PlusFilm
from maskwright.models.ecosystem import Ecosystem, EcosystemFilm, get_available_encoders
from maskwright.models.film_unet import FilmUNet
from maskwright.models.freeze import freeze, parameter_groups, unfreeze
from maskwright.models.height_cdf import HeightCdf
from maskwright.models.summary import ModelFacts, model_facts
from maskwright.models.unet import UNet
from maskwright.models.weights import WeightReport, load_pretrained

__all__ = [
    "ALIASES",
    "MODELS",
    "DeepLabV3Plus",
    "DeepLabV3PlusFilm",
    "Ecosystem",
    "EcosystemFilm",
    "FilmUNet",
    "HeightCdf",
    "ModelFacts",
    "UNet",
    "WeightReport",
    "build_model",
    "count_parameters",
    "freeze",
    "get_available_encoders",
    "load_pretrained",
    "model_config",
    "model_facts",
    "parameter_groups",
    "settle_norm",
    "unfreeze",
]
