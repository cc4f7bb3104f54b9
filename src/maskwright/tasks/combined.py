"""What all tasks with a combined loss share: weights of a group, mixed samples, factors that move."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskwright.errors import ModelError
from maskwright.losses.pixel import looks_like_probabilities
from maskwright.tasks.interface import LossTerm
from maskwright.types import Batch, LossOutput

if TYPE_CHECKING:
    from torch import nn

    from maskwright.losses import CombinedLoss, LossScheduler, UncertaintyWeights

__all__ = ["CombinedTask", "Truth"]

log = logging.getLogger("maskwright.tasks")


@dataclass(frozen=True, slots=True)
class Truth:
    """What the outputs are held against.

    Attributes:
        target: As the loss takes it.
        valid: (B, H, W) bool.
        weight: Of each sample, (B, K) or (B, 1); None: all alike.
        given: Sums of terms that are taken of something else, weighed.
    """

    target: Tensor
    valid: Tensor
    weight: Tensor | None
    given: Mapping[str, Tensor]


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
        self._has_looked = False

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
    def loss_adds_up(self) -> bool:
        """Whether the losses of the batches of a group add up to that of one big batch."""
        return self._loss.adds_up

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
        outputs = outputs.float()
        self._look_once(outputs)
        values, truths = self._as_loss_input(outputs, batch), self._truths(outputs, batch)
        if self.learned is not None:
            return self._learned_loss(values, batch, truths, self._measure(batch) if weights is None else weights)
        if batch.mix is None:
            (truth,) = truths
            output: LossOutput = self._loss(values, truth.target, truth.valid, weights, truth.weight, truth.given)
            return output
        weights = self._measure(batch) if weights is None else weights
        first, second = (
            self._loss(values, truth.target, truth.valid, weights, truth.weight, truth.given) for truth in truths
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

    def _as_loss_input(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Outputs in full precision as the loss takes them."""
        return outputs

    @property
    def _outputs_are_logits(self) -> bool:
        """Whether outputs are what a sigmoid or softmax is applied to."""
        return True

    def _given(self, outputs: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Sums of samples, (B, 1), by the terms that take something else than the loss does; ``Batch.target``."""
        return {}

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

    def _look_once(self, outputs: Tensor) -> None:
        """Warn of a network that ends in an activation; looked at once, since a look waits for the device."""
        if self._has_looked:
            return
        self._has_looked = True
        if self._outputs_are_logits and looks_like_probabilities(outputs):
            log.warning(
                "The first outputs of the network all lie in 0..1, as if a sigmoid or softmax had been applied "
                "already. The loss applies it itself: take the activation off the end of the network."
            )

    def _truths(self, outputs: Tensor, batch: Batch) -> Iterator[Truth]:
        """The one truth of a batch, or the two."""
        own = self._sample_weights(batch)
        if batch.mix is None:
            given = self._given(outputs, batch.target, batch.valid)
            yield Truth(self._loss_target(batch.target, batch), batch.valid, own, given)
            return
        share = batch.mix.share.unsqueeze(1)
        for target, valid, part in ((batch.target, batch.valid, share), (batch.mix.target, batch.mix.valid, 1 - share)):
            given = {name: part * sums for name, sums in self._given(outputs, target, valid).items()}
            yield Truth(self._loss_target(target, batch), valid, part if own is None else own * part, given)

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

    def _learned_loss(
        self, values: Tensor, batch: Batch, truths: Iterable[Truth], weights: Mapping[str, Tensor]
    ) -> LossOutput:
        """The sum of learned factors times terms, and once for each group what keeps the factors in place."""
        assert self.learned is not None
        sums: dict[str, Tensor] = {}
        for truth in truths:
            found = self._loss.values(values, truth.target, truth.valid, weights, truth.weight, truth.given)
            for name, value in found.items():
                sums[name] = sums[name] + value if name in sums else value
        weighted = {name: factor * sums[name] for name, factor in self._loss.terms.items()}
        part = (self._measure(batch)["samples"] / weights["samples"].clamp(min=1)).to(values.dtype)
        # The module adds its penalty whole; a batch that is a part of its group must add that part of it.
        penalty = self.learned({name: torch.zeros_like(value) for name, value in weighted.items()})
        total = self.learned(weighted) - (1 - part) * penalty
        return LossOutput(total, {name: value.detach() for name, value in sums.items()})
