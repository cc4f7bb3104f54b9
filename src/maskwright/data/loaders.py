"""From positions to batches: in this process, or in worker processes, with the same result."""

from __future__ import annotations

import errno
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from maskwright.data.augment import augment
from maskwright.data.mixup import mixed, with_partners
from maskwright.data.sampling import Augment, Draw, TrainPlan
from maskwright.data.sources.interface import Source
from maskwright.devices import Workers, choose_workers
from maskwright.distributed import share_of, world_size
from maskwright.errors import DataError, MaskwrightError
from maskwright.pixels import IGNORE_INDEX
from maskwright.types import Batch, Place

if TYPE_CHECKING:
    from maskwright.data.instance_targets import TargetPainter

__all__ = ["Change", "EvalLoader", "TrainLoader", "explain_workers", "masks"]

Change = Callable[[Batch, Sequence[Draw]], Batch]

_Tensors = tuple[Tensor, Tensor, Tensor]
_Places = tuple[Place, ...]


class TrainLoader:
    """Batches of training samples, any epoch from any batch on.

    Args:
        source: Where pixels come from.
        plan: Which sample stands where.
        batch_size: Samples in a batch; the last batch of an epoch may be smaller.
        workers: Processes that read; 0 reads in this one; ``auto``: see :func:`~maskwright.devices.choose_workers`.
        prefetch: Batches each worker prepares ahead.
        device: Where batches are moved and augmented.
        scale_m: The metres that 1.0 in the image stands for; None if it stands for none.
        surface_bands: Bands of the image that hold the surface, to which noise, shift and terrain are added.
        change: What changes batches of images, as :class:`maskwright.data.image_augment.ImageChanger`; for images.
        drop_last: Leave out a last batch that is smaller than the others.
        painter: Gives batches their objects and the maps learned from them; for tasks of objects.

    Raises:
        DataError: If the plan adds metres to a surface and the input has none, or an epoch has no batch.
    """

    divides: ClassVar[bool] = True
    """Each process gets its share of a batch; a loader that does not say so is divided by the Trainer."""

    def __init__(
        self,
        source: Source,
        plan: TrainPlan,
        *,
        batch_size: int,
        workers: Workers = 0,
        prefetch: int = 2,
        device: torch.device | str = "cpu",
        scale_m: float | None = None,
        surface_bands: Sequence[int] = (),
        change: Change | None = None,
        drop_last: bool = False,
        painter: TargetPainter | None = None,
    ) -> None:
        self.plan = plan
        self._painter = painter
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._source = source
        self._change = change
        self._drop_last = drop_last
        self._surface = {
            "scale_m": scale_m,
            "surface_bands": tuple(surface_bands),
            "aspect_bands": getattr(source, "aspect_bands", None),
        }
        self._reader = _Reader(source, workers, prefetch, self.device)
        _check_surface(plan, scale_m, surface_bands)
        fewest = min(batch_size, len(plan))
        if fewest < world_size():
            raise DataError(
                f"data.loader.batch_size: {world_size()} processes cannot share a batch of {fewest} samples. It is the "
                "batch of all of them together: raise it, or start fewer processes."
            )
        if not len(self):
            raise DataError(
                f"data.loader.drop_last leaves no batch: an epoch has {len(plan)} samples and a batch {batch_size}. "
                "Lower data.loader.batch_size, or set drop_last: false."
            )

    @property
    def workers(self) -> int:
        """Processes that read, as chosen."""
        return self._reader.workers

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.plan), self.batch_size)
        return whole if self._drop_last or not rest else whole + 1

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (from 0), beginning with number ``start``; the same as if all had been made.

        Of several processes each gets its share of every batch; of a last batch with fewer samples than there are
        processes, some get none.
        """
        issued: deque[list[Draw]] = deque()
        is_empty: deque[bool] = deque()

        def places() -> Iterator[_Places]:
            for number in range(start, len(self)):
                first = number * self.batch_size
                last = min(first + self.batch_size, len(self.plan))
                own = share_of(last - first)  # of several processes each has its part of every batch
                positions = [first + place for place in own]
                is_empty.append(not positions)
                draws = [self.plan.draw(epoch, position) for position in positions or [first]]
                issued.append(draws)
                yield tuple(draw.place for draw in with_partners(draws))

        for tensors in self._reader.read(places):
            batch = self._finished(tensors, issued.popleft())
            yield batch.part(slice(0)) if is_empty.popleft() else batch

    def _finished(self, tensors: _Tensors, draws: list[Draw]) -> Batch:
        image, target, valid = tensors
        everyone = with_partners(draws)
        condition = (
            torch.tensor([draw.heights_m for draw in everyone], dtype=torch.float32)
            if self.plan.heights is not None
            else None
        )
        batch = Batch(image, target, valid, condition, tuple(draw.place for draw in everyone)).to(self.device)
        if isinstance(self.plan.augment, Augment):
            sizes = [self._pixel_size_m[draw.place.scene] for draw in draws]
            return augment(batch, draws, pixel_size_m=sizes, **self._surface)  # type: ignore[arg-type]
        if self._painter is not None:
            batch = self._painter.attach(batch)
        if self._change is not None:
            batch = self._change(batch, everyone)
        return mixed(batch, draws) if self._painter is None else self._painter.paint(batch)

    @cached_property
    def _pixel_size_m(self) -> dict[str, float]:
        return {scene.name: scene.grid.pixel_size_m for scene in self._source.scenes}


def _check_surface(plan: TrainPlan, scale_m: float | None, surface_bands: Sequence[int]) -> None:
    changes = plan.augment
    if not isinstance(changes, Augment):
        return
    if changes.changes_surface and (scale_m is None or not surface_bands):
        raise DataError(
            "data.augment: noise_m, shift_m and terrain_p add metres to the surface, and this input has no surface "
            "in metres. Set them to 0, or use data.input: dsm with data.normalise.kind: metres."
        )
    if changes.clearing_p > 0 and scale_m is None:
        raise DataError(
            "data.augment.clearing_p: a clearing lowers heights in metres, and this input has none. Set it to "
            "0, or use data.normalise.kind: metres."
        )


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
        painter: Gives batches their objects and the maps learned from them; for tasks of objects.
    """

    def __init__(
        self,
        source: Source,
        places: Sequence[Place],
        heights_m: Sequence[float],
        batch_size: int,
        *,
        workers: Workers = 0,
        prefetch: int = 2,
        device: torch.device | str = "cpu",
        painter: TargetPainter | None = None,
    ) -> None:
        self._painter = painter
        self.places = tuple(places)
        self.heights_m = tuple(float(height) for height in heights_m)
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._reader = _Reader(source, workers, prefetch, self.device)

    def __len__(self) -> int:
        """Batches of one walk."""
        return -(-len(self.places) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.some(range(len(self)))

    def some(self, numbers: range) -> Iterator[Batch]:
        """The batches of these numbers; others are not read."""
        size = self.batch_size
        groups = [self.places[number * size : (number + 1) * size] for number in numbers]
        heights = torch.tensor(self.heights_m, dtype=torch.float32)
        for where, (image, target, valid) in zip(groups, self._reader.read(lambda: iter(groups)), strict=True):
            condition = heights.repeat(len(where), 1) if len(heights) else None
            batch = Batch(image, target, valid, condition, where)
            if self._painter is not None:
                batch = self._painter.paint(self._painter.attach(batch))
            yield batch.to(self.device)


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

    def __init__(self, source: Source, workers: Workers, prefetch: int, device: torch.device) -> None:
        pin = device.type == "cuda"
        self.workers = choose_workers(workers, cached=getattr(source, "cached", True), on_cpu=device.type == "cpu")
        self._tiles = _Tiles(source, pin=pin and self.workers == 0)
        self._queue = _Queue()
        self._options: dict[str, Any] = {"prefetch_factor": prefetch, "pin_memory": pin}
        self._loader: DataLoader[Any] | None = None

    def read(self, places: Callable[[], Iterator[_Places]]) -> Iterator[_Tensors]:
        if self.workers == 0:
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
                num_workers=self.workers,
                persistent_workers=True,
                worker_init_fn=_start_worker,
                generator=torch.Generator(),  # else starting workers would use up numbers of the global generator
                **self._options,
            )
        try:
            yield from self._loader
        except (RuntimeError, OSError) as error:
            explained = explain_workers(error)
            if explained is None:
                raise
            raise explained from error


def explain_workers(error: BaseException) -> DataError | None:
    """What an error means that tells of a loader process; None if it is another one.

    torch raises it wherever the main process happens to be when a worker dies, so whoever walks a loader asks.
    """
    text = str(error)
    no_room = isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None
    if not no_room and not (isinstance(error, RuntimeError) and "DataLoader worker" in text):
        return None
    if no_room or any(sign in text for sign in (os.strerror(errno.ENOSPC), "shared memory", "Bus error")):
        return DataError(
            "Shared memory (/dev/shm) is full; loader processes hand over their batches in it. Give it more room (in a "
            "container: --shm-size), or lower data.loader.workers, to 0 if need be."
        )
    return DataError(
        f"A loader process ended unexpectedly ({text.strip()}). Often memory ran out: lower data.loader.workers or "
        "data.loader.batch_size."
    )


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
        self._kinds: tuple[tuple[tuple[int, ...], torch.dtype], ...] | None = None  # bands and types of a sample

    def __getitem__(self, places: _Places) -> _Tensors | MaskwrightError:
        try:
            stacks = self.stack(places)
        except MaskwrightError as error:  # raised again in the main process, without the worker's traceback in its text
            return error
        for tensor in stacks:  # here an error reaches the main process; the queue would print it and lose the batch
            tensor.share_memory_()  # type: ignore[no-untyped-call]
        return stacks

    def stack(self, places: _Places) -> _Tensors:
        """Image (B, C, H, W) float32, target (B, H, W) of the source's type, valid (B, H, W) bool."""
        into = getattr(self._source, "sample_into", None)
        if into is None or self._kinds is None:
            first = self._source.sample(places[0].scene, places[0].window)
            self._kinds = tuple((values.shape[:-2], _TORCH_TYPES[values.dtype]) for values in first)
        window = places[0].window
        stacks = tuple(
            torch.empty((len(places), *leading, window.height, window.width), dtype=kind, pin_memory=self._pin)
            for leading, kind in self._kinds
        )
        arrays = tuple(stack.numpy() for stack in stacks)
        for index, place in enumerate(places):
            if into is not None:
                into(place.scene, place.window, *(array[index] for array in arrays))
                continue
            sample = first if index == 0 else self._source.sample(place.scene, place.window)
            for array, values in zip(arrays, sample, strict=True):
                array[index] = values
        return stacks[0], stacks[1], stacks[2]


_TORCH_TYPES = {
    np.dtype(np.float32): torch.float32,
    np.dtype(np.int64): torch.int64,
    np.dtype(np.bool_): torch.bool,
}


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends its workers itself
