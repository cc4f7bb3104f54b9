"""The loop: length, accumulation, clipping, precision, seed, device."""

from __future__ import annotations

from typing import Literal

from maskwright.config.base import Field, Section

__all__ = ["TrainingConfig"]


class TrainingConfig(Section):
    """How long and how the training runs."""

    epochs: int = Field(50, ge=1, le=100_000, unit="epochs", help="Passes over the training tiles.")
    accumulate: int = Field(
        1, ge=1, le=1024, unit="batches", help="Batches whose gradients are added before an update."
    )
    clip_norm: float | None = Field(1.0, gt=0, help="Largest norm of the gradient; unset: no clipping by norm.")
    clip_value: float | None = Field(None, gt=0, help="Largest value of a gradient's entry; unset: none.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", help="auto: fp32 on CPU and MPS, bf16 on GPUs that have it."
    )
    seed: int = Field(42, ge=0, help="Seed of weights, sampling and augmentation.")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", help="Where to compute: auto, cpu, cuda, cuda:1 or mps."
    )
    threads: int | None = Field(None, ge=1, unit="threads", help="CPU threads for the mathematics; unset: all cores.")
    validate_every: int = Field(
        1, ge=1, unit="epochs", help="Epochs from one validation to the next; the last epoch always."
    )
