"""Weights from a file into a network: all of them, or those that fit with a report of what did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maskwright.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WeightReport", "adapt_bands", "load_pretrained"]

_WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which training programs keep the weights
_PORTABLE = "model.safetensors"
_CHECKPOINT = "maskwright checkpoint"
_SHOWN = 3


@dataclass(frozen=True)
class WeightReport:
    """What a file had for a network.

    Attributes:
        matched: Names of weights taken from the file.
        adapted: Those among them that were made to fit another number of bands.
        missing: Names the network has and the file has not.
        unexpected: Names the file has and the network has not.
        mismatched: Names both have in different shapes.
    """

    matched: tuple[str, ...]
    adapted: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True if every weight of the network came from the file, and the file holds no other."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        faults = {"missing": self.missing, "not known": self.unexpected, "of another shape": self.mismatched}
        parts = [f"{len(names)} {what} ({_some(names)})" for what, names in faults.items() if names]
        return ", ".join([f"{len(self.matched)} weights match", *parts])


def load_pretrained(
    network: nn.Module, path: str | Path | None, *, prefix: str = "", partial: bool = False
) -> WeightReport:
    """Take weights from a file; a first layer made for three bands is adapted to the network's.

    Args:
        network: What receives them.
        path: A ``.safetensors`` file, a checkpoint of a run (its averaged weights, if it has any), or a file of torch
            that holds weights alone, bare or under ``state_dict``; or the folder of a model or a run, for its
            ``model.safetensors``. None leaves the network as it is; all its weights are then reported as missing.
        prefix: Taken off the names in the file where any has it; the others are then left out. ``"encoder."`` takes
            the encoder out of a whole network.
        partial: True to take what fits; False to take nothing unless all fits.

    Raises:
        ModelError: If the file cannot be read, nothing in it fits, or something does not and ``partial`` is False.
    """
    if path is None:
        return WeightReport((), (), missing=tuple(network.state_dict()), unexpected=(), mismatched=())
    path = _file_of(Path(path))
    found = _read(path)
    if prefix and any(name.startswith(prefix) for name in found):
        found = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    own = network.state_dict()
    fitting: dict[str, Tensor] = {}
    adapted = []
    for name in own.keys() & found.keys():
        value = found[name]
        if _differs_in_bands(own[name], value):
            value = adapt_bands(value, own[name].shape[1])
            adapted.append(name)
        if value.shape == own[name].shape:
            fitting[name] = value
    report = WeightReport(
        matched=tuple(name for name in own if name in fitting),
        adapted=tuple(sorted(adapted)),
        missing=tuple(name for name in own if name not in found),
        unexpected=tuple(name for name in found if name not in own),
        mismatched=tuple(name for name in own if name in found and name not in fitting),
    )
    if not report.matched or not (partial or report.complete):
        raise ModelError(
            f"{path} does not fit the network: {report}. Give weights of this very network, or set partial_weights "
            "to take those that fit."
        )
    network.load_state_dict(fitting, strict=False)
    return report


def adapt_bands(weight: Tensor, bands: int) -> Tensor:
    """A first layer for another number of bands, which answers to an image of equal bands as it did before.

    Args:
        weight: (outputs, old bands, rows, columns).
        bands: 1 or more. The old ones are repeated in turn; to one band they are added.

    Returns:
        (outputs, bands, rows, columns).
    """
    old = weight.shape[1]
    if bands == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight[:, torch.arange(bands) % old] * (old / bands)


def _differs_in_bands(own: Tensor, found: Tensor) -> bool:
    return (
        own.ndim == found.ndim == 4
        and found.shape[1] == 3
        and own.shape[1] != 3
        and own.shape[0] == found.shape[0]
        and own.shape[2:] == found.shape[2:]
    )


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    candidates = [path / _PORTABLE, path / "model" / _PORTABLE]
    for file in candidates:
        if file.is_file():
            return file
    raise ModelError(
        f"{path} is a folder without {_PORTABLE}. Give the folder of a model, of a run that has completed an epoch, or "
        "a file of weights."
    )


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"{path} does not exist. Give a file of weights, or none, or imagenet.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as cause:  # the readers raise many kinds
        raise ModelError(f"{path} cannot be read as weights: {cause}") from cause
    if isinstance(found, Mapping) and found.get("format") == _CHECKPOINT:
        state = found["state"]
        found = state["ema"]["weights"] if "ema" in state else state["model"]
    for name in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path} holds no weights by name. Give a file made from state_dict().")
    return {str(name): value for name, value in found.items()}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
