"""Confusion matrices: how often each class was taken for each other, per image, and what follows from them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from maskwright.errors import ConfigError, DataError, ModelError, ShapeError
from maskwright.pixels import require_same_shape

__all__ = ["confusion_matrix", "matrix_scores", "matrix_shares", "one_vs_rest", "pair_counts"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def confusion_matrix(prediction: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """Count pixels by true and by called class.

    Args:
        prediction: (B, H, W) whole numbers, class ids 0 .. num_classes - 1.
        target: (B, H, W) whole numbers, class ids.
        valid: (B, H, W) bool; other pixels are not counted and may hold any id.
        num_classes: K.

    Returns:
        (B, K, K) int64 on the device of ``prediction``: row = true class, column = called class.

    Raises:
        ShapeError: If shapes differ.
        ModelError: If a dtype does not fit.
        DataError: If a valid pixel holds an id that is no class.
    """
    matrices, strange = pair_counts(prediction, target, valid, num_classes)
    if bool(strange):
        raise DataError(f"Some valid pixels hold class ids outside 0..{num_classes - 1}.")
    return matrices


def pair_counts(prediction: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The same as :func:`confusion_matrix` without waiting for an accelerator.

    Returns:
        (B, K, K) int64; and a scalar bool, True if a valid pixel holds an id that is no class. On the CPU it is always
        False, because the error is raised at once and names the id.
    """
    _check(prediction, target, valid)
    if prediction.device.type == "cpu":
        counted = _count(prediction.numpy(), target.numpy(), valid.numpy(), num_classes)
        return torch.from_numpy(counted), torch.zeros((), dtype=torch.bool)
    return _scatter(prediction, target, valid, num_classes)


def one_vs_rest(matrix: ArrayLike) -> Counts:
    """Each class against all others.

    Args:
        matrix: (..., K, K) whole numbers, row = true class.

    Returns:
        (..., K, 4) int64: TP, FP, FN, TN of each class.
    """
    cells = _square(matrix).astype(np.int64)
    hits = np.diagonal(cells, axis1=-2, axis2=-1)
    called, true = cells.sum(axis=-2), cells.sum(axis=-1)
    total = cells.sum(axis=(-2, -1))[..., None]
    return np.stack((hits, called - hits, true - hits, total - called - true + hits), axis=-1)


def matrix_scores(matrix: ArrayLike) -> dict[str, Floats]:
    """Scores of all classes together.

    Args:
        matrix: (..., K, K) counts, row = true class.

    Returns:
        Each (...) float64, nan where not defined:
        ``accuracy`` share of pixels with the right class; ``error_rate`` one minus it; ``balanced_accuracy`` mean
        recall of the classes that occur; ``kappa`` (Cohen); ``mcc`` (Gorodkin's R_K).

    Source: doi:10.1016/j.compbiolchem.2004.09.006 (R_K).
    """
    cells = _square(matrix).astype(np.float64)
    hits = np.trace(cells, axis1=-2, axis2=-1)
    called, true = cells.sum(axis=-2), cells.sum(axis=-1)
    total = true.sum(axis=-1)
    chance = (called * true).sum(axis=-1)
    classes = (true > 0).sum(axis=-1)
    recall = _ratio(np.diagonal(cells, axis1=-2, axis2=-1), true)
    spread = np.sqrt(total**2 - (called**2).sum(axis=-1)) * np.sqrt(total**2 - (true**2).sum(axis=-1))
    return {
        "accuracy": _ratio(hits, total),
        "balanced_accuracy": _ratio(np.nan_to_num(recall).sum(axis=-1), classes.astype(np.float64)),
        "error_rate": _ratio(total - hits, total),
        "kappa": _ratio(total * hits - chance, total**2 - chance),
        "mcc": _ratio(total * hits - chance, spread),
    }


def matrix_shares(matrix: ArrayLike, of: Literal["all", "prediction", "truth"]) -> Floats:
    """A confusion matrix as shares 0..1.

    Args:
        matrix: (..., K, K) counts, row = true class.
        of: ``truth``: each row sums to 1 (the diagonal is recall); ``prediction``: each column sums to 1 (precision);
            ``all``: the whole sums to 1.

    Returns:
        (..., K, K) float64; nan where there is nothing to share.

    Raises:
        ConfigError: If ``of`` is another word.
    """
    axes: dict[str, tuple[int, ...]] = {"truth": (-1,), "prediction": (-2,), "all": (-2, -1)}
    if of not in axes:
        raise ConfigError(f'of: "{of}" is not known. Use truth, prediction or all.')
    cells = _square(matrix).astype(np.float64)
    return _ratio(cells, np.broadcast_to(cells.sum(axis=axes[of], keepdims=True), cells.shape))


def _check(prediction: Tensor, target: Tensor, valid: Tensor) -> None:
    require_same_shape(prediction=prediction, target=target, valid=valid)
    if prediction.ndim != 3:
        raise ShapeError(f"prediction has shape {tuple(prediction.shape)}; class ids are (B, H, W).")
    for name, array in (("prediction", prediction), ("target", target)):
        if array.dtype not in _WHOLE:
            raise ModelError(f"{name} is {array.dtype}; class ids are whole numbers.")
    if valid.dtype != torch.bool:
        raise ModelError(f"valid is {valid.dtype}, not bool.")


def _scatter(prediction: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Counting for accelerators: every size is known beforehand, so nothing is waited for."""
    said, true = prediction.long(), target.long()
    known = (said >= 0) & (said < num_classes) & (true >= 0) & (true < num_classes)
    cells = num_classes * num_classes
    pair = torch.where(known & valid, true * num_classes + said, cells).flatten(1)
    matrices = torch.zeros((len(pair), cells + 1), dtype=torch.int64, device=pair.device)
    matrices.scatter_add_(1, pair, torch.ones_like(pair))  # bincount would wait for the device
    return matrices[:, :cells].reshape(-1, num_classes, num_classes), (~known & valid).any()


def _count(prediction: NDArray[Any], target: NDArray[Any], valid: NDArray[np.bool_], num_classes: int) -> Counts:
    """Image by image, so that the pairs stay in the processor's cache."""
    matrices = np.empty((len(prediction), num_classes, num_classes), dtype=np.int64)
    for b in range(len(prediction)):
        counted = slice(None) if valid[b].all() else valid[b]
        said, true = prediction[b][counted].ravel(), target[b][counted].ravel()
        _require_classes("prediction", said, num_classes)
        _require_classes("target", true, num_classes)
        pairs = true.astype(np.intp) * num_classes + said
        matrices[b] = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    return matrices


def _require_classes(name: str, ids: NDArray[Any], num_classes: int) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= num_classes):
        strange = ids[(ids < 0) | (ids >= num_classes)][0]
        raise DataError(
            f"{name} holds class id {strange} on a pixel that counts, but there are {num_classes} classes "
            f"(0..{num_classes - 1}). Give pixels that do not count through valid or as the ignored id."
        )


def _square(matrix: ArrayLike) -> NDArray[Any]:
    cells = np.asarray(matrix)
    if cells.ndim < 2 or cells.shape[-1] != cells.shape[-2]:
        raise ShapeError(f"A confusion matrix of shape {cells.shape} is not square (..., K, K).")
    return cells


def _ratio(above: Floats, below: Floats) -> Floats:
    result = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=result, where=np.not_equal(below, 0))
    return result
