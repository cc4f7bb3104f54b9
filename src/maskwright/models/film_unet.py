"""U-Net whose decoder is modulated by heights, so that one network answers any height."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from maskwright.errors import ModelError
from maskwright.models.blocks import initialise, pad_to_multiple
from maskwright.models.film import FilmGenerator, as_conditions
from maskwright.models.unet import Decoder, Encoder, check_image, check_sizes, level_widths, receptive_halo_px

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FilmUNet"]


class FilmUNet(nn.Module):
    """U-Net with FiLM in every level of the decoder and at the head; the encoder runs once for all heights.

    The head's modulation lets the height move the logit of every pixel, which is most of what a height does.

    Args:
        in_channels: Channels of the image.
        base_channels: Channels of the first level; doubled at each level below.
        depth: Times the image is halved, 1 or more.
        norm: ``batch``, ``group`` or ``instance``.
        activation: ``relu``, ``leaky_relu``, ``gelu``, ``silu`` or ``mish``.
        dropout: Share of channels dropped at the bottleneck in training, in 0..1.
        upsampling: ``bilinear`` or ``transpose``.
        init: ``kaiming``, ``xavier``, ``orthogonal`` or ``default``.
        film_hidden: Width of the small network that turns a height into modulation.
        condition_scale: Heights are divided by this, so that usual ones lie in 0..1.

    Attributes:
        receptive_field_px: As of ``UNet``.

    Raises:
        ModelError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        base_channels: int = 32,
        depth: int = 4,
        norm: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        upsampling: str = "bilinear",
        init: str = "kaiming",
        film_hidden: int = 64,
        condition_scale: float = 30.0,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, base_channels=base_channels, depth=depth, film_hidden=film_hidden)
        if condition_scale <= 0:
            raise ModelError(f"condition_scale: {condition_scale:g} must be larger than 0; heights are divided by it.")
        widths = level_widths(base_channels, depth)
        self.in_channels = in_channels
        self.multiple = 2**depth
        self.receptive_field_px = receptive_halo_px(depth, upsampling) if norm == "batch" else None
        self.encoder = Encoder(in_channels, widths, norm, activation, dropout)
        self.decoder = Decoder(widths, norm, activation, upsampling)
        self.head = nn.Conv2d(widths[0], 1, kernel_size=1)
        self.film = FilmGenerator((*widths[-2::-1], 1), film_hidden, condition_scale)
        initialise(self, init, activation)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits at each height.

        Args:
            image: (B, C, H, W), any H and W.
            condition: Heights in metres, (B,), (B, 1) or (B, K).

        Returns:
            (B, K, H, W): channel k answers ``condition[:, k]``.

        Raises:
            ShapeError: If the image has other channels, or the condition not one row for each image.
            ModelError: If no condition is given.
        """
        check_image(image, self.in_channels)
        if condition is None:
            raise ModelError("film_unet needs heights in metres as condition, (batch,) or (batch, K); none was given.")
        *levels, head = self.film(as_conditions(condition, image.shape[0]))
        height, width = image.shape[2:]
        features = self.decoder(self.encoder(pad_to_multiple(image, self.multiple)), levels)
        logits: Tensor = head.apply_to(self.head(features))
        return logits.view(image.shape[0], -1, *logits.shape[2:])[:, :, :height, :width]
