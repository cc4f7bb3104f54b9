"""Binary cross entropy, Dice and focal loss of the same logits in one sweep on the CPU: the sums and the gradient.

Written out as three formulas, the terms take sigmoids and logarithms of the whole batch several times over and keep
every intermediate for the backward pass: most of the time goes into moving memory. Here the logits are taken in blocks
that stay in the processor's cache, what the terms share is computed once, and the gradient is written directly.
``losses/pixel.py`` and ``losses/overlap.py`` say the same in plain formulas; tests hold the two together.

Everything is expressed by ``wrong``, the logit turned so that it is large where a pixel is wrong: with target y in
{0, 1} and sign s = 1 - 2y, wrong = s * logit. Then with q = sigmoid(wrong), the probability given to the wrong class:

====================  ===================================  ==========================================
term                  value of a pixel                     derivative by ``wrong``
====================  ===================================  ==========================================
cross entropy         c * ce - o * wrong                   c * q - o
focal                 a * q^g * ce                         a * q^g * (g * (1 - q) * ce + q)
Dice                  prob = y + s * q                     s * q * (1 - q) * (derivative by prob)
====================  ===================================  ==========================================

with ce = softplus(wrong), c and a class weights, o what label smoothing gives to the other class (0 without it).
A pixel that does not count gets wrong = -_LARGE and o = 0: q and ce are exactly 0 there, so it enters no sum and no
gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = ["BLOCK", "FusedTerms", "fused_loss"]

BLOCK = 262_144  # pixels taken at once: large enough to hide the cost of a call, small enough for the cache
_LARGE = 1e4

# -log(1 - t) = t * P(t) for t in 0..0.5, relative error below 3e-8: Chebyshev fit of degree 8, lowest power first.
# Ten times faster than the library's logarithm, which would be most of the work.
_LOG_SERIES = (
    1.00000002, 0.49999281, 0.33370256, 0.24277445, 0.26985013, -0.20453975, 1.26001044, -1.69866581, 1.44252288,
)  # fmt: skip


@dataclass(frozen=True)
class FusedTerms:
    """What is summed and how.

    Attributes:
        bce, dice, focal: Factor of each term's sum in the total; 0 leaves the term out.
        pos_weight: Weight of pixels with target 1 in cross entropy.
        label_smoothing: Share of cross entropy that goes to the other class.
        smooth: Added above and below the Dice ratio, in pixels.
        by_batch: One Dice ratio for each channel of the batch instead of one for each sample and channel.
        alpha, gamma: Of the focal loss.
    """

    bce: float
    dice: float
    focal: float
    pos_weight: float
    label_smoothing: float
    smooth: float
    by_batch: bool
    alpha: float
    gamma: float


@dataclass
class _Sums:
    """Sums of the three terms over the batch, and of the Dice ratio that is being gathered."""

    bce: float = 0.0
    dice: float = 0.0
    focal: float = 0.0
    wanted: float = 0.0  # target
    painted: float = 0.0  # probs
    overlap: float = 0.0  # probs * target


class _Scratch:
    """Buffers of one block, kept from block to block."""

    def __init__(self, pixels: int, dtype: torch.dtype) -> None:
        self.rows = torch.empty(8, pixels, dtype=dtype)
        self.one = torch.ones((), dtype=dtype)
        self.series = torch.tensor(_LOG_SERIES, dtype=dtype).unbind()

    def views(self, pixels: int) -> tuple[Tensor, ...]:
        return self.rows[:, :pixels].unbind()


def fused_loss(logits: Tensor, target: Tensor, valid: Tensor, terms: FusedTerms) -> tuple[Tensor, Tensor]:
    """The weighted total and the three sums.

    Args:
        logits: (B, K, H, W) float on the CPU, before sigmoid.
        target: (B, K, H, W) float, exactly 0 or 1; any finite number where not valid.
        valid: (B, H, W) bool.
        terms: Factors and parameters.

    Returns:
        The total, a scalar that carries the gradient, and the sums of bce, dice and focal, (3,) without gradient. Both
        float32, or float64 for float64 logits. The total can be differentiated once, not twice.
    """
    total, sums = _FusedLoss.apply(logits, target, valid, terms)
    return total, sums


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, valid: Tensor, terms: FusedTerms) -> tuple[Tensor, Tensor]:
        sweep = _Sweep(logits, target, valid, terms, with_gradient=ctx.needs_input_grad[0])
        sums = sweep.run()
        if sweep.grad is not None:
            ctx.save_for_backward(sweep.grad)
            ctx.logits_shape, ctx.logits_dtype = logits.shape, logits.dtype
        total = terms.bce * sums.bce + terms.dice * sums.dice + terms.focal * sums.focal
        each = torch.tensor([sums.bce, sums.dice, sums.focal], dtype=sweep.dtype)
        ctx.mark_non_differentiable(each)
        return torch.tensor(total, dtype=sweep.dtype), each

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = ctx.saved_tensors  # float32 even for half logits: a scaled loss must not underflow before scaling
        return (grad * grad_total).to(ctx.logits_dtype).view(ctx.logits_shape), None, None, None


class _Sweep:
    """One pass over a batch. Planes are the (sample, channel) pairs, each H * W pixels long."""

    def __init__(
        self, logits: Tensor, target: Tensor, valid: Tensor, terms: FusedTerms, *, with_gradient: bool
    ) -> None:
        self.dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        self.logits = logits.detach().flatten(2)
        self.target = target.to(self.dtype).flatten(2)
        self.valid = valid.flatten(1)
        self.terms = terms
        self.pixels = self.logits.shape[2]
        self.grad = torch.empty(self.logits.shape, dtype=self.dtype) if with_gradient else None
        self.scratch = _Scratch(min(BLOCK, self.pixels), self.dtype)
        self.sums = _Sums()

    def run(self) -> _Sums:
        with_slope = self.grad is not None and self.terms.dice != 0
        for planes in self._planes_of_one_ratio():
            self.sums.wanted = self.sums.painted = self.sums.overlap = 0.0
            slope = torch.empty(len(planes), self.pixels, dtype=self.dtype) if with_slope else None
            for row, plane in enumerate(planes):
                for span in self._spans():
                    self._block(plane, span, None if slope is None else slope[row, span])
            if self.terms.dice:
                self._close_ratio(planes, slope)
        return self.sums

    def _planes_of_one_ratio(self) -> Iterator[list[tuple[int, int]]]:
        batch, channels = self.logits.shape[:2]
        if self.terms.by_batch:
            yield from ([(b, k) for b in range(batch)] for k in range(channels))
        else:
            yield from ([(b, k)] for b in range(batch) for k in range(channels))

    def _spans(self) -> Iterator[slice]:
        for start in range(0, self.pixels, BLOCK):
            yield slice(start, min(start + BLOCK, self.pixels))

    def _block(self, plane: tuple[int, int], span: slice, slope: Tensor | None) -> None:
        """Add a block to the sums; write cross entropy's and focal's ``grad``, and q * (1 - q) to ``slope``."""
        terms, sums = self.terms, self.sums
        target, valid = self.target[plane][span], self.valid[plane[0], span]
        sign, wrong, q, right, easy, ce, spare, other = self.scratch.views(len(target))
        torch.sub(self.scratch.one, target, alpha=2, out=sign)
        torch.mul(self.logits[plane][span], sign, out=wrong)
        wanted = self._leave_out(wrong, target, valid, spare)
        if terms.bce and terms.label_smoothing:
            _by_class(sign, terms.label_smoothing * terms.pos_weight, terms.label_smoothing, out=other)
            other.mul_(valid)
            sums.bce -= float(torch.dot(other, wrong))
        torch.sigmoid(wrong, out=q)
        torch.sub(self.scratch.one, q, out=right)
        self._softplus(wrong, q, right, spare, ce)
        if terms.dice:
            sums.wanted += wanted
            sums.painted += wanted + float(torch.dot(q, sign))
            sums.overlap += wanted - float(torch.dot(q, target))
        if slope is not None:
            torch.mul(q, right, out=slope)
        weighted = terms.bce != 0 and terms.pos_weight != 1
        if weighted:
            here, there = 1 - terms.label_smoothing, terms.label_smoothing
            _by_class(sign, here + there * terms.pos_weight, here * terms.pos_weight + there, out=spare)
        if terms.bce:
            sums.bce += float((torch.mul(ce, spare, out=easy) if weighted else ce).sum())
        if terms.focal:
            torch.pow(q, terms.gamma, out=easy).mul_(_by_class(sign, 1 - terms.alpha, terms.alpha, out=wrong))
            sums.focal += float(ce.mul_(easy).sum())  # not a dot product, whose error in float32 is larger
        if self.grad is None:
            return
        if terms.focal:
            ce.mul_(right).mul_(terms.gamma).addcmul_(easy, q)
        q.mul_(terms.bce)
        if weighted:
            q.mul_(spare)
        if terms.bce and terms.label_smoothing:
            q.sub_(other, alpha=terms.bce)
        if terms.focal:
            q.add_(ce, alpha=terms.focal)
        torch.mul(q, sign, out=self.grad[plane][span])

    def _leave_out(self, wrong: Tensor, target: Tensor, valid: Tensor, spare: Tensor) -> float:
        """Set ``wrong`` to -_LARGE where a pixel does not count; the sum of ``target`` over those that do."""
        if bool(valid.all()):
            return float(target.sum())
        spare.copy_(valid)
        wanted = float(torch.dot(spare, target))
        wrong.masked_fill_(~valid, -_LARGE)  # not by arithmetic: what stands there may be infinite or NaN
        return wanted

    def _softplus(self, wrong: Tensor, q: Tensor, right: Tensor, spare: Tensor, out: Tensor) -> None:
        """log(1 + exp(wrong)) = max(wrong, 0) - log(1 - t), t = min(q, 1 - q); spoils ``wrong`` and ``spare``."""
        if self.dtype == torch.float64:
            out.copy_(F.softplus(wrong, threshold=40))
            return
        t, series = torch.minimum(q, right, out=spare), self.scratch.series
        torch.addcmul(series[-2], t, series[-1], out=out)
        for coefficient in reversed(series[:-2]):
            torch.addcmul(coefficient, t, out, out=out)
        torch.addcmul(wrong.clamp_min_(0), t, out, out=out)

    def _close_ratio(self, planes: list[tuple[int, int]], slope: Tensor | None) -> None:
        """Turn the gathered ratio into a loss, and add its gradient to the planes it came from."""
        samples = sum(bool(self.valid[b].any()) for b, _ in planes)
        size = self.sums.painted + self.sums.wanted + self.terms.smooth
        shared = 2 * self.sums.overlap + self.terms.smooth
        self.sums.dice += samples * (1 - shared / size)
        if self.grad is None or slope is None:
            return
        everywhere = self.terms.dice * samples * shared / size**2
        on_target = -self.terms.dice * samples * 2 / size
        for row, plane in enumerate(planes):
            for span in self._spans():
                by_prob = self.scratch.views(span.stop - span.start)[0]
                torch.mul(self.target[plane][span], on_target, out=by_prob).add_(everywhere)
                self.grad[plane][span].addcmul_(slope[row, span], by_prob)


def _by_class(sign: Tensor, at_0: float, at_1: float, *, out: Tensor) -> Tensor:
    """``at_0`` where the target is 0 and ``at_1`` where it is 1, by arithmetic on the sign."""
    return torch.mul(sign, (at_0 - at_1) / 2, out=out).add_((at_0 + at_1) / 2)
