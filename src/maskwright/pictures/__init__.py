"""What people look at: relief and masks as pictures, charts, and the self-contained page."""

from __future__ import annotations

from maskwright.pictures.augmented import AugmentedSample, augmented_sheet
from maskwright.pictures.charts import agreement_chart, bars_chart, line_chart, matrix_chart
from maskwright.pictures.colors import RGB, height_colors, hex_color, series_colors
from maskwright.pictures.images import (
    contact_sheet,
    downsample,
    draw_outlines,
    legend,
    outlines,
    overlay_heights,
    overlay_mask,
    shade,
    stretched,
)
from maskwright.pictures.page import Block, code, figure, page, paragraph, sentences, table

__all__ = [
    "RGB",
    "AugmentedSample",
    "Block",
    "agreement_chart",
    "augmented_sheet",
    "bars_chart",
    "code",
    "contact_sheet",
    "downsample",
    "draw_outlines",
    "figure",
    "height_colors",
    "hex_color",
    "legend",
    "line_chart",
    "matrix_chart",
    "outlines",
    "overlay_heights",
    "overlay_mask",
    "page",
    "paragraph",
    "sentences",
    "series_colors",
    "shade",
    "stretched",
    "table",
]
