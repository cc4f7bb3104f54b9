"""What all tasks with a combined loss share: weights of a group, mixed samples, factors that move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskwright.errors import ModelError
from maskwright.tasks.interface import LossTerm
from maskwright.types import Batch, LossOutput

if TYPE_CHECKING:
    from torch import nn

    from maskwright.losses import CombinedLoss, LossScheduler, UncertaintyWeights

__all__ = ["CombinedTask"]


class CombinedTask:
    """The loss of a task; what the target is and what outputs mean is said by the tasks that inherit from it.

    A sample mixed from two has two truths: its terms are the sum over both, each times its share of the image, and so
    is what they are divided by. Groups of batches therefore equal one big batch, mixed or not.

    Args:
        loss: The loss; None where nothing is trained (prediction).
        schedule: Moves the factors of the loss from epoch to epoch; None: they stay.
        learned: Learns factors beside those of the loss; None: there are none.

    Attributes:
        combined_loss: The loss.
        loss_schedule: The schedule.
        learned: The learned factors, a module whose parameters the optimizer needs.
    """

    def __init__(
        self,
        loss: CombinedLoss | None = None,
        *,
        schedule: LossScheduler | None = None,
        learned: UncertaintyWeights | None = None,
    ) -> None:
        self.combined_loss = loss
        self.loss_schedule = schedule
        self.learned = learned

    @property
    def loss_module(self) -> nn.Module | None:
        """The part of the loss that is trained, None if nothing of it is."""
        return self.learned

    @property
    def loss_terms(self) -> Mapping[str, LossTerm]:
        """The parts of the loss by name, with their factors now and what each is an average over."""
        functions = self._loss.functions
        return {name: LossTerm(factor, functions[name].weight) for name, factor in self._loss.terms.items()}

    @property
    def moving_weights(self) -> dict[str, float]:
        """The factor of each term now, where factors move; empty where they stay."""
        if self.learned is not None:
            learned = self.learned.weights()
            return {name: factor * learned[name] for name, factor in self._loss.terms.items()}
        return self._loss.weights if self.loss_schedule is not None else {}

    def loss_weights(self, group: Sequence[Batch]) -> dict[str, Tensor]:
        """What the sums of a whole accumulation group are divided by, float64."""
        total: dict[str, Tensor] = {}
        for batch in group:
            self._check_batch(batch)
            for name, weight in self._measure(batch).items():
                total[name] = total[name] + weight if name in total else weight
        return total

    def loss(self, outputs: Tensor, batch: Batch, weights: Mapping[str, Tensor] | None = None) -> LossOutput:
        """The loss of one batch, each term divided by ``weights`` (unset: by the batch's own).

        Args:
            outputs: (B, K, H, W), raw from the network.
            batch: Images and truth on the device of ``outputs``.
            weights: From :meth:`loss_weights` over the accumulation group.

        Raises:
            ShapeError: If the outputs do not fit the batch.
        """
        self._check_outputs(outputs, batch)
        values = self._as_loss_input(outputs.float())
        if self.learned is not None:
            return self._learned_loss(values, batch, self._measure(batch) if weights is None else weights)
        if batch.mix is None:
            target = self._loss_target(batch.target, batch)
            output: LossOutput = self._loss(values, target, batch.valid, weights, self._sample_weights(batch))
            return output
        weights = self._measure(batch) if weights is None else weights
        first, second = (
            self._loss(values, target, valid, weights, share) for target, valid, share in self._truths(batch)
        )
        terms = {name: value + second.terms[name] for name, value in first.terms.items()}
        return LossOutput(first.total + second.total, terms)

    # --- said by the tasks --------------------------------------------------------------------------------------------

    def _loss_target(self, target: Tensor, batch: Batch) -> Tensor:
        """``Batch.target``, or the second one of a mix, as the loss takes it."""
        raise NotImplementedError

    def _channels(self, batch: Batch) -> int:
        """K of the outputs."""
        raise NotImplementedError

    def _as_loss_input(self, outputs: Tensor) -> Tensor:
        """Outputs in full precision as the loss takes them."""
        return outputs

    def _sample_weights(self, batch: Batch) -> Tensor | None:
        """(B, K) or (B, 1): how much samples count in the loss; None: all alike."""
        return None

    def _check_batch(self, batch: Batch) -> None:
        """Raise if the task cannot learn from this batch."""

    def _check_outputs(self, outputs: Tensor, batch: Batch) -> None:
        """Raise if the outputs do not fit the batch."""
        raise NotImplementedError

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _loss(self) -> CombinedLoss:
        if self.combined_loss is None:
            raise ModelError("This task was loaded for prediction and has no loss. Build it with build_task to train.")
        return self.combined_loss

    def _truths(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Target, valid and weight of each sample, (B, K) or (B, 1), for the one truth of a batch or the two."""
        own = self._sample_weights(batch)
        if batch.mix is None:
            yield self._loss_target(batch.target, batch), batch.valid, own
            return
        share = batch.mix.share.unsqueeze(1)
        for target, valid, part in ((batch.target, batch.valid, share), (batch.mix.target, batch.mix.valid, 1 - share)):
            yield self._loss_target(target, batch), valid, part if own is None else own * part

    def _measure(self, batch: Batch) -> dict[str, Tensor]:
        channels = self._channels(batch)
        if batch.mix is None:
            return self._loss.measure(batch.valid, channels)
        total: dict[str, Tensor] = {}
        for valid, share in ((batch.valid, batch.mix.share), (batch.mix.valid, 1 - batch.mix.share)):
            for index in range(len(batch)):  # measures add up over samples, so a share of a sample is a share of each
                for name, weight in self._loss.measure(valid[index : index + 1], channels).items():
                    part = weight * share[index].to(weight.dtype)
                    total[name] = total[name] + part if name in total else part
        return total

    def _learned_loss(self, values: Tensor, batch: Batch, weights: Mapping[str, Tensor]) -> LossOutput:
        """The sum of learned factors times terms, and once for each group what keeps the factors in place."""
        assert self.learned is not None
        sums: dict[str, Tensor] = {}
        for target, valid, share in self._truths(batch):
            for name, value in self._loss.values(values, target, valid, weights, share).items():
                sums[name] = sums[name] + value if name in sums else value
        weighted = {name: factor * sums[name] for name, factor in self._loss.terms.items()}
        part = (self._measure(batch)["samples"] / weights["samples"].clamp(min=1)).to(values.dtype)
        # The module adds its penalty whole; a batch that is a part of its group must add that part of it.
        penalty = self.learned({name: torch.zeros_like(value) for name, value in weighted.items()})
        total = self.learned(weighted) - (1 - part) * penalty
        return LossOutput(total, {name: value.detach() for name, value in sums.items()})
