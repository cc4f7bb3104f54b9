"""Which tile stands at which position: every tile equally often, or rare things more often, no hidden state.

Each order is a pure function of (seed, epoch, position), so a run starts again anywhere and any process may ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from maskwright.errors import DataError
from maskwright.types import Place, Window

__all__ = [
    "Mode",
    "TileBalance",
    "TileOrder",
    "balance_by_foreground",
    "balance_by_share",
    "build_order",
    "class_shares",
    "compute_class_weights",
    "gap_shares",
    "rng",
]

Mode = Literal["global", "batch", "alternate"]

_ORDER, _KINDS = 1, 5  # streams of random numbers; sampling uses the others
_KEPT = 4  # rounds and epochs remembered


def rng(seed: int, epoch: int, position: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one sample: counter based, so that any of them is reached at once.

    Args:
        seed: Not negative.
        epoch: From 0.
        position: Place in the epoch, from 0.
        stream: Keeps different uses apart.
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, stream, position, epoch]))


# --- what is wanted ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TileBalance:
    """How often each of T training tiles comes: by a weight, or half by half with and without foreground.

    Attributes:
        weights: (T,) positive float64: how often a tile comes, in proportion; None for a balance by foreground.
        foreground: (T,) bool: the tile holds foreground; None for a balance by weights.
        target_share: Share of the samples whose tile holds foreground; the cap is already applied.
        mode: Where that share holds: over an epoch, in every batch, or by batches of one kind in turn.
        batch_size: Samples in a batch, for the modes that look at batches.
        notes: What a person should know, a sentence each.
    """

    weights: np.ndarray | None = None
    foreground: np.ndarray | None = None
    target_share: float = 0.5
    mode: Mode = "global"
    batch_size: int = 1
    notes: tuple[str, ...] = ()


def balance_by_share(shares: np.ndarray, *, cap: float = 5.0) -> TileBalance:
    """Tiles that hold more of what is rare come more often, up to ``cap`` times as often as the most common kind.

    The weight of a tile is the sum over classes of its share of the class by the class's share of all tiles.

    Args:
        shares: (T, C) in 0..1: share of each tile's counting pixels that belong to each class. (T, K, 2) for K
            questions with two answers each, as gap or canopy at K heights: the weights of the questions are averaged.
        cap: At least 1.
    """
    shares = np.asarray(shares, dtype=np.float64)
    questions = shares[:, None, :] if shares.ndim == 2 else shares
    mean = questions.mean(axis=0)  # (K, C)
    worth = np.divide(1.0, mean, out=np.zeros_like(mean), where=mean > 0)
    raw = (questions * worth).sum(axis=2).mean(axis=1)
    least = raw[raw > 0].min() if (raw > 0).any() else 1.0
    return TileBalance(weights=np.clip(raw / least, 1.0, cap))


def balance_by_foreground(
    foreground: np.ndarray,
    *,
    target_share: float = 0.5,
    mode: Mode = "global",
    cap: float = 5.0,
    batch_size: int = 1,
) -> TileBalance:
    """A fixed share of the samples holds foreground, unless that repeats a tile more than ``cap`` times as often.

    Args:
        foreground: (T,) bool.
        target_share: Above 0 and below 1.
        mode: ``global``, ``batch`` or ``alternate``.
        cap: How many times a tile of the rarer kind may come for one time of the other kind.
        batch_size: Samples in a batch.
    """
    foreground = np.asarray(foreground, dtype=bool)
    held, empty = int(foreground.sum()), int((~foreground).sum())
    if not held or not empty:
        kind = "without foreground" if empty else "with foreground"
        return TileBalance(weights=np.ones(len(foreground)), notes=(f"All training tiles are {kind}: no balance.",))
    most, least = cap * held / (cap * held + empty), held / (held + cap * empty)
    share = min(max(target_share, least), most)
    notes: tuple[str, ...] = ()
    if share != target_share:
        notes = (
            f"{held} of {held + empty} training tiles hold foreground: a share of {target_share:.0%} would repeat "
            f"them more than {cap:g} times, so it is {share:.1%}. Raise data.balance.cap to repeat them more often.",
        )
    return TileBalance(None, foreground, share, mode, batch_size, notes)


def class_shares(
    class_counts: Callable[[Place], np.ndarray], places: Iterable[Place], *, multilabel: bool
) -> np.ndarray:
    """(T, C) share of each tile's counting pixels that belong to each class; for labels a last column holds the rest.

    Args:
        class_counts: Place to (C,) pixels of each class id; for several labels a pixel: of each label, then in total.
        places: The tiles.
        multilabel: True if the counts are of labels.
    """
    counts = np.array([class_counts(place) for place in places], dtype=np.float64)
    if multilabel:
        shares = counts[:, :-1] / np.maximum(counts[:, -1:], 1.0)
        return np.column_stack([shares, np.clip(1.0 - shares.sum(axis=1), 0.0, 1.0)])
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0))


def gap_shares(
    label: Callable[[str, Window], tuple[np.ndarray, np.ndarray]], places: Iterable[Place], heights_m: Sequence[float]
) -> np.ndarray:
    """(T, K, 2) share of each tile's measured pixels that lie below each height, and the rest; as balance takes it.

    Args:
        label: Scene and window to heights (H, W) in metres and valid (H, W).
        places: The tiles.
        heights_m: The K heights asked, in metres.
    """
    shares = []
    for place in places:
        heights, valid = label(place.scene, place.window)
        known = np.sort(heights[valid], axis=None)
        below = np.searchsorted(known, np.asarray(heights_m, dtype=known.dtype)) / max(1, known.size)
        shares.append(np.stack([below, (1.0 - below) * bool(known.size)], axis=-1))
    return np.array(shares, dtype=np.float64).reshape(len(shares), len(heights_m), 2)


def compute_class_weights(counts: Sequence[float] | np.ndarray) -> np.ndarray:
    """Weight of each class in a loss: ``N / (C n_c)``, normalised to a mean of 1 over the classes that occur.

    Args:
        counts: (C,) pixels of each class, not negative.

    Returns:
        (C,) float64; 0 for a class that never occurs (``np.flatnonzero(weights == 0)`` names it).

    Raises:
        DataError: If a count is negative or no pixel is counted at all.
    """
    numbers = np.asarray(counts, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size or (numbers < 0).any() or not numbers.sum() > 0:
        raise DataError(
            f"Class weights need the number of pixels of each class, at least one above 0; got {numbers.tolist()}. "
            "Look at the labels of the training part."
        )
    weights = np.divide(numbers.sum() / len(numbers), numbers, out=np.zeros_like(numbers), where=numbers > 0)
    return np.asarray(weights / weights[weights > 0].mean())


# --- orders -----------------------------------------------------------------------------------------------------------


class TileOrder(Protocol):
    """Which tile stands where."""

    def tile(self, epoch: int, position: int) -> int:
        """Index of the tile at a position of an epoch, both from 0."""


def build_order(tiles: int, balance: TileBalance | None, *, seed: int, samples_per_epoch: int) -> TileOrder:
    """The order of ``tiles`` tiles; without a balance every tile once a round, in random order.

    Raises:
        DataError: If the balance is of another number of tiles.
    """
    given = None if balance is None else balance.weights if balance.weights is not None else balance.foreground
    if given is not None and len(given) != tiles:
        raise DataError(f"A balance of {len(given)} tiles was given for {tiles} training tiles; measure it again.")
    if balance is None or given is None:
        return _Rounds(tiles, None, seed, samples_per_epoch)
    if balance.weights is not None:
        return _Rounds(tiles, balance.weights, seed, samples_per_epoch)
    return _TwoKinds(balance, seed, samples_per_epoch)


class _Rounds:
    """Round after round through all epochs: each tile as often as its weight says, rounded up or down in each round."""

    def __init__(self, tiles: int, weights: np.ndarray | None, seed: int, samples_per_epoch: int) -> None:
        even = weights is None or bool(np.all(weights == weights[0]))
        self._tiles, self._seed, self._samples = tiles, seed, samples_per_epoch
        self._stops = None if weights is None or even else np.cumsum(weights) / np.sum(weights)
        self._orders: dict[int, np.ndarray] = {}

    def tile(self, epoch: int, position: int) -> int:
        return self.at(epoch * self._samples + position)

    def at(self, count: int) -> int:
        round_, place = divmod(count, self._tiles)
        order = self._orders.get(round_)
        if order is None:
            _make_room(self._orders)
            order = self._orders[round_] = self._order(round_)
        return int(order[place])

    def _order(self, round_: int) -> np.ndarray:
        generator = rng(self._seed, round_, 0, _ORDER)
        order = generator.permutation(self._tiles)
        if self._stops is None:
            return order
        # Evenly spaced marks on the line of weights: a tile gets the marks that fall on its stretch, so its number of
        # turns differs from its expectation by less than one in each round.
        marks = (np.arange(self._tiles) + generator.random()) / self._tiles
        chosen = np.minimum(np.searchsorted(self._stops, marks, side="right"), self._tiles - 1)
        return np.asarray(chosen[order])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_orders": {}}


class _TwoKinds:
    """Tiles with and without foreground, each kind in its own rounds, mixed so that the share holds."""

    def __init__(self, balance: TileBalance, seed: int, samples_per_epoch: int) -> None:
        if balance.foreground is None:
            raise DataError("A balance by foreground needs to know which tiles hold any.")
        self._balance, self._seed, self._samples = balance, seed, samples_per_epoch
        members = np.flatnonzero(~balance.foreground), np.flatnonzero(balance.foreground)
        self._members = members
        self._rounds = tuple(
            _Rounds(len(indices), None, seed + kind, samples_per_epoch) for kind, indices in enumerate(members)
        )
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def tile(self, epoch: int, position: int) -> int:
        kinds, ranks = self._epoch(epoch)
        kind = int(kinds[position])
        of_kind = int(kinds.sum()) if kind else int((~kinds).sum())  # the same number in every epoch
        return int(self._members[kind][self._rounds[kind].at(epoch * of_kind + int(ranks[position]))])

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Which kind stands at each position, and how many of the same kind stand before it."""
        if epoch not in self._epochs:
            _make_room(self._epochs)
            kinds = self._kinds(epoch)
            ranks = np.where(kinds, np.cumsum(kinds), np.cumsum(~kinds)) - 1
            self._epochs[epoch] = kinds, ranks
        return self._epochs[epoch]

    def _kinds(self, epoch: int) -> np.ndarray:
        share, size = self._balance.target_share, self._balance.batch_size
        if self._balance.mode == "alternate":
            batches = np.arange(self._samples) // size
            return np.asarray(np.floor((batches + 1) * share + 0.5) > np.floor(batches * share + 0.5))
        length = self._samples if self._balance.mode == "global" else size
        kinds = np.zeros(self._samples, dtype=bool)
        for number, first in enumerate(range(0, self._samples, length)):
            last = min(first + length, self._samples)
            held = int(np.floor(last * share + 0.5) - np.floor(first * share + 0.5))
            slots = rng(self._seed, epoch, number, _KINDS).permutation(last - first)[:held]
            kinds[first + slots] = True
        return kinds

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_epochs": {}}


def _make_room(kept: dict[int, Any]) -> None:
    while len(kept) >= _KEPT:
        kept.pop(next(iter(kept)))
