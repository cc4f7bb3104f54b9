"""Kinds of sources behind one interface: scenes, and windows of image, target and validity."""

from __future__ import annotations

from maskwright.data.sources.height_file import HeightFile, open_heights
from maskwright.data.sources.interface import Grid, Scene, Source
from maskwright.data.sources.rasters import HeightRasters
from maskwright.data.sources.sites import Site, find_sites

__all__ = ["Grid", "HeightFile", "HeightRasters", "Scene", "Site", "Source", "find_sites", "open_heights"]
