"""Rows of the table of figures: what a script measured, kept as JSON until ``table.py`` writes them as one page."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

__all__ = ["FOLDER", "Row", "add_json_option", "keep_rows", "machine"]

FOLDER = Path(__file__).resolve().parents[1] / "outputs" / "benchmarks"
PEERS = (
    "accelerate", "albumentations", "kornia", "lightning", "mlflow-skinny", "monai", "nnunetv2", "rasterio",
    "segmentation_models_pytorch", "torch", "torchgeo", "torchmetrics", "torchvision",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        work: What was done.
        reached: The figure.
        unit: ``x`` for a ratio, else ms, s, MiB, windows/s ...
        against: What counts as 1 of a ratio; empty: the figure stands alone.
        others: What further contestants reached, as text.
        goal: What was to be reached; None: only told.
        at_most: True if less is better.
    """

    work: str
    reached: float
    unit: str = "x"
    against: str = ""
    others: str = ""
    goal: float | None = None
    at_most: bool = False

    @property
    def missing(self) -> float:
        """The share by which the goal is missed, 0 or more; what is missed by less than 0.05 counts as reached."""
        if self.goal is None:
            return 0.0
        return max(0.0, self.reached / self.goal - 1 if self.at_most else 1 - self.reached / self.goal)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json NAME``: under which name the rows are kept."""
    parser.add_argument("--json", help="keep the rows for the table under this name, in outputs/benchmarks")


def keep_rows(name: str | None, rows: Sequence[Row]) -> None:
    """Keep the rows with command, date, machine and versions; no name: nowhere."""
    if name is None:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    asked = sys.argv.index("--json")
    words = sys.argv[1:asked] + sys.argv[asked + 2 :]
    kept = {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words]),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "versions": {peer: metadata.version(peer) for peer in PEERS if _installed(peer)},
        "rows": [asdict(row) for row in rows],
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(kept, indent=1))


def machine() -> str:
    """Processor, cores, memory, system and Python, in words."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    python = platform.python_version()
    return f"{cpu}, {os.cpu_count()} cores{memory}; {platform.system()}; Python {python}"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
