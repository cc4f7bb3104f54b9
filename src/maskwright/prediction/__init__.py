"""Applying a trained model: arrays, photographs, rasters of any size, maps, polygons."""

from __future__ import annotations

from maskwright.prediction.endings import output_endings
from maskwright.prediction.model_card import ModelCard
from maskwright.prediction.outputs import RasterResult
from maskwright.prediction.predictor import Predictor
from maskwright.prediction.vectorise import vectorise_mask

__all__ = ["ModelCard", "Predictor", "RasterResult", "output_endings", "vectorise_mask"]
