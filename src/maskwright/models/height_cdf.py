"""All heights from one pass: a distribution of canopy height for each pixel, of which a gap mask is one value.

A mixture of logistic distributions is predicted; the chance that the canopy is lower than t cannot fall as t rises.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Unpack

import torch
import torch.nn.functional as F
from torch import nn

from maskwright.errors import ModelError, ShapeError
from maskwright.models.film import as_conditions, check_scale
from maskwright.models.trunk import Trunk, TrunkOptions, check_sizes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HeightCdf", "HeightMixture", "as_predicting"]

_LEAST_SPREAD_M = 0.25  # narrower than the error of any height raster
_FIRST_SPREAD = 1 / 6  # of the scale: 5 m where heights are divided by 30 m
_FARTHEST = 80.0  # spreads from a centre; beyond, float32 has no probability left to tell apart
_HALVINGS = 30  # of the interval a quantile lies in: finer than float32


def as_predicting(model: nn.Module) -> nn.Module:
    """The same network, giving logits also where its training needed whole distributions."""
    for module in model.modules():
        if isinstance(module, HeightCdf):
            module.gives_mixture = False
    return model


class HeightMixture:
    """The distribution of canopy height of every pixel, a mixture of M logistic ones.

    Args:
        centre_m: (B, M, H, W) metres.
        spread_m: (B, M, H, W) metres, above 0.
        weight: (B, M, H, W) in 0..1, summing to 1 over M.
    """

    def __init__(self, centre_m: Tensor, spread_m: Tensor, weight: Tensor) -> None:
        self.centre_m = centre_m
        self.spread_m = spread_m
        self.weight = weight

    def logits_below(self, heights_m: Tensor) -> Tensor:
        """Logits that the canopy is lower than heights; at a larger height never smaller, to the last bit.

        Args:
            heights_m: (B, K) metres, in any order.

        Returns:
            (B, K, H, W).
        """
        if torch.compiler.is_exporting():  # a graph for any number of heights: rising but for the rounding
            return self._logits(heights_m.to(self.centre_m.dtype)[:, :, None, None])
        heights_m, order = heights_m.to(self.centre_m.dtype).sort(dim=1)
        rising = self._logits(heights_m[:, :, None, None])
        if heights_m.shape[1] == 1:
            return rising
        # Rounding may lift a height above the next by the last bit of a number; a running maximum takes that away.
        channels = [rising[:, 0]]
        for channel in rising.unbind(1)[1:]:
            channels.append(torch.maximum(channels[-1], channel))
        rising = torch.stack(channels, dim=1)
        samples = torch.arange(len(order), device=order.device)[:, None]
        return rising[samples, order.argsort(dim=1)]

    def quantile_m(self, share: float) -> Tensor:
        """The height in metres, (B, H, W), below which the canopy lies with a chance of ``share``, above 0, below 1."""
        if not 0 < share < 1:
            raise ModelError(f"quantile: {share:g} must lie above 0 and below 1; 0.5 is the median.")
        level = math.log(share / (1 - share))
        of_each = self.centre_m + self.spread_m * level  # the mixture's lies between the outermost of its parts
        low, high = of_each.amin(dim=1, keepdim=True), of_each.amax(dim=1, keepdim=True)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            is_above = self._logits(middle) > level
            low, high = torch.where(is_above, low, middle), torch.where(is_above, middle, high)
        return ((low + high) / 2).squeeze(1)

    def log_density(self, heights_m: Tensor) -> Tensor:
        """Natural logarithm of the density, per metre, at one height for each pixel.

        Args:
            heights_m: (B, H, W) metres.

        Returns:
            (B, H, W); finite at any height. Summed over pixels it is the log-likelihood of a canopy height model.
        """
        distance = ((heights_m.to(self.centre_m.dtype)[:, None] - self.centre_m) / self.spread_m).abs()
        of_each = -distance - 2 * F.softplus(-distance) - self.spread_m.log()
        shares = self.weight.clamp_min(torch.finfo(self.weight.dtype).tiny).log()
        return torch.logsumexp(shares + of_each, dim=1)

    def packed(self) -> Tensor:
        """(B, 3 M, H, W): centres, spreads and weights in one tensor, as networks hand results on."""
        return torch.cat([self.centre_m, self.spread_m, self.weight], dim=1)

    @classmethod
    def unpacked(cls, packed: Tensor) -> HeightMixture:
        """The inverse of :meth:`packed`.

        Raises:
            ShapeError: If the channels are not three for each component.
        """
        if packed.ndim != 4 or packed.shape[1] % 3 or not packed.shape[1]:
            raise ShapeError(f"A packed distribution of shape {tuple(packed.shape)} is not (B, 3 M, H, W).")
        centre, spread, weight = packed.chunk(3, dim=1)
        return cls(centre, spread, weight)

    def _logits(self, heights_m: Tensor) -> Tensor:
        """Logits (B, K, H, W) at heights (B, K, H or 1, W or 1).

        Both chances are summed, since one minus a chance close to 1 would lose all of its digits.
        """
        below = above = heights_m.new_zeros(())
        parts = (self.centre_m, self.spread_m, self.weight)
        for centre, spread, weight in zip(*(part.chunk(part.shape[1], dim=1) for part in parts), strict=True):
            distance = ((heights_m - centre) / spread).clamp(-_FARTHEST, _FARTHEST)
            below = below + weight * torch.sigmoid(distance)
            above = above + weight * torch.sigmoid(-distance)
        return below.log() - above.log()


class HeightCdf(Trunk):
    """U-Net whose output is a distribution of canopy height; any number of heights is read off it in one pass.

    Args:
        in_channels: Channels of the image.
        components: Logistic distributions in the mixture, 1 or more.
        condition_scale: Metres that count as 1 inside; usual heights lie in 0..1.
        options: Those of ``TrunkOptions``.

    Attributes:
        gives_mixture: False as built. True makes ``forward`` give the whole distribution as ``HeightMixture.packed``
            does, whatever the condition: what a likelihood is trained on. Nothing that is saved.

    Raises:
        ModelError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        components: int = 3,
        condition_scale: float = 30.0,
        **options: Unpack[TrunkOptions],
    ) -> None:
        super().__init__(in_channels, **options)
        check_sizes(components=components)
        check_scale(condition_scale)
        self.scale_m = float(condition_scale)
        self.gives_mixture = False
        self.head = self.pixel_head(3 * components)
        self._initialise()
        self._start_spread_out(components)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits that the canopy is lower than each height.

        Args:
            image: (B, C, H, W), any H and W.
            condition: Heights in metres, (B,), (B, 1) or (B, K).

        Returns:
            (B, K, H, W): channel k answers ``condition[:, k]``; at a larger height never smaller. With
            ``gives_mixture``: (B, 3 M, H, W), see ``HeightMixture.unpacked``.

        Raises:
            ShapeError: If the image has other channels, or the condition not one row for each image.
            ModelError: If no condition is given.
        """
        if self.gives_mixture:
            return self.distribution(image).packed()
        heights_m = as_conditions(condition, image.shape[0])
        return self.distribution(image).logits_below(heights_m)

    def distribution(self, image: Tensor) -> HeightMixture:
        """The distribution of canopy height of every pixel of an image (B, C, H, W)."""
        raw = self.head(self.decoder(self.encode(image)))[:, :, : image.shape[2], : image.shape[3]]
        raw = raw.to(
            torch.promote_types(raw.dtype, torch.float32)
        )  # half precision has too few digits for what follows
        centre, spread, weight = raw.chunk(3, dim=1)
        return HeightMixture(
            centre_m=self.scale_m * centre,
            spread_m=_LEAST_SPREAD_M + self.scale_m * F.softplus(spread),
            weight=weight.softmax(dim=1),
        )

    def median(self, image: Tensor) -> Tensor:
        """The median canopy height in metres, (B, H, W), of an image (B, C, H, W); 0 or more."""
        with torch.no_grad():
            return self.distribution(image).quantile_m(0.5).clamp_min(0)

    def _start_spread_out(self, components: int) -> None:
        """At first every pixel has the same wide distribution, its parts spread evenly over the usual heights."""
        weight, bias = self.head.parameters()
        with torch.no_grad():
            weight.mul_(0.1)
            centre, spread, share = bias.chunk(3)
            even = (torch.arange(components, dtype=centre.dtype, device=centre.device) + 0.5) / components
            centre.copy_(even.repeat_interleave(self.shrink**2))  # the pixels of a block one behind another
            spread.fill_(math.log(math.expm1(_FIRST_SPREAD)))
            share.zero_()
