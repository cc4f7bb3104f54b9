"""What a machine can do: the arithmetic of the figures and the shape of the report; no time is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maskwright.config.model import UNetConfig
from maskwright.errors import ConfigError, RunError
from maskwright.files import json_text
from maskwright.workflows.benchmark_machine import (
    MachineReport,
    Sizes,
    TrainingStep,
    _against,
    benchmark_machine,
    machine_rows,
)

TINY = Sizes(gemm=32, copy_mb=1, fault_mb=1, disk_mb=1, batch=2, size_px=32, repeats=1)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> MachineReport:
    networks = {"tiny": (UNetConfig(base_channels=4, depth=2), 1)}
    return benchmark_machine(tmp_path_factory.mktemp("disk"), sizes=TINY, device="cpu", threads=1, networks=networks)


def test_every_ceiling_is_its_work_over_its_time(report: MachineReport) -> None:
    works = {
        "matrix product fp32": 2 * 32**3 / 1e9,
        "matrix product bf16": 2 * 32**3 / 1e9,
        "memory copy": 2 * 1e6 / 1e9,
        "disk write": 1e6 / 1e9,
        "disk read": 1e6 / 1e9,
    }
    found = {one.name: one for one in report.ceilings}
    assert set(found) == {*works, "fresh memory"}

    for name, work in works.items():
        assert found[name].value * found[name].seconds == pytest.approx(work)


def test_a_step_counts_three_forward_passes_and_its_share_of_the_matrix_rate() -> None:
    step = _against("tiny", "fp32", seconds=0.5, multiply_adds=10**9, batch=4, rate=96.0)

    assert step == TrainingStep("tiny", "fp32", 0.5, 24.0, 48.0, 0.5, 8.0)


def test_each_network_is_trained_in_both_precisions(report: MachineReport) -> None:
    assert [(step.network, step.precision) for step in report.steps] == [("tiny", "fp32"), ("tiny", "bf16")]
    rates = {one.name: one.value for one in report.ceilings}
    for step in report.steps:
        assert step.share == pytest.approx(step.gflops / rates[f"matrix product {step.precision}"])


def test_the_table_has_a_row_for_each_figure_and_the_report_goes_to_json(report: MachineReport) -> None:
    head, rows = machine_rows(report)

    assert len(rows) == len(report.ceilings) + len(report.steps)
    assert all(len(row) == len(head) for row in rows)
    assert rows[-1][0] == "step, tiny, bf16"
    assert json.loads(json_text(report.to_dict()))["steps"][0]["network"] == "tiny"


def test_nothing_stays_on_the_disk(tmp_path: Path) -> None:
    benchmark_machine(tmp_path / "new", sizes=TINY, device="cpu", threads=1, networks={})

    assert list((tmp_path / "new").iterdir()) == []


def test_a_missing_device_and_a_full_path_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Available: auto, cpu"):
        benchmark_machine(tmp_path, sizes=TINY, device="cuda:9")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError):
        benchmark_machine(tmp_path / "file", sizes=TINY, device="cpu", threads=1, networks={})
