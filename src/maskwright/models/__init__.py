"""Networks: image in, logits out."""

from __future__ import annotations

from maskwright.models.build import ALIASES, MODELS, build_model, count_parameters, model_config, settle_norm
from maskwright.models.checkpointing import enable_gradient_checkpointing
from maskwright.models.deeplab import DeepLabV3Plus, DeepLabV3PlusFilm
from maskwright.models.ecosystem import Ecosystem, EcosystemFilm, get_available_encoders
from maskwright.models.film_unet import FilmUNet
from maskwright.models.freeze import freeze, freeze_encoder, learning_parts, thaw, unfreeze, unfreeze_encoder
from maskwright.models.height_cdf import HeightCdf, HeightMixture, as_predicting
from maskwright.models.regression_unet import RegressionUNet
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
    "HeightMixture",
    "ModelFacts",
    "RegressionUNet",
    "UNet",
    "WeightReport",
    "as_predicting",
    "build_model",
    "count_parameters",
    "enable_gradient_checkpointing",
    "freeze",
    "freeze_encoder",
    "get_available_encoders",
    "learning_parts",
    "load_pretrained",
    "model_config",
    "model_facts",
    "settle_norm",
    "thaw",
    "unfreeze",
    "unfreeze_encoder",
]
