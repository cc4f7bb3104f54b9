"""Scores of segmentations with one class, many classes or many labels, counted per image."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError, DataError, ModelError, ShapeError
from maskwright.metrics.breakdown import score_groups
from maskwright.metrics.counts import probability_counts
from maskwright.metrics.matrix import matrix_scores, matrix_shares, one_vs_rest, pair_counts
from maskwright.metrics.scores import SCORES, per_image, score_named
from maskwright.pixels import IGNORE_INDEX, require_same_hw, require_same_shape

__all__ = ["CLASS_SCORES", "SegmentationMetrics"]

Counts = NDArray[np.int64]
Empty = Literal["skip", "zero", "one"]

CLASS_SCORES = tuple(name for name, score in SCORES.items() if score.higher_is_better is not None)
"""Scores computed unless told otherwise: all that have a direction."""


class SegmentationMetrics:
    """Counts per image, summed over the data set before any score is taken.

    Three kinds of answers: one class (``num_classes=1``), one of K classes per pixel (``num_classes=K``), and any of K
    labels per pixel (``multilabel=True``). Results do not depend on batch size or order. Classes without a true pixel
    are left out of all means, so that two models scored on the same ground are averaged over the same classes, and are
    named in :attr:`absent_classes`; a single class is always scored. Nothing is smoothed: an undefined score is nan.

    Args:
        num_classes: K; 1 is one class against background.
        class_names: K names for results; unset: ``class_0`` and so on.
        multilabel: Labels may overlap: each of the K channels is a yes or no of its own.
        probability_threshold: One class and labels: called above this probability, 0..1.
        ignore_index: Target id of pixels that do not count.
        scores: Names of :data:`~maskwright.metrics.scores.SCORES` to compute.
        image_means: Also compute means over single images, under a name that tells what an image without the class,
            neither true nor called, scores: ``skip`` gives ``iou_images_skip`` (left out), ``zero`` gives
            ``iou_images_zero``, ``one`` gives ``iou_images_one``.

    Raises:
        ConfigError: If a score or policy does not exist, or names and classes do not fit.
    """

    def __init__(
        self,
        num_classes: int = 1,
        *,
        class_names: Sequence[str] | None = None,
        multilabel: bool = False,
        probability_threshold: float = 0.5,
        ignore_index: int = IGNORE_INDEX,
        scores: Sequence[str] = CLASS_SCORES,
        image_means: Sequence[Empty] = (),
    ) -> None:
        if num_classes < 1:
            raise ConfigError(f"num_classes: {num_classes} is below the minimum 1.")
        if not 0 < probability_threshold < 1:
            raise ConfigError(f"probability_threshold: {probability_threshold:g} is not between 0 and 1.")
        self.num_classes, self.multilabel = num_classes, multilabel
        self.class_names = _names(num_classes, class_names)
        self.probability_threshold, self.ignore_index = float(probability_threshold), ignore_index
        self.scores, self.image_means = tuple(scores), tuple(image_means)
        for name in self.scores:
            score_named(name)
        for policy in self.image_means:
            if policy not in ("skip", "zero", "one"):
                raise ConfigError(f'image_means: "{policy}" is not known. Use skip, zero or one.')
        self._chunks: list[tuple[Tensor, Tensor, Tensor]] = []
        self._table: Counts | None = None

    # --- counting -----------------------------------------------------------------------------------------------------

    def update(self, probs: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch. An accelerator is not waited for; what is wrong there is told when a result is asked for.

        Args:
            probs: One class: (B, H, W) or (B, 1, H, W), labels: (B, K, H, W), probabilities 0..1 or bool. K classes:
                (B, K, H, W) float, of which the largest wins (of equals the first), or (B, H, W) class ids.
            target: One class: shape of ``probs``, bool or 0 and 1; labels: (B, K, H, W) likewise; K classes: (B, H, W)
                class ids. ``ignore_index`` anywhere does not count.
            valid: (B, H, W) bool; other pixels count nowhere. Unset: all pixels that are not ``ignore_index``.

        Raises:
            ShapeError: If sizes do not fit together.
            ModelError: If values are not probabilities, or NaN.
            DataError: If the target holds ids that are no class.
        """
        require_same_hw(probs=probs, target=target, **({} if valid is None else {"valid": valid}))
        counts, refused, strange = (
            self._classes(probs, target, valid) if self._many else self._yes_or_no(probs, target, valid)
        )
        if counts.is_cpu:
            self._refuse(refused, strange)
        self._chunks.append((counts, refused, strange))
        self._table = None

    def merge(self, other: SegmentationMetrics) -> None:
        """Add what another meter has counted, for example that of another process.

        Raises:
            ConfigError: If it counts other classes or cuts at another probability.
        """
        if self._identity() != other._identity():
            raise ConfigError(f"Meters of {other._identity()} and {self._identity()} cannot be merged.")
        self._keep(torch.from_numpy(other._counted()))

    def reset(self) -> None:
        """Forget all counts."""
        self._chunks.clear()
        self._table = None

    # --- what was counted ---------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """(N, K, 4) int64: TP, FP, FN, TN of each image and class, in the order of the updates."""
        return one_vs_rest(self._counted()) if self._many else self._counted()

    @property
    def matrices(self) -> Counts:
        """(N, K, K) int64 for K classes, row = true class; (N, K, 2, 2) for one class and labels, row 0 = not."""
        if self._many:
            return self._counted()
        tp, fp, fn, tn = np.moveaxis(self._counted(), -1, 0)
        return np.stack((tn, fp, fn, tp), axis=-1).reshape(-1, self.num_classes, 2, 2)

    def confusion_matrix(self, of: Literal["all", "prediction", "truth"] | None = None) -> NDArray[Any]:
        """The confusion matrix of the whole data set; row = true, column = called.

        Args:
            of: Unset: int64 counts. Else float64 shares, see :func:`~maskwright.metrics.matrix.matrix_shares`.

        Returns:
            (K, K) for K classes, (2, 2) for one class, (K, 2, 2) for labels.
        """
        matrix = self.matrices.sum(axis=0)
        if self.num_classes == 1:
            matrix = matrix[0]
        return matrix if of is None else matrix_shares(matrix, of)

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """Classes without a true pixel; they are in no mean."""
        present = self._present()
        return tuple(name for name, here in zip(self.class_names, present, strict=True) if not here)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the scores must know."""
        totals = self.counts.sum(axis=0)
        present = self._present()
        missed = [self.class_names[k] for k in range(self.num_classes) if present[k] and not totals[k, :2].any()]
        notes = []
        if self.absent_classes:
            left_out = ", so in no mean" if self.num_classes > 1 else ""
            notes.append(f"Without a true pixel{left_out}: {', '.join(self.absent_classes)}.")
        if missed:
            notes.append(f"Never called, so without a precision: {', '.join(missed)}.")
        return tuple(notes)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which :meth:`load_state_dict` continues exactly."""
        return {"identity": list(self._identity()), "counts": torch.from_numpy(self._counted().copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of another meter; what was here is forgotten.

        Raises:
            ConfigError: If the state belongs to other classes or another probability threshold.
        """
        if tuple(state["identity"]) != self._identity():
            raise ConfigError(f"State of a meter {tuple(state['identity'])} does not fit this one: {self._identity()}.")
        self.reset()
        self._keep(state["counts"].clone())

    # --- scores -------------------------------------------------------------------------------------------------------

    def compute(self) -> dict[str, float]:
        """Scores of the whole data set.

        Returns:
            ``iou`` and so on: the mean over the classes that occur. For K classes ``accuracy``, ``error_rate``,
            ``balanced_accuracy``, ``kappa`` and ``mcc`` are those of the whole confusion matrix. With more than one
            class also ``iou@name`` for each class against the rest; with ``image_means`` also those means. Not defined
            is nan.
        """
        totals, averaged = self.counts.sum(axis=0), self._averaged()
        whole = matrix_scores(self._counted().sum(axis=0)) if self._many else {}
        results: dict[str, float] = {}
        for name in self.scores:
            values = SCORES[name].function(totals)
            results[name] = float(whole[name]) if name in whole else _mean(values[averaged])
            if self.num_classes > 1:
                results |= {f"{name}@{label}": float(v) for label, v in zip(self.class_names, values, strict=True)}
            for policy in self.image_means:
                results[f"{name}_images_{policy}"] = self._image_mean(name, policy)
        return results

    def by_group(self, groups: Sequence[Hashable]) -> list[dict[str, Any]]:
        """Scores of sites, cameras or whatever the images fall into, beside those of the whole.

        Args:
            groups: N group ids, one for each image in the order of the updates.

        Returns:
            Rows of :func:`~maskwright.metrics.breakdown.score_groups`.
        """
        return score_groups(self.counts, groups, self.class_names, self.scores)

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _many(self) -> bool:
        return self.num_classes > 1 and not self.multilabel

    def _identity(self) -> tuple[Any, ...]:
        kind = "labels" if self.multilabel else "classes"
        return (*self.class_names, kind, self.probability_threshold, self.ignore_index)

    def _keep(self, counts: Tensor) -> None:
        fine = torch.zeros((), dtype=torch.bool)
        self._chunks.append((counts, fine, fine))
        self._table = None

    def _counted(self) -> Counts:
        """All chunks as one table, (N, K, K) or (N, K, 4)."""
        if self._table is None:
            for _, refused, strange in self._chunks:
                self._refuse(refused, strange)
            empty = np.zeros((0, self.num_classes, self.num_classes if self._many else 4), dtype=np.int64)
            self._table = np.concatenate([empty, *(counts.cpu().numpy() for counts, *_ in self._chunks)])
        return self._table

    def _present(self) -> NDArray[np.bool_]:
        return np.asarray(self.counts[..., (0, 2)].sum(axis=(0, 2)) > 0)

    def _averaged(self) -> NDArray[np.bool_]:
        """Classes in the means: false alarms for a single class that never occurs must not go unseen."""
        return self._present() if self.num_classes > 1 else np.ones(1, dtype=np.bool_)

    def _image_mean(self, name: str, policy: Empty) -> float:
        """Mean over images and present classes; exact sums, so the order of images changes no bit."""
        values = per_image(self.counts, SCORES[name].function, empty=policy)
        means = [_mean(column) for column in values[:, self._averaged()].T]
        return _mean(np.array(means))

    def _classes(self, probs: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        counted = target != self.ignore_index
        if valid is not None:
            require_same_shape(target=target, valid=valid)
            counted &= valid
        refused = torch.zeros((), dtype=torch.bool, device=probs.device)
        prediction = probs.detach()
        if prediction.ndim == 4:
            if prediction.shape[1] != self.num_classes:
                raise ShapeError(f"probs has {prediction.shape[1]} channels, but there are {self.num_classes} classes.")
            largest, prediction = prediction.max(dim=1)
            require_same_shape(prediction=prediction, target=target)
            refused = (largest.isnan() & counted).any()
        matrices, strange = pair_counts(prediction, target, counted, self.num_classes)
        return matrices, refused, strange

    def _yes_or_no(self, probs: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        said, true = (self._with_channels(name, mask) for name, mask in (("probs", probs), ("target", target)))
        if said.shape != true.shape:
            raise ShapeError(f"probs {tuple(probs.shape)} and target {tuple(target.shape)} must have the same shape.")
        batch, channels, *size = said.shape
        if valid is not None and tuple(valid.shape) != (batch, *size):
            raise ShapeError(
                f"valid {tuple(valid.shape)} does not fit probs {tuple(probs.shape)}; (B, H, W) is needed."
            )
        positive, counted, strange = self._positive(true, valid)
        single = (batch * channels, 1, *size)  # each label has its own pixels that count
        values = said.detach() if said.is_floating_point() else said.float()
        counts, refused = probability_counts(
            values.reshape(single), positive.reshape(single), counted.reshape(-1, *size), self.probability_threshold
        )
        return counts.reshape(batch, channels, 4), refused, strange

    def _positive(self, true: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Where positive, which pixels count (B, K, H, W), and whether something else than 0 and 1 was met."""
        given = None if valid is None else valid.unsqueeze(1).expand(true.shape)
        if true.dtype == torch.bool:
            every = torch.ones_like(true) if given is None else given
            return true, every, torch.zeros((), dtype=torch.bool, device=true.device)
        positive, ignored = true == 1, true == self.ignore_index
        counted = ~ignored if given is None else ~ignored & given
        return positive, counted, (~positive & (true != 0) & counted).any()

    def _with_channels(self, name: str, mask: Tensor) -> Tensor:
        if mask.ndim == 3 and self.num_classes == 1:
            mask = mask.unsqueeze(1)
        if mask.ndim != 4 or mask.shape[1] != self.num_classes:
            raise ShapeError(f"{name} has shape {tuple(mask.shape)}; (B, {self.num_classes}, H, W) is needed.")
        return mask

    def _refuse(self, refused: Tensor, strange: Tensor) -> None:
        if bool(refused):
            raise ModelError(
                "Values to be scored are NaN, or not probabilities: some valid pixels lie outside 0..1. "
                "Logits of one class need one sigmoid first; NaN means that training went wrong."
            )
        if bool(strange):
            allowed = f"class ids 0..{self.num_classes - 1}" if self._many else "0 and 1"
            raise DataError(
                f"target holds other values than {allowed} and {self.ignore_index} (ignored) on pixels that count."
            )


def _names(num_classes: int, class_names: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(f"class_{k}" for k in range(num_classes)) if class_names is None else tuple(class_names)
    if len(names) != num_classes or len(set(names)) != num_classes:
        raise ConfigError(f"class_names: {list(names)} are not {num_classes} different names, one per class.")
    return names


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)].tolist()
    return math.fsum(known) / len(known) if known else math.nan
