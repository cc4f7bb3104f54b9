"""Applying a trained model: arrays, rasters of any size, maps, polygons."""

from __future__ import annotations

from maskwright.prediction.map_raster import RasterResult
from maskwright.prediction.model_card import ModelCard
from maskwright.prediction.predictor import Predictor
from maskwright.prediction.vectorise import vectorise_mask

__all__ = ["ModelCard", "Predictor", "RasterResult", "vectorise_mask"]
