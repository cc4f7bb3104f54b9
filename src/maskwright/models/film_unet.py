"""U-Net whose decoder is told heights, so that one network answers any height."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from maskwright.errors import ModelError
from maskwright.models.film import BottleneckCondition, FilmGenerator, as_conditions, check_scale
from maskwright.models.trunk import Trunk, TrunkOptions, check_sizes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FilmUNet"]


class FilmUNet(Trunk):
    """U-Net with FiLM in every level of the decoder and at the head; the encoder runs once for all heights.

    The head's modulation lets the height move the logit of every pixel, which is most of what a height does.

    Args:
        in_channels: Channels of the image.
        film_hidden: Width of the small network that a height goes through.
        condition_scale: Heights are divided by this, so that usual ones lie in 0..1.
        condition_by: ``film``; ``bottleneck``, where the height stands beside the deepest features as further channels;
            or ``both``.
        options: Those of ``TrunkOptions``.

    Raises:
        ModelError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        film_hidden: int = 64,
        condition_scale: float = 30.0,
        condition_by: str = "film",
        **options: Unpack[TrunkOptions],
    ) -> None:
        super().__init__(in_channels, **options)
        check_sizes(film_hidden=film_hidden)
        check_scale(condition_scale)
        if condition_by not in ("film", "bottleneck", "both"):
            raise ModelError(f"model.condition_by: {condition_by!r} is unknown. Available: film, bottleneck, both.")
        self.head = self.pixel_head(1)
        self.film = self.bottleneck = None
        if condition_by != "bottleneck":
            self.film = FilmGenerator((*self.widths[-2::-1], 1), film_hidden, condition_scale)
        if condition_by != "film":
            self.bottleneck = BottleneckCondition(self.widths[-1], film_hidden, condition_scale, *self._style)
        self._initialise()

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
        features = self.encode(image)
        conditions = as_conditions(condition, image.shape[0])
        if self.bottleneck is not None:
            features[-1] = self.bottleneck(features[-1], conditions)
        if self.film is None:
            logits: Tensor = self.head(self.decoder(features))
        else:
            *levels, head = self.film(conditions)
            logits = head.apply_to(self.head(self.decoder(features, levels)))
        return logits.view(image.shape[0], -1, *logits.shape[2:])[:, :, : image.shape[2], : image.shape[3]]
