"""Whether an exported file answers as the network does: on tiles of the data, or on invented ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskwright.data.normalise import BandNormaliser, MetresNormaliser
from maskwright.errors import PredictionError
from maskwright.prediction.export_formats import Answer
from maskwright.prediction.export_network import InputRule, asks_heights
from maskwright.prediction.model_card import ModelCard

__all__ = ["LEAST_AGREEMENT", "Case", "Parity", "Tiles", "compare", "make_cases"]

LEAST_AGREEMENT = 0.999
"""Share of pixels that both must call the same."""

_INVENTED_PX = 96
_MISSING = 0.02  # share of invented pixels that do not count


@dataclass(frozen=True)
class Tiles:
    """Tiles of a data set.

    Attributes:
        image: (N, C, H, W) float32, normalised as in training.
        valid: (N, H, W) bool.
    """

    image: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Case:
    """One question.

    Attributes:
        image: (B, C, H, W), the network's input.
        given: (B, C, H, W), what the file is given for it.
        condition: (B, K) heights in metres, or None.
    """

    image: Tensor
    given: Tensor
    condition: Tensor | None


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from the network.

    Attributes:
        sizes: Batch, rows and columns of each case.
        difference: Largest difference of an output.
        largest: Largest output of the network.
        agreement: Share 0..1 of pixels that both call the same; None for a task of heights.
        tolerance: Difference allowed for outputs up to 1; larger ones may differ by as much more.
        is_real: Whether the tiles come from the data of the run.
        what: What was compared: ``logits`` or ``probabilities``, or ``outputs`` of a task of heights.
    """

    sizes: tuple[tuple[int, int, int], ...]
    difference: float
    largest: float
    agreement: float | None
    tolerance: float
    is_real: bool
    what: str

    @property
    def allowed(self) -> float:
        """Largest difference that passes."""
        return self.tolerance * max(1.0, self.largest)

    @property
    def masks_agree(self) -> bool:
        """Whether enough pixels are called the same."""
        return self.agreement is None or self.agreement >= LEAST_AGREEMENT

    @property
    def passed(self) -> bool:
        """Whether outputs and masks agree; a difference that is no number never passes."""
        return self.difference <= self.allowed and self.masks_agree

    def sentence(self) -> str:
        """The result in words."""
        sizes = ", ".join(" x ".join(str(number) for number in size) for size in self.sizes)
        masks = "" if self.agreement is None else f"; masks agree on {self.agreement:.4%} of the pixels"
        origin = "the data" if self.is_real else "invented tiles"
        return (
            f"{self.what}: largest difference {self.difference:.2g} (allowed {self.allowed:.2g}){masks}; "
            f"asked on {origin}, batch x rows x columns: {sizes}"
        )


def compare(
    network: Answer,
    exported: Answer,
    cases: Sequence[Case],
    called: Callable[[Tensor, Tensor | None], Tensor] | None,
    tolerance: float,
    *,
    is_real: bool,
    what: str,
) -> Parity:
    """Ask both the same.

    Args:
        network: Answers for ``image`` of a case.
        exported: Answers for ``given`` of a case.
        cases: At least one.
        called: Outputs (B, K, H, W) and heights to a mask (B, K, H, W) bool; None if there is none.
        tolerance: See :class:`Parity`.
        is_real: See :class:`Parity`.
        what: See :class:`Parity`.

    Raises:
        PredictionError: If the exported file cannot answer, or answers in another shape.
    """
    difference = largest = 0.0
    same = pixels = 0
    for case in cases:
        expected, answer = network(case.image, case.condition), _ask(exported, case)
        if answer.shape != expected.shape:
            raise PredictionError(
                f"The exported file answers {tuple(case.given.shape)} with {tuple(answer.shape)} where the network "
                f"gives {tuple(expected.shape)}."
            )
        # numpy's maximum hands on what is no number; Python's max() might pass over it.
        difference = float(np.maximum(difference, float((answer - expected).abs().max())))
        largest = max(largest, float(expected.abs().max()))
        if called is not None:
            alike = called(answer, case.condition) == called(expected, case.condition)
            same, pixels = same + int(alike.sum()), pixels + alike.numel()
    sizes = tuple((len(case.image), *case.image.shape[2:]) for case in cases)
    agreement = None if called is None else same / pixels
    return Parity(sizes, difference, largest, agreement, tolerance, is_real, what)


def _ask(exported: Answer, case: Case) -> Tensor:
    try:
        return exported(case.given, case.condition)
    except Exception as cause:  # every runtime has classes of its own
        reason = str(cause).strip().split("\n", 1)[0]
        raise PredictionError(
            f"The exported file cannot answer an input of {tuple(case.given.shape)}: {reason}"
        ) from cause


def make_cases(
    card: ModelCard,
    rule: InputRule,
    heights_m: Sequence[float],
    tiles: Tiles | None,
    *,
    fixed_px: int | None = None,
    least_px: int = 1,
    fixes_heights: bool = False,
) -> list[Case]:
    """Odd sizes, one and three images at a time, one height and several, a size that needs no padding.

    Args:
        card: The model.
        rule: What the file is given.
        heights_m: Heights in metres, where the network is asked for some.
        tiles: Of the data; None: invented.
        fixed_px: Side of the only image the file takes.
        least_px: Smallest side it takes.
        fixes_heights: True if it takes these heights in this number only.
    """
    side = min(card.tile_px, _INVENTED_PX) if tiles is None else min(tiles.image.shape[2:])
    whole = max(side, least_px)
    half, most = max(_odd(side // 2), least_px | 1), max(_odd(whole), least_px | 1)
    sizes = [(1, most, half), (3, half, most + 2), (1, whole, whole)]
    if fixed_px is not None:
        sizes = [(1, fixed_px, fixed_px), (3, fixed_px, fixed_px)]
    elif least_px == 1:
        sizes.append((1, 5, 7))
    own = tuple(heights_m)
    questions = [own, own[:1], (*own, 1.5 * own[-1]), own] if own and not fixes_heights else [own] * len(sizes)
    return [
        _case(card, rule, tiles, size, questions[number] if asks_heights(card) else (), number)
        for number, size in enumerate(sizes)
    ]


def _case(
    card: ModelCard,
    rule: InputRule,
    tiles: Tiles | None,
    size: tuple[int, int, int],
    heights_m: tuple[float, ...],
    seed: int,
) -> Case:
    if tiles is None:
        image, given = _invented(card, rule, size, seed)
    else:
        image, valid = _cut(tiles, size)
        given = torch.from_numpy(rule.given(image.numpy()))
        if rule.values == "raw":
            given = given.masked_fill(~valid[:, None], torch.nan)
    condition = torch.tensor([heights_m] * size[0]) if heights_m else None
    return Case(image.contiguous(), given.contiguous(), condition)


def _cut(tiles: Tiles, size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """So many tiles of so many pixels; repeated where there are too few."""
    axes = zip(size, tiles.valid.shape, strict=True)
    first, rows, cols = (torch.arange(wanted) % available for wanted, available in axes)
    image = tiles.image[first][:, :, rows][:, :, :, cols]
    return image, tiles.valid[first][:, rows][:, :, cols]


def _invented(card: ModelCard, rule: InputRule, size: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Input of noise, and what the file is given for it; normalised by the very code of the training."""
    rng = np.random.Generator(np.random.Philox(key=7, counter=[0, 0, 0, seed]))
    shape = (size[0], card.in_channels, *size[1:])
    noise = rng.standard_normal(shape, dtype=np.float32)
    valid = rng.random((size[0], *size[1:])) >= _MISSING
    if rule.values == "normalised":
        image = np.where(valid[:, None], noise, np.float32(0))
        return torch.from_numpy(image), torch.from_numpy(image)
    by_band = [np.asarray(numbers, np.float32)[:, None, None] for numbers in (rule.scale, rule.shift)]
    raw = noise * by_band[0] + by_band[1]  # some of it beyond what is cut
    if rule.values == "unit":
        raw, valid = np.clip(raw.round(), 0, 255), np.ones_like(valid)
    image = np.stack([_normalised(card, scene, counts) for scene, counts in zip(raw, valid, strict=True)])
    given = np.where(valid[:, None], raw, np.float32(np.nan)) / np.float32(255 if rule.values == "unit" else 1)
    return torch.from_numpy(image), torch.from_numpy(np.asarray(given, np.float32))


def _normalised(card: ModelCard, raw: np.ndarray, valid: np.ndarray) -> np.ndarray:
    if isinstance(card.normaliser, BandNormaliser):
        return card.normaliser.normalise(raw, valid)
    assert isinstance(card.normaliser, MetresNormaliser)  # no other has a rule
    return np.stack([card.normaliser.normalise(plane, valid, 0.0) for plane in raw])


def _odd(number: int) -> int:
    return max(1, number - 1 + number % 2)
