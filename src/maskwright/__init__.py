"""Maskwright trains image-segmentation models people can trust, and puts them to work."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
