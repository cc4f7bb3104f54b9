"""Kinds of sources behind one interface: scenes, and windows of image, target and validity."""

from __future__ import annotations

from maskwright.data.sources.classes import ClassTable, Form
from maskwright.data.sources.height_file import HeightFile, open_heights
from maskwright.data.sources.image_file import DecodedImage, ImageFormat, ImageReader, open_image, read_image
from maskwright.data.sources.images import ImageItem, ImageScenes
from maskwright.data.sources.interface import Grid, Scene, Source
from maskwright.data.sources.label import Label, LabelSet
from maskwright.data.sources.rasters import HeightRasters
from maskwright.data.sources.sites import Site, find_sites

__all__ = [
    "ClassTable",
    "DecodedImage",
    "Form",
    "Grid",
    "HeightFile",
    "HeightRasters",
    "ImageFormat",
    "ImageItem",
    "ImageReader",
    "ImageScenes",
    "Label",
    "LabelSet",
    "Scene",
    "Site",
    "Source",
    "find_sites",
    "open_heights",
    "open_image",
    "read_image",
]
