"""Two images blended into one, with both truths kept beside each other: masks never blend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from maskwright.types import Batch, Mixed

if TYPE_CHECKING:
    from maskwright.data.sampling import Draw

__all__ = ["mixed", "with_partners"]


def with_partners(draws: Sequence[Draw]) -> list[Draw]:
    """The samples of a batch, then the partners of those that are mixed, in order."""
    return [*draws, *(draw.mix.partner for draw in draws if draw.mix is not None)]


def mixed(batch: Batch, draws: Sequence[Draw]) -> Batch:
    """Blend every sample with its partner.

    Where only one of the two counts, the image is that one's; a sample without a partner keeps its image bit for bit
    and is its own second truth with share 1.

    Args:
        batch: Samples and partners as :func:`with_partners` lists them; its image may be reused.
        draws: Of the samples alone.

    Returns:
        The samples alone, ``mix`` filled if any was mixed; ``valid`` and ``target`` are those of the first.
    """
    count = len(draws)
    if len(batch) == count:
        return batch
    partners = iter(range(count, len(batch)))
    target, valid = batch.target[:count].clone(), batch.valid[:count].clone()
    shares = torch.ones(count, dtype=torch.float32)
    for index, draw in enumerate(draws):
        if draw.mix is None:
            continue
        second = next(partners)
        shares[index] = draw.mix.share
        both = batch.valid[index] & batch.valid[second]
        first, other = batch.image[index], batch.image[second]
        blend = torch.lerp(other, first, draw.mix.share)
        batch.image[index] = torch.where(both, blend, first)  # beyond the partner's pixels the first stays as it is
        target[index], valid[index] = torch.where(both, batch.target[second], 0), both
    return replace(
        batch,
        image=batch.image[:count],
        target=batch.target[:count],
        valid=batch.valid[:count],
        condition=None if batch.condition is None else batch.condition[:count],
        where=batch.where[:count],
        instances=None if batch.instances is None else batch.instances[:count],
        mix=Mixed(target, valid, shares.to(batch.image.device, non_blocking=True)),
    )
