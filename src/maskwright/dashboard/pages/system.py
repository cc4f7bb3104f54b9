"""System: how busy the machine of the run is, now and since it began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from maskwright.dashboard.charts import gauge, resource_chart
from maskwright.dashboard.frames import metadata_frame
from maskwright.dashboard.view import View, chart, table
from maskwright.tracking.facts import clock_text, duration_text

__all__ = ["gauges", "show"]

_GPU = {"gpu_memory_mb": "in use", "gpu_memory_most_mb": "most so far"}


def show(view: View) -> None:
    """Draw the page; it draws itself anew while it is open."""
    st.title("System")

    def draw() -> None:
        run = view.look()
        if run is None:
            return
        rows = run.of_kind("resources")
        if rows:
            _now(rows[-1])
            _history(rows)
        else:
            st.info("The run has not sampled its machine yet; it does every few seconds of training.")
        st.subheader("Machine and versions")
        table(metadata_frame(run.fields), "machine", otherwise="run.json says nothing of the machine.")

    view.live(draw)


def gauges(row: Mapping[str, Any]) -> list[tuple[str, float, float, str]]:
    """Label, value, top and unit of each level that a sample holds."""
    total_gb = _number(row, "memory_total_mb") / 1024
    used_gb = _number(row, "memory_used_mb") / 1024
    found = [
        ("Processor", _number(row, "cpu_percent"), 100.0, "%"),
        ("Memory", used_gb, max(total_gb, used_gb, 1.0), "GB"),
        ("Waiting for data", 100 * _number(row, "data_wait_share"), 100.0, "%"),
    ]
    if "gpu_percent" in row:
        found.append(("GPU", _number(row, "gpu_percent"), 100.0, "%"))
    if "gpu_memory_mb" in row:
        in_use = _number(row, "gpu_memory_mb") / 1024
        top = _number(row, "gpu_memory_total_mb") or _number(row, "gpu_memory_most_mb")
        found.append(("GPU memory", in_use, max(top / 1024, in_use, 1.0), "GB"))
    return found


def _now(row: Mapping[str, Any]) -> None:
    levels = gauges(row)
    for place, (column, level) in enumerate(zip(st.columns(len(levels)), levels, strict=True)):
        with column.container(border=True):
            st.plotly_chart(gauge(*level), key=f"gauge_{place}", config={"displayModeBar": False})
    speed = f"{_number(row, 'images_per_s'):.3g} images/s, {duration_text(_number(row, 'epoch_s'))} an epoch"
    disk = f"{_number(row, 'disk_free_mb') / 1024:,.0f} GB free on the disk of the run"
    st.caption(f"Sampled {clock_text(row.get('time'))} UTC · {speed} · {disk}")


def _history(rows: list[dict[str, Any]]) -> None:
    left, right = st.columns(2)
    in_gb = [
        row
        | {name: value / 1024 for name, value in row.items() if name.endswith("_mb") and isinstance(value, int | float)}
        for row in rows
    ]
    shares = [row | {"data_wait_share": 100 * _number(row, "data_wait_share")} for row in rows]
    with left:
        busy = {"cpu_percent": "whole machine", "process_cpu_percent": "this run (100: one core)"}
        chart("Processor", resource_chart(rows, busy, "%"), "cpu")
        chart("Images a second", resource_chart(rows, {"images_per_s": "images/s"}, "images/s"), "speed")
    with right:
        memory = {"memory_used_mb": "whole machine", "process_memory_mb": "this run"}
        chart("Memory", resource_chart(in_gb, memory, "GB"), "memory")
        waits = {"data_wait_share": "waiting"}
        chart("Share of the time spent waiting for data", resource_chart(shares, waits, "%"), "waits")
    if any(name in rows[-1] for name in _GPU):
        chart("GPU memory", resource_chart(in_gb, _GPU, "GB"), "gpu")


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
