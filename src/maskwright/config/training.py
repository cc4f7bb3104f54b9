"""The loop: length, accumulation, clipping, precision, seed, device."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

__all__ = ["TrainingConfig", "UnfreezeConfig"]


class UnfreezeConfig(Section):
    """Parts of a pretrained network begin to learn one after another. arXiv:1801.06146."""

    parts: tuple[str, ...] = Field(
        (),
        help="Paths in the order in which they begin to learn, for example head, decoder, encoder; the first learns "
        "from the beginning. Unset: all learn at once.",
    )
    start_epoch: int = Field(1, ge=1, unit="epochs", help="Completed epochs after which the second part begins.")
    every: int = Field(1, ge=1, unit="epochs", help="Epochs from one part to the next.")
    fall: float = Field(
        0.5, gt=0, le=1, help="Learning rate of a part in shares of that of the part before; optim.groups go first."
    )

    @model_validator(mode="after")
    def _parts_differ(self) -> UnfreezeConfig:
        twice = [name for name in dict.fromkeys(self.parts) if self.parts.count(name) > 1]
        refuse(f"parts: {name} comes twice. Name each part once" for name in twice)
        return self


class TrainingConfig(Section):
    """How long and how the training runs."""

    epochs: int = Field(50, ge=1, le=100_000, unit="epochs", help="Passes over the training tiles.")
    budget: float | None = Field(
        None,
        gt=0,
        le=100_000,
        unit="min",
        help="Minutes the whole run may take, final numbers included; as many epochs as fit, measured before the "
        "first, take the place of epochs. Unset: epochs decides.",
    )
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
    gradient_checkpointing: bool = Field(
        False, help="Needs less memory and more time: stages of the network are computed again in the backward pass."
    )
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = Field(
        "off", help="Let torch compile the network; it runs as it is where the compiler fails."
    )
    unfreeze: UnfreezeConfig = Field(
        default_factory=UnfreezeConfig, advanced=True, help="Parts of the network that begin to learn later."
    )
    threads: int | None = Field(None, ge=1, unit="threads", help="CPU threads for the mathematics; unset: all cores.")
    validate_every: int = Field(
        1, ge=1, unit="epochs", help="Epochs from one validation to the next; the last epoch always."
    )
