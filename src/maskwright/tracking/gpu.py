"""Load, memory, heat and power of an NVIDIA GPU, asked of its driver; no package needed, and no torch.

The driver's library is called directly: the tool ``nvidia-smi`` would take a process for every sample.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from typing import Any

__all__ = ["GpuSampler"]

log = logging.getLogger(__name__)

_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_TEMPERATURE_OF_CHIP = 0


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class GpuSampler:
    """Takes samples of one GPU; where the driver does not answer they are empty, said once in the log.

    Args:
        uuid: Which GPU, as torch names it: numbers in the environment (CUDA_VISIBLE_DEVICES) count otherwise than the
            driver does.
        library: The driver's library; unset: that of this computer.
    """

    def __init__(self, uuid: str, library: Any = None) -> None:
        self._library: Any = None
        self._device = ctypes.c_void_p()
        try:
            self._library = ctypes.CDLL(_LIBRARY) if library is None else library
            name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
            self._ask("nvmlInit_v2")
            self._ask("nvmlDeviceGetHandleByUUID", name.encode(), ctypes.byref(self._device))
        except (OSError, AttributeError) as error:
            log.info("The load of the GPU is not known: %s", error)
            self._library = None

    def sample(self) -> dict[str, float]:
        """Now.

        Returns:
            ``gpu_percent`` (0..100, share of the last moments in which it worked), ``gpu_memory_used_mb`` (of all
            processes), ``gpu_memory_total_mb``, ``gpu_temperature_c``, ``gpu_power_w``; without what it does not tell.
        """
        if self._library is None:
            return {}
        facts: dict[str, float] = {}
        load, memory = _Utilisation(), _Memory()
        heat, power = ctypes.c_uint(), ctypes.c_uint()
        if self._tells("nvmlDeviceGetUtilizationRates", ctypes.byref(load)):
            facts["gpu_percent"] = float(load.gpu)
        if self._tells("nvmlDeviceGetMemoryInfo", ctypes.byref(memory)):
            facts |= {"gpu_memory_used_mb": memory.used / 2**20, "gpu_memory_total_mb": memory.total / 2**20}
        if self._tells("nvmlDeviceGetTemperature", _TEMPERATURE_OF_CHIP, ctypes.byref(heat)):
            facts["gpu_temperature_c"] = float(heat.value)
        if self._tells("nvmlDeviceGetPowerUsage", ctypes.byref(power)):
            facts["gpu_power_w"] = power.value / 1000
        return facts

    def _tells(self, function: str, *arguments: Any) -> bool:
        try:
            self._ask(function, self._device, *arguments)
        except (OSError, AttributeError):  # cards without that sensor, and parts of cards
            return False
        return True

    def _ask(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code != 0:
            raise OSError(f"{function} of the driver answered {code}")
