"""train_model and trainer_for: the everyday Trainer for a model and loaders that come from elsewhere.

The loaders yield pairs of inputs and targets, as torch's ``DataLoader`` does; the model takes the inputs alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from maskwright.config.callbacks import CallbacksConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.optim import OptimConfig
from maskwright.config.training import TrainingConfig
from maskwright.errors import ConfigError, ShapeError
from maskwright.losses import LoopLoss, LossManager, get_preset_loss_config
from maskwright.pixels import IGNORE_INDEX
from maskwright.tasks import Binary, Multiclass
from maskwright.tracking import RunFolder
from maskwright.training.callback import Callback
from maskwright.training.trainer import Trainer
from maskwright.types import Batch, Place, Window

__all__ = ["ImageOnly", "PairBatches", "Pairs", "as_batch", "train_model", "trainer_for"]

_SECTIONS: dict[str, type[Any]] = {
    "training": TrainingConfig,
    "optim": OptimConfig,
    "callbacks": CallbacksConfig,
    "checkpoints": CheckpointsConfig,
}


class Pairs(Protocol):
    """Yields (inputs, targets); its length is the number of batches."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class PairBatches:
    """Pairs of a loader as batches of a run, the same ones whenever an epoch is walked again.

    What the loader draws from torch's generator in this process (the order, and changes made by its data set where it
    has no workers) comes from a stream of its own that starts anew with each epoch, so a resumed run sees what the
    uninterrupted one would have. Workers, and generators of other libraries, are the loader's own business.

    Args:
        loader: Yields (inputs (B, C, H, W), targets), targets (B, H, W) or (B, 1, H, W), 255 where nothing counts.
        seed: Of the loader's stream.
    """

    def __init__(self, loader: Pairs, seed: int = 0) -> None:
        self.loader = loader
        self.seed = seed

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from position ``start``; those before it are read and left out."""
        if hasattr(self.loader, "epoch"):  # loaders of Maskwright say themselves which epoch comes next
            self.loader.epoch = epoch
        own = torch.Generator().manual_seed((self.seed << 20) + epoch).get_state()
        pairs: Iterator[Any] | None = None
        samples = 0
        while True:
            outer = torch.get_rng_state()
            torch.set_rng_state(own)
            try:
                pairs = iter(self.loader) if pairs is None else pairs
                pair = next(pairs, None)
                own = torch.get_rng_state()
            finally:
                torch.set_rng_state(outer)
            if pair is None:
                return
            batch = as_batch(pair, samples)
            samples += len(batch)
            if start > 0:
                start -= 1
            else:
                yield batch


def as_batch(pair: Sequence[Tensor], first: int = 0) -> Batch:
    """A pair as a batch; ``first`` is the number of its first sample.

    Raises:
        ShapeError: If it is no pair, or targets do not fit the inputs.
    """
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ShapeError(f"A batch is a {type(pair).__name__} and not a pair. Let the loader yield (inputs, targets).")
    image, target = pair
    if target.ndim == 4 and target.shape[1] == 1:
        target = target[:, 0]
    if image.ndim != 4 or target.shape != (len(image), *image.shape[-2:]):
        raise ShapeError(
            f"Inputs {tuple(image.shape)} and targets {tuple(pair[1].shape)} do not fit together: (B, C, H, W) and "
            "(B, H, W) or (B, 1, H, W) are needed."
        )
    valid = target != IGNORE_INDEX
    where = tuple(Place(f"sample {first + n}", Window(0, 0, *image.shape[-2:])) for n in range(len(image)))
    return Batch(image.float(), target.long().masked_fill(~valid, 0), valid, None, where)


class ImageOnly(nn.Module):
    """A network that takes images alone, where a run hands over heights too; its weights keep their names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Raw outputs of the network for (B, C, H, W)."""
        outputs: Tensor = self._orig_mod(image)
        return outputs


def trainer_for(
    model: nn.Module,
    config: Any,
    train_loader: Pairs,
    val_loader: Pairs | None = None,
    *,
    test_loader: Pairs | None = None,
    callbacks: Sequence[Callback] = (),
    device: str | None = None,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    loss_fn: LoopLoss | Mapping[str, Any] | str = "default_segmentation",
    classes: Sequence[str] = ("foreground",),
    run_folder: RunFolder | None = None,
    quiet: bool = False,
) -> Trainer:
    """A Trainer for a model and loaders of one's own.

    Args:
        model: Takes (B, C, H, W) and gives logits (B, K, H, W), K the number of ``classes``.
        config: Sections ``training``, ``optim``, ``callbacks`` and ``checkpoints`` by name, plain or as objects; an
                experiment, whose other sections are not looked at; or None for the defaults.
        train_loader: Yields pairs; see :class:`PairBatches`.
        val_loader: Pairs that steer the run; None: the training loss does.
        test_loader: Pairs for ``Trainer.test()``.
        callbacks: Further watchers.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None: ``training.device``.
        optimizer: Instead of that of ``optim``.
        scheduler: A schedule of that optimizer, stepped once after each update.
        loss_fn: A loss of ``maskwright.losses``, settings of ``LossManager``, or the name of a preset.
        classes: One name: targets are 0 and 1. Several: targets are ids into these names, of which one holds.
        run_folder: Where history, events and checkpoints go; None: nothing is written.
        quiet: True: nothing on the screen.

    Raises:
        ConfigError: If a setting makes no sense.
        TrainingError: If a loader is empty.
    """
    sections = _sections(config)
    if device is not None:
        sections["training"] = TrainingConfig(**(sections["training"].model_dump() | {"device": device}))
    if isinstance(loss_fn, str):
        loss_fn = get_preset_loss_config(loss_fn)
    if isinstance(loss_fn, Mapping):
        loss_fn = LossManager.create_loss_function(loss_fn)
    if not isinstance(loss_fn, LoopLoss):
        raise ConfigError(
            f"loss_fn is a {type(loss_fn).__name__}. Give a loss of maskwright.losses such as DiceLoss(), the name of "
            "a preset, or keep your own loop with TrainingManager, which takes any loss."
        )
    task = (Binary if len(classes) == 1 else Multiclass)(classes, loss_fn.loss)
    training: TrainingConfig = sections["training"]
    return Trainer(
        task,
        ImageOnly(model),
        PairBatches(train_loader, training.seed),
        None if val_loader is None else PairBatches(val_loader),
        test_loader=None if test_loader is None else PairBatches(test_loader),
        training=training,
        optim=sections["optim"],
        monitoring=sections["callbacks"],
        checkpoints=sections["checkpoints"],
        run_folder=run_folder,
        callbacks=callbacks,
        quiet=quiet,
        optimizer=optimizer,
        schedule=scheduler,
    )


def train_model(
    model: nn.Module,
    config: Any,
    train_loader: Pairs,
    val_loader: Pairs | None = None,
    **options: Any,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train a model of one's own to the end.

    Args:
        model: See :func:`trainer_for`, as the rest; changed in place.
        config: Settings.
        train_loader: Pairs to learn from.
        val_loader: Pairs that steer the run.
        options: Further arguments of :func:`trainer_for`; with ``test_loader`` the last entry of the history holds the
            scores of the best model on it.

    Returns:
        The network with the weights of its best epoch, on the CPU in evaluation mode, and the history, one entry per
        epoch.
    """
    trainer = trainer_for(model, config, train_loader, val_loader, **options)
    result = trainer.train()
    best = trainer.best_model()
    history = [dict(entry) for entry in result.history]
    if trainer.test_loader is not None:
        model.load_state_dict(best.state_dict())
        history[-1] |= trainer.test()
    return best, history


def _sections(config: Any) -> dict[str, Any]:
    """The four sections a Trainer takes."""
    found: dict[str, Any] = {}
    for name, section in _SECTIONS.items():
        given = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
        found[name] = given if isinstance(given, section) else section(**(given or {}))
    if isinstance(config, Mapping):
        unknown = sorted(set(config) - set(_SECTIONS))
        if unknown:
            raise ConfigError(f"config: unknown section {unknown[0]!r}. Available: {', '.join(_SECTIONS)}.")
    return found
