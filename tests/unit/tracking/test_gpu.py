"""The driver of a GPU is asked directly; a fake one answers here."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from maskwright.tracking.gpu import GpuSampler

_NOT_SUPPORTED = 3


class Driver:
    """Answers as the driver's library does: a code, and values written where the caller says."""

    def __init__(self, *, has_power: bool = True, knows: bytes = b"GPU-ab12") -> None:
        self.has_power, self.knows = has_power, knows

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, name: bytes, handle: Any) -> int:
        return 0 if name == self.knows else 6

    def nvmlDeviceGetUtilizationRates(self, device: Any, answer: Any) -> int:
        answer._obj.gpu, answer._obj.memory = 87, 12
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: Any, answer: Any) -> int:
        answer._obj.total, answer._obj.used = 80 * 2**30, 3 * 2**30
        return 0

    def nvmlDeviceGetTemperature(self, device: Any, sensor: int, answer: Any) -> int:
        assert sensor == 0
        answer._obj.value = 61
        return 0

    def nvmlDeviceGetPowerUsage(self, device: Any, answer: Any) -> int:
        answer._obj.value = 350_500  # milliwatts
        return 0 if self.has_power else _NOT_SUPPORTED


def test_load_memory_heat_and_power_have_their_units() -> None:
    assert GpuSampler("ab12", Driver()).sample() == {
        "gpu_percent": 87.0,
        "gpu_memory_used_mb": 3072.0,
        "gpu_memory_total_mb": 81920.0,
        "gpu_temperature_c": 61.0,
        "gpu_power_w": 350.5,
    }


def test_a_card_without_a_sensor_tells_the_rest() -> None:
    sample = GpuSampler("GPU-ab12", Driver(has_power=False)).sample()
    assert "gpu_power_w" not in sample
    assert sample["gpu_percent"] == 87.0


def test_without_driver_or_card_there_is_no_sample_and_one_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with caplog.at_level("INFO", "maskwright"):
        assert GpuSampler("ab12").sample() == {}
        assert GpuSampler("other", Driver()).sample() == {}
    assert ["cannot open" in caplog.messages[0], "answered 6" in caplog.messages[1]] == [True, True]
