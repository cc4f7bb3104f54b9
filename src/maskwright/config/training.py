"""The loop: length, accumulation, clipping, precision, seed, device."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

__all__ = ["DropPathConfig", "EmaConfig", "TrainingConfig", "UnfreezeConfig"]


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


class DropPathConfig(Section):
    """How the rate at which branches are left out rises to model.drop_path."""

    schedule: Literal["constant", "linear", "cosine", "exponential", "step"] = Field(
        "constant", help="constant: model.drop_path from the beginning; step: in four equal stairs."
    )
    start: float = Field(0.0, ge=0, le=1, help="Share of model.drop_path in the first epoch.")
    until: float = Field(0.8, gt=0, le=1, help="Share of the epochs after which the rate is model.drop_path.")


class EmaConfig(Section):
    """A running average of the weights, which validates, is the best model and predicts in their place."""

    enabled: bool = Field(False, help="Keep the average; it costs the memory of the weights once more.")
    decay: float = Field(
        0.999, gt=0, lt=1, help="Share of the average that an update keeps; 0.999 looks back on about 1000 updates."
    )
    warmup_steps: int = Field(
        10,
        ge=0,
        unit="steps",
        help="After n updates the share is no more than (1 + n) / (1 + n + this), so that the first weights are soon "
        "forgotten.",
    )


class TrainingConfig(Section):
    """How long and how the training runs."""

    epochs: int = Field(50, ge=1, le=100_000, unit="epochs", help="Passes over the training tiles.")
    budget: float | None = Field(
        None,
        gt=0,
        le=100_000,
        unit="min",
        help="Minutes the whole run may take, final numbers included; as many updates as fit, measured before the "
        "first and laid out in 8 epochs or more, take the place of epochs and data.loader.samples_per_epoch. Unset: "
        "epochs decides.",
    )
    accumulate: int = Field(
        1, ge=1, le=1024, unit="batches", help="Batches whose gradients are added before an update."
    )
    clip_norm: float | None = Field(1.0, gt=0, help="Largest norm of the gradient; unset: no clipping by norm.")
    clip_value: float | None = Field(None, gt=0, help="Largest value of a gradient's entry; unset: none.")
    clip_adaptive: float | None = Field(
        None,
        gt=0,
        le=1,
        advanced=True,
        help="Largest norm of a unit's gradient in shares of the norm of its weights, 0.01 for example, applied before "
        "the other two; unset: none. arXiv:2102.06171.",
    )
    on_nonfinite: Literal["stop", "skip", "restore"] = Field(
        "stop",
        help="When loss or gradient is NaN or infinite: stop with an error, skip the update and count it, or restore "
        "the state of the beginning of the epoch and go on with a smaller learning rate.",
    )
    restore_times: int = Field(
        3, ge=1, advanced=True, help="With on_nonfinite: restore, so often in a run; the next time is an error."
    )
    restore_lr_factor: float = Field(
        0.5, gt=0, le=1, advanced=True, help="The learning rate is multiplied by this each time a state is restored."
    )
    out_of_memory: Literal["advise", "smaller"] = Field(
        "advise",
        help="When memory runs short: end and say what needs less, or compute each batch in smaller pieces that add up "
        "to the same update.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", help="auto: fp32 on CPU and MPS, bf16 on GPUs that have it."
    )
    seed: int = Field(42, ge=0, help="Seed of weights, sampling and augmentation.")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", help="Where to compute: auto, cpu, cuda, cuda:1 or mps."
    )
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp",
        advanced=True,
        help="With several processes: ddp: each holds the whole network; fsdp: each holds a share of its weights, "
        "gradients, averages and optimizer state, for networks whose training does not fit one device.",
    )
    sync_batch_norm: bool = Field(
        False,
        advanced=True,
        help="Let batch norm see the images of all processes, on GPUs; else each normalises over its own share.",
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
    ema: EmaConfig = Field(
        default_factory=EmaConfig, advanced=True, help="A running average of the weights that predicts in their place."
    )
    drop_path: DropPathConfig = Field(
        default_factory=DropPathConfig, advanced=True, help="How model.drop_path is reached over the epochs."
    )
    empty_cache_every: int | None = Field(
        None,
        ge=1,
        unit="batches",
        advanced=True,
        help="Batches after which memory that torch keeps for later goes back to the GPU; unset: never.",
    )
    deterministic: bool = Field(
        False,
        advanced=True,
        help="Only algorithms that give the same bits every time, slower on GPUs; operations that have none are "
        "refused.",
    )
    profile: bool = Field(
        False, advanced=True, help="Record where the time of some batches goes, in the folder profile of the run."
    )
    profile_batches: tuple[int, int] = Field(
        (10, 20), advanced=True, help="First and last batch that is recorded, counted from 1."
    )
    threads: int | None = Field(
        None,
        ge=1,
        unit="threads",
        help="CPU threads for the mathematics; unset: all cores, of 4 or more those without a loader process.",
    )
    channels_last: bool = Field(
        True,
        advanced=True,
        help="Keep the bands of a pixel side by side in memory: faster, but sums are rounded otherwise.",
    )
    keep_memory: bool = Field(
        True,
        advanced=True,
        help="On Linux: freed memory stays with the process instead of being cleared anew in each step. Faster, with 6 "
        "to 22 % more memory at its peak.",
    )
    validate_every: int = Field(
        1, ge=1, unit="epochs", help="Epochs from one validation to the next; the last epoch always."
    )

    @model_validator(mode="after")
    def _a_window_to_profile(self) -> TrainingConfig:
        first, last = self.profile_batches
        if not 1 <= first <= last:
            raise ValueError(
                f"profile_batches: {list(self.profile_batches)} is no window. Set the first and the last batch, for "
                "example [10, 20]"
            )
        return self
