from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from maskwright.tracking import SystemSampler


def test_a_sample_agrees_with_the_system(tmp_path: Path) -> None:
    sampler = SystemSampler(tmp_path)
    sum(range(10**6))
    sample = sampler.sample()
    assert set(sample) == {
        "cpu_percent",
        "process_cpu_percent",
        "process_memory_mb",
        "memory_used_mb",
        "memory_total_mb",
        "disk_free_mb",
    }
    assert all(isinstance(value, float) for value in sample.values())
    assert sample["memory_total_mb"] == psutil.virtual_memory().total / 2**20
    assert 0 < sample["process_memory_mb"] < sample["memory_total_mb"]
    assert 0 < sample["memory_used_mb"] < sample["memory_total_mb"]
    assert 0 <= sample["cpu_percent"] <= 100
    space = os.statvfs(tmp_path)
    assert sample["disk_free_mb"] == pytest.approx(space.f_bavail * space.f_frsize / 2**20, rel=0.05)
