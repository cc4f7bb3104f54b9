"""What a training will take: memory, disk and minutes, from two or three measured steps.

Memory of the process = weights x (1 + 1 gradient + 2 sums of the optimizer) x 4 bytes
                      + batch x bytes kept for the backward pass by one sample (measured) x 1.3 for scratch space
                      + twice the batch itself + what Python and torch need at rest.
Disk = decoded planes of all images + checkpoints kept x (weights and two sums) + the model.
Minutes = epochs x (training samples x seconds of one + validation tiles x seconds of one without training)
          + test tiles.
The measurement is short, so minutes are good to a factor of about 1.5 and memory to about 30 %.
"""

from __future__ import annotations

import shutil
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from maskwright.config import Experiment
from maskwright.data.cache import default_cache_folder
from maskwright.data.preflight import Finding
from maskwright.data.sources.images import ImageScenes
from maskwright.devices import choose_device, choose_precision
from maskwright.types import Batch

if TYPE_CHECKING:
    from maskwright.data.loaders import EvalLoader, TrainLoader
    from maskwright.data.sources.rasters import HeightRasters

__all__ = ["Forecast", "forecast", "forecast_findings"]

_AT_REST_MB = {"cpu": 450.0, "cuda": 700.0, "mps": 500.0}
_SCRATCH = 1.3
_MEASURED = 2  # samples in a measured step; two, since batch normalisation needs them
_PATIENCE_S = 3.0
_MOST_STEPS = 3
_MB = 1e6


@dataclass(frozen=True)
class Forecast:
    """What a training will take.

    Attributes:
        device: Where it would run.
        parameters: Weights of the network.
        receptive_field_px: Of its convolutions, whatever its normalisation looks at; None: anywhere, or unknown.
        has_batch_norm: True if it normalises over the batch.
        steps_per_epoch: Updates in an epoch.
        epochs: Passes.
        sample_s: Seconds of one training sample, loading included.
        eval_s: Seconds of one tile without training.
        minutes: In all, validation and test included.
        memory_mb: Of the process at its most; on a GPU of the GPU.
        activations_mb: Kept for the backward pass by one sample.
        free_memory_mb: What the device has free now.
        disk_mb: Cache and checkpoints.
        cache_mb: Decoded planes alone.
        free_disk_mb: Free where checkpoints go.
    """

    device: str
    parameters: int
    receptive_field_px: int | None
    has_batch_norm: bool
    steps_per_epoch: int
    epochs: int
    sample_s: float
    eval_s: float
    minutes: float
    memory_mb: float
    activations_mb: float
    free_memory_mb: float
    disk_mb: float
    cache_mb: float
    free_disk_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def forecast(
    experiment: Experiment,
    task: Any,
    source: HeightRasters | ImageScenes,
    train: TrainLoader,
    evals: dict[str, EvalLoader],
) -> tuple[Forecast, Batch]:
    """Measure two or three training steps and say what the whole training will take.

    Args:
        experiment: The whole run.
        task: Its task.
        source: Where pixels come from.
        train: Its training loader.
        evals: Its other loaders.

    Returns:
        The forecast, and the first training batch.
    """
    device = choose_device(experiment.training.device)
    started = time.perf_counter()
    batch = next(iter(train.batches(0)))
    load_s = (time.perf_counter() - started) / len(batch)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = task.build_model(experiment.model, source.in_channels, experiment.data.loader.batch_size).to(device)
    small = _first_samples(batch, _MEASURED).to(device)
    precision = choose_precision(experiment.training.precision, device)
    kept_bytes, step_s, eval_s = _measured(network, task, small, precision)
    parameters = sum(weight.numel() for weight in network.parameters())
    size = experiment.data.loader.batch_size
    batch_bytes = sum(part.numel() * part.element_size() for part in (batch.image, batch.target, batch.valid))
    memory = 16.0 * parameters + size * kept_bytes * _SCRATCH + 2.0 * batch_bytes / len(batch) * size
    cache_bytes = source.cache_bytes
    keeping = experiment.checkpoints
    disk = cache_bytes + (keeping.max_checkpoints + 1) * 12.0 * parameters + 4.0 * parameters
    epochs, samples = experiment.training.epochs, len(train.plan)
    tiles = {part: len(loader.places) for part, loader in evals.items()}
    validations = -(-epochs // experiment.training.validate_every)
    seconds = epochs * samples * (step_s + load_s) + (validations * tiles["val"] + tiles["test"]) * (eval_s + load_s)
    return (
        Forecast(
            device=str(device),
            parameters=parameters,
            receptive_field_px=_reach(experiment, task, source.in_channels),
            has_batch_norm=any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in network.modules()),
            steps_per_epoch=-(-len(train) // experiment.training.accumulate),
            epochs=epochs,
            sample_s=step_s + load_s,
            eval_s=eval_s + load_s,
            minutes=seconds / 60,
            memory_mb=memory / _MB + _AT_REST_MB.get(device.type, 500.0),
            activations_mb=kept_bytes / _MB,
            free_memory_mb=_free_memory(device) / _MB,
            disk_mb=disk / _MB,
            cache_mb=cache_bytes / _MB,
            free_disk_mb=_free_disk(experiment.tracking.output_dir) / _MB,
        ),
        batch,
    )


def forecast_findings(plan: Forecast, batch_size: int) -> list[Finding]:
    """Memory or disk that will not do, and a training of days."""
    findings = []
    numbers = {"memory_mb": plan.memory_mb, "free_mb": plan.free_memory_mb}
    if plan.memory_mb > 0.9 * plan.free_memory_mb:
        better = max(1, int(batch_size * 0.7 * plan.free_memory_mb / plan.memory_mb))
        findings.append(
            Finding(
                "warning",
                "memory_short",
                plan.device,
                f"Training will need about {plan.memory_mb:.0f} MB, and {plan.free_memory_mb:.0f} MB are free.",
                f"Set data.loader.batch_size: {better} with training.accumulate: {-(-batch_size // better)}, smaller "
                "tiles, or model.base_channels.",
                numbers,
            )
        )
    if plan.disk_mb > 0.95 * plan.free_disk_mb:
        findings.append(
            Finding(
                "warning",
                "disk_short",
                "",
                f"Cache and checkpoints need about {plan.disk_mb:.0f} MB, and {plan.free_disk_mb:.0f} MB are free.",
                "Make room, set data.cache.folder or tracking.output_dir to another disk, or lower "
                "checkpoints.max_checkpoints.",
                {"disk_mb": plan.disk_mb, "free_mb": plan.free_disk_mb},
            )
        )
    if plan.minutes > 24 * 60:
        findings.append(
            Finding(
                "note",
                "takes_long",
                plan.device,
                f"{plan.epochs} epochs will take about {plan.minutes / 60:.0f} hours on {plan.device}.",
                "Use a GPU, fewer training.epochs, or data.loader.samples_per_epoch.",
                {"minutes": plan.minutes},
            )
        )
    return findings


def _reach(experiment: Experiment, task: Any, in_channels: int) -> int | None:
    """How far the convolutions of the network see; a normalisation over the whole tile shows no shapes."""
    config = experiment.model.bare()
    if hasattr(config, "norm"):
        config = config.model_copy(update={"norm": "batch"})
    with torch.device("meta"):
        network = task.build_model(config, in_channels, 1)
    reach: int | None = getattr(network, "receptive_field_px", None)
    return reach


def _measured(network: torch.nn.Module, task: Any, batch: Batch, precision: str) -> tuple[float, float, float]:
    """Bytes one sample keeps for the backward pass, seconds of one sample with training, and without."""
    device = batch.image.device
    low = precision != "fp32"
    kind = torch.bfloat16 if precision == "bf16" else torch.float16

    def forward() -> Any:
        with torch.autocast(device.type, dtype=kind) if low else nullcontext():
            return network(batch.image, batch.condition)

    kept = _Kept(network)
    network.train()
    started = time.perf_counter()
    steps: list[float] = []
    for number in range(_MOST_STEPS):
        begun = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack) if number == 0 else nullcontext():
            total = task.loss(forward(), batch).total
        total.backward()
        network.zero_grad(set_to_none=True)
        _wait(device)
        steps.append(time.perf_counter() - begun)
        if time.perf_counter() - started > _PATIENCE_S:
            break
    network.eval()
    with torch.inference_mode():
        begun = time.perf_counter()
        forward()
        _wait(device)
        eval_s = time.perf_counter() - begun
    return kept.bytes / len(batch), min(steps) / len(batch), eval_s / len(batch)


class _Kept:
    """Counts the memory behind tensors that autograd saves; weights and what was counted before add nothing."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.bytes = 0
        self._seen = {weight.untyped_storage().data_ptr() for weight in network.parameters()}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor

    def unpack(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


def _first_samples(batch: Batch, count: int) -> Batch:
    """The first samples of a batch; a single one twice."""
    index = torch.arange(count, device=batch.image.device) % len(batch)
    mix = None
    condition = None if batch.condition is None else batch.condition[index]
    where = tuple(batch.where[int(i)] for i in index)
    return replace(
        batch,
        image=batch.image[index],
        target=batch.target[index],
        valid=batch.valid[index],
        condition=condition,
        where=where,
        instances=None if batch.instances is None else [batch.instances[int(i)] for i in index],
        mix=mix,
        maps=None if batch.maps is None else {name: values[index] for name, values in batch.maps.items()},
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    return float(psutil.virtual_memory().available)


def _free_disk(folder: Path) -> float:
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return float(min(shutil.disk_usage(place).free, shutil.disk_usage(_existing(default_cache_folder())).free))


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
