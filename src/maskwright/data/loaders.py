"""From positions to batches: in this process, or in worker processes, with the same result."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from maskwright.data.augment import augment
from maskwright.data.sampling import Draw, TrainPlan
from maskwright.data.sources.interface import Source
from maskwright.errors import DataError, MaskwrightError
from maskwright.pixels import IGNORE_INDEX
from maskwright.types import Batch, Place

__all__ = ["EvalLoader", "TrainLoader", "masks"]

_Tensors = tuple[Tensor, Tensor, Tensor]
_Places = tuple[Place, ...]


class TrainLoader:
    """Batches of training samples, any epoch from any batch on.

    Args:
        source: Where pixels come from.
        plan: Which sample stands where.
        batch_size: Samples in a batch; the last batch of an epoch may be smaller.
        workers: Processes that read; 0 reads in this one.
        prefetch: Batches each worker prepares ahead.
        device: Where batches are moved and augmented.
        scale_m: The metres that 1.0 in the image stands for; None if it stands for none.
        surface_bands: Bands of the image that hold the surface, to which noise, shift and terrain are added.

    Raises:
        DataError: If the plan adds metres to a surface and the input has none.
    """

    def __init__(
        self,
        source: Source,
        plan: TrainPlan,
        *,
        batch_size: int,
        workers: int = 0,
        prefetch: int = 2,
        device: torch.device | str = "cpu",
        scale_m: float | None = None,
        surface_bands: Sequence[int] = (),
    ) -> None:
        self.plan = plan
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._surface = {"scale_m": scale_m, "surface_bands": tuple(surface_bands)}
        self._pixel_size_m = {scene.name: scene.grid.pixel_size_m for scene in source.scenes}
        self._reader = _Reader(source, workers, prefetch, pin=self.device.type == "cuda")
        changes = plan.augment is not None and plan.augment.changes_surface
        if changes and (scale_m is None or not surface_bands):
            raise DataError(
                "data.augment: noise_m, shift_m and terrain_p add metres to the surface, and this input has no surface "
                "in metres. Set them to 0, or use data.input: dsm with data.normalise.kind: metres."
            )
        if plan.augment is not None and plan.augment.clearing_p > 0 and scale_m is None:
            raise DataError(
                "data.augment.clearing_p: a clearing lowers heights in metres, and this input has none. Set it to "
                "0, or use data.normalise.kind: metres."
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.plan) // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (from 0), beginning with number ``start``; the same as if all had been made."""
        issued: deque[list[Draw]] = deque()

        def places() -> Iterator[_Places]:
            for number in range(start, len(self)):
                first = number * self.batch_size
                last = min(first + self.batch_size, len(self.plan))
                draws = [self.plan.draw(epoch, position) for position in range(first, last)]
                issued.append(draws)
                yield tuple(draw.place for draw in draws)

        for tensors in self._reader.read(places):
            yield self._finished(tensors, issued.popleft())

    def _finished(self, tensors: _Tensors, draws: list[Draw]) -> Batch:
        image, target, valid = tensors
        condition = torch.tensor([draw.heights_m for draw in draws], dtype=torch.float32)
        batch = Batch(image, target, valid, condition, tuple(draw.place for draw in draws)).to(self.device)
        if self.plan.augment is None:
            return batch
        sizes = [self._pixel_size_m[draw.place.scene] for draw in draws]
        return augment(batch, draws, pixel_size_m=sizes, **self._surface)  # type: ignore[arg-type]


class EvalLoader:
    """Batches of fixed tiles in fixed order, unchanged, each asked all heights. May be walked through again and again.

    Args:
        source: Where pixels come from.
        places: The tiles, all of one size.
        heights_m: The K heights asked of each tile, in metres; empty for none.
        batch_size: Tiles in a batch; the last may be smaller.
        workers: Processes that read; 0 reads in this one.
        prefetch: Batches each worker prepares ahead.
        device: Where batches are moved.
    """

    def __init__(
        self,
        source: Source,
        places: Sequence[Place],
        heights_m: Sequence[float],
        batch_size: int,
        *,
        workers: int = 0,
        prefetch: int = 2,
        device: torch.device | str = "cpu",
    ) -> None:
        self.places = tuple(places)
        self.heights_m = tuple(float(height) for height in heights_m)
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._reader = _Reader(source, workers, prefetch, pin=self.device.type == "cuda")

    def __len__(self) -> int:
        """Batches of one walk."""
        return -(-len(self.places) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        groups = [self.places[first : first + self.batch_size] for first in range(0, len(self.places), self.batch_size)]
        heights = torch.tensor(self.heights_m, dtype=torch.float32)
        for where, (image, target, valid) in zip(groups, self._reader.read(lambda: iter(groups)), strict=True):
            condition = heights.repeat(len(where), 1) if len(heights) else None
            yield Batch(image, target, valid, condition, where).to(self.device)


def masks(
    batches: Iterable[Batch], form: Literal["tuple", "dict"] = "tuple"
) -> Iterator[tuple[Tensor, Tensor, Tensor] | dict[str, Tensor]]:
    """Batches for training loops other than ours: gap masks at the asked heights instead of heights in metres.

    Args:
        batches: From :meth:`TrainLoader.batches` or an :class:`EvalLoader`.
        form: ``tuple`` yields ``(image, mask, condition)``; ``dict`` the same under these names.

    Yields:
        image (B, C, H, W) float32; mask (B, K, H, W) uint8, 1 where the canopy is lower than the height, else 0, and
        255 where not measured; condition (B, K) float32 metres.

    Raises:
        DataError: If ``form`` is another word, or the batches ask no heights.
    """
    if form not in ("tuple", "dict"):
        raise DataError(f"form: {form!r} is not known. Known: tuple, dict.")
    for batch in batches:
        if batch.condition is None:
            raise DataError("These batches ask no heights, so there is no mask to make. Give the loader heights_m.")
        gap = batch.target[:, None] < batch.condition[:, :, None, None]
        mask = torch.where(batch.valid[:, None], gap.to(torch.uint8), IGNORE_INDEX)
        parts = (batch.image, mask, batch.condition)
        yield parts if form == "tuple" else dict(zip(("image", "mask", "condition"), parts, strict=True))


# --- reading ----------------------------------------------------------------------------------------------------------


class _Reader:
    """Places to stacked tensors, in order."""

    def __init__(self, source: Source, workers: int, prefetch: int, *, pin: bool) -> None:
        self._tiles = _Tiles(source, pin=pin and workers == 0)
        self._queue = _Queue()
        self._workers = workers
        self._options: dict[str, Any] = {"prefetch_factor": prefetch, "pin_memory": pin}
        self._loader: DataLoader[Any] | None = None

    def read(self, places: Callable[[], Iterator[_Places]]) -> Iterator[_Tensors]:
        if self._workers == 0:
            for group in places():
                yield self._tiles.stack(group)
            return
        self._queue.source = places
        for result in self._from_workers():
            if isinstance(result, MaskwrightError):
                raise result
            yield result[0], result[1], result[2]

    def _from_workers(self) -> Iterator[Any]:
        if self._loader is None:
            self._loader = DataLoader(
                self._tiles,
                batch_size=None,  # a place group is a whole batch already
                sampler=self._queue,
                num_workers=self._workers,
                persistent_workers=True,
                worker_init_fn=_start_worker,
                generator=torch.Generator(),  # else starting workers would use up numbers of the global generator
                **self._options,
            )
        try:
            yield from self._loader
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"A loader process ended unexpectedly ({error}). Often memory ran out: lower data.loader.workers or "
                "data.loader.batch_size."
            ) from error


class _Queue(Sampler[_Places]):
    """Hands the workers whatever groups of places are to be read in this walk."""

    def __init__(self) -> None:
        self.source: Callable[[], Iterator[_Places]] = lambda: iter(())

    def __iter__(self) -> Iterator[_Places]:
        return self.source()


class _Tiles(Dataset[Any]):
    """Groups of places to stacked tensors; runs in the workers."""

    def __init__(self, source: Source, *, pin: bool) -> None:
        self._source = source
        self._pin = pin

    def __getitem__(self, places: _Places) -> _Tensors | MaskwrightError:
        try:
            return self.stack(places)
        except MaskwrightError as error:  # raised again in the main process, without the worker's traceback in its text
            return error

    def stack(self, places: _Places) -> _Tensors:
        """Image (B, C, H, W) float32, target (B, H, W) float32 metres, valid (B, H, W) bool."""
        size = (len(places), places[0].window.height, places[0].window.width)
        image = torch.empty((size[0], self._source.in_channels, *size[1:]), dtype=torch.float32, pin_memory=self._pin)
        target = torch.empty(size, dtype=torch.float32, pin_memory=self._pin)
        valid = torch.empty(size, dtype=torch.bool, pin_memory=self._pin)
        stacks = image.numpy(), target.numpy(), valid.numpy()
        for index, place in enumerate(places):
            for stack, values in zip(stacks, self._source.sample(place.scene, place.window), strict=True):
                stack[index] = values
        return image, target, valid


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends its workers itself
