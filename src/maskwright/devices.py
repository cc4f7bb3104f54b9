"""What is settled at the start: device, precision, threads, loader processes, memory and its layout, random seeds.

Torch is imported when a function needs it, so that reading this file costs nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import random
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from typing import TypeVar

    import torch
    from torch import nn

    Model = TypeVar("Model", bound=nn.Module)

__all__ = [
    "Precision",
    "Workers",
    "available_devices",
    "choices_in_words",
    "choose_device",
    "choose_precision",
    "choose_workers",
    "keep_memory",
    "network_choices",
    "prepare_environment",
    "prepare_model",
    "prepare_process",
    "seed_everything",
    "settle_process",
    "usable_cores",
]

Precision = Literal["fp32", "bf16", "fp16"]
Workers = int | Literal["auto"]

_MOST_WORKERS = 8
_KEPT = "keeps freed memory"

# glibc's malloc.h: parameters of mallopt.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_LARGEST_INT = 2**31 - 1


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name.

    Args:
        name: ``auto`` (cuda if there is one, else mps, else cpu), ``cpu``, ``mps``, ``cuda`` (the first), ``cuda:1``.

    Raises:
        ConfigError: If this machine does not have it; names those it has.
    """
    import torch

    available = available_devices()
    if name == "auto":
        return torch.device(available[-1] if available[-1] in ("cpu", "mps") else "cuda:0")
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in available:
        known = re.fullmatch(r"cpu|mps|cuda:\d+", wanted) is not None
        problem = "is not on this machine" if known else "is no device"
        raise ConfigError(f"training.device: {name!r} {problem}. Available: auto, {', '.join(available)}.")
    return torch.device(wanted)


def available_devices() -> tuple[str, ...]:
    """Names of the devices of this machine: cpu always, then mps or each cuda device."""
    import torch

    mps = ("mps",) if torch.backends.mps.is_available() else ()
    cuda = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    return ("cpu", *mps, *cuda)


def choose_precision(requested: str, device: torch.device) -> Precision:
    """The precision of the forward pass on a device.

    Args:
        requested: ``auto`` (bf16 on cuda devices that have it, else fp32), ``fp32``, ``bf16`` or ``fp16``.
        device: As of ``choose_device``.

    Raises:
        ConfigError: If the device cannot train in the precision asked for.
    """
    has_bf16 = _has_bf16(device)
    if requested == "auto":
        return "bf16" if device.type == "cuda" and has_bf16 else "fp32"
    if requested == "fp32":
        return "fp32"
    if requested == "bf16":
        if not has_bf16:
            raise ConfigError(f"training.precision: bf16 is not available on {device}. Use auto or fp32.")
        return "bf16"
    if requested == "fp16":
        if device.type != "cuda":
            other = "bf16 or fp32" if has_bf16 else "fp32"
            raise ConfigError(f"training.precision: fp16 trains on cuda only, the device is {device}. Use {other}.")
        return "fp16"
    raise ConfigError(f"training.precision: {requested!r} is unknown. Available: auto, fp32, bf16, fp16.")


def _has_bf16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu"


def prepare_environment() -> None:
    """What must be settled before torch is loaded: threads that wait for others soon go to sleep.

    GNU's OpenMP lets them spin for long by default. A spinning thread keeps the core that the one it waits for needs,
    so with other work on the machine a training step takes half as long again or more; alone on the machine a short
    spin is as fast. For processes that Maskwright starts; a wish of the user's stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def prepare_process(threads: int | None = None, *, allocator: bool = True, loading: int = 0) -> dict[str, object]:
    """Settle what belongs to a whole process: threads of the mathematics and how memory is kept.

    For processes that Maskwright starts; in a host program only if it asks for it.

    Args:
        threads: CPU threads; None: ``OMP_NUM_THREADS``, else all cores this process may use, less those that load.
        allocator: False leaves the memory allocator alone.
        loading: Loader processes beside it; they get cores of their own where there are 4 or more.

    Returns:
        What was chosen, plain values for ``run.json``: ``threads``, ``allocator``.
    """
    import torch

    count = threads if threads is not None else _threads_beside(loading)
    torch.set_num_threads(count)
    kept = allocator and keep_memory()
    return {"threads": count, "allocator": _KEPT if kept else "unchanged"}


def settle_process(
    threads: int | None, own_process: bool, allocator: bool = True, *, loading: int = 0
) -> dict[str, object]:
    """Threads and memory for a piece of work; in a host's process only the threads, and only if it named a number.

    Args:
        threads: CPU threads asked for; None: all usable cores, or what the host has chosen.
        own_process: True if the process exists for this work alone.
        allocator: False leaves the memory allocator alone.
        loading: As of :func:`prepare_process`.

    Returns:
        As :func:`prepare_process`.
    """
    if own_process or threads is not None:
        return prepare_process(threads, allocator=own_process and allocator, loading=loading)
    import torch

    return {"threads": torch.get_num_threads(), "allocator": "unchanged"}


def _threads_beside(loading: int) -> int:
    """Threads of the mathematics beside so many loader processes."""
    wish = os.environ.get("OMP_NUM_THREADS", "")
    if wish.isdecimal() and int(wish) > 0:
        return int(wish)
    cores = usable_cores()
    # With 2 or 3 cores a core that is given away is missed more than a loader disturbs.
    return max(1, cores - loading) if cores >= 4 else cores


def usable_cores() -> int:
    """Cores that the system grants this process."""
    if hasattr(os, "sched_getaffinity"):  # absent on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_workers(workers: Workers, *, cached: bool, on_cpu: bool = False, cores: int | None = None) -> int:
    """How many loader processes to use.

    Reading decoded tiles from memory-mapped files is faster than sending them between processes, and changes are made
    on the batch's device, so ``auto`` is 0 where everything is decoded once. Where files are decoded on the fly it is
    all cores but one beside a GPU; where the cores also train, a quarter of them, at least 1. At most 8.

    Args:
        workers: A number is taken as it is.
        cached: True if reading needs no decoding.
        on_cpu: True if the mathematics runs on the same cores.
        cores: Cores that may be used; None: what the system grants this process.
    """
    if workers != "auto":
        return workers
    cores = cores or usable_cores()
    if cached or cores == 1:
        return 0
    return min(_MOST_WORKERS, max(1, cores // 4) if on_cpu else cores - 1)


def network_choices(*, workers: int, channels_last: bool, compile: str) -> dict[str, object]:
    """What was chosen beside :func:`settle_process`, as plain values for ``run.json``."""
    return {"workers": workers, "layout": "channels last" if channels_last else "channels first", "compile": compile}


def choices_in_words(choices: Mapping[str, Any]) -> str:
    """The choices of a start as one line: ``2 threads, keeps freed memory, channels last, no loader processes``."""
    words = [f"{choices['threads']} thread{'' if choices['threads'] == 1 else 's'}"]
    if choices.get("allocator") == _KEPT:
        words.append(_KEPT)
    if "layout" in choices:
        words.append(choices["layout"])
    if "workers" in choices:
        count = choices["workers"] or "no"
        words.append(f"{count} loader process{'' if count == 1 else 'es'}")
    if choices.get("compile", "off") != "off":
        words.append(f"compiled ({choices['compile']})")
    return ", ".join(words)


def keep_memory() -> bool:
    """Tell glibc to keep freed memory instead of handing it back; True if it took the order, False elsewhere.

    By default every large activation is taken from the kernel anew in each step and cleared page by page, which costs
    as much as the mathematics: a training step takes about 1.6 times as long. Results are the same, bit for bit; the
    peak of memory rises by 6 to 22 %.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # One store for all threads: those that glibc gives further threads hand their memory back whatever is set.
    one_store = bool(mallopt(_M_ARENA_MAX, 1))
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)) and one_store


def prepare_model(model: Model, device: torch.device, *, channels_last: bool = True) -> Model:
    """Move a network to a device, channels last: its convolutions run about 1.5 times as fast that way."""
    import torch

    model.to(device=device)
    model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return model


def seed_everything(seed: int) -> None:
    """Seed the random generators of Python, numpy and torch, on all devices.

    Args:
        seed: 0 or more.
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries beneath us may draw from the global generator
    torch.manual_seed(seed)
