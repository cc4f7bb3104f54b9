"""Networks: image in, logits out."""

from __future__ import annotations

from maskwright.models.blocks import AdaptiveNorm, adapt_norms
from maskwright.models.build import ALIASES, MODELS, build_model, count_parameters, model_config, settle_norm
from maskwright.models.checkpointing import enable_gradient_checkpointing, forgets_inside, stages_of
from maskwright.models.deeplab import DeepLabV3Plus, DeepLabV3PlusFilm
from maskwright.models.droppath import DropPath, DropPathScheduler, set_drop_path
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
    "AdaptiveNorm",
    "DeepLabV3Plus",
    "DeepLabV3PlusFilm",
    "DropPath",
    "DropPathScheduler",
    "Ecosystem",
    "EcosystemFilm",
    "FilmUNet",
    "HeightCdf",
    "HeightMixture",
    "ModelFacts",
    "RegressionUNet",
    "UNet",
    "WeightReport",
    "adapt_norms",
    "as_predicting",
    "build_model",
    "count_parameters",
    "enable_gradient_checkpointing",
    "forgets_inside",
    "freeze",
    "freeze_encoder",
    "get_available_encoders",
    "learning_parts",
    "load_pretrained",
    "model_config",
    "model_facts",
    "set_drop_path",
    "settle_norm",
    "stages_of",
    "thaw",
    "unfreeze",
    "unfreeze_encoder",
]
