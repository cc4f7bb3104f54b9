"""Runs the benchmarks one after another and writes their figures as one table, ``benchmarks/table.md``, for the docs.

    make bench                                             # all of them, within 40 minutes on 2 cores
    .venv-bench/bin/python benchmarks/table.py --only losses metrics
    .venv-bench/bin/python benchmarks/table.py --write     # the table alone, from what earlier runs kept

A script that fails does not stop the others; it is named at the end. Figures that were not made anew stay in the table
with their own date.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rows import FOLDER, Row

HERE = Path(__file__).resolve().parent
TABLE = HERE / "table.md"
SCRIPTS: dict[str, tuple[str, ...]] = {
    "training_step": ("training_step.py",),
    "training": ("training.py",),
    "windows": ("data.py", "windows", "--rounds", "5"),
    "augment": ("data.py", "augment"),
    "losses": ("losses.py",),
    "metrics": ("metrics.py",),
    "raster_25": ("prediction.py", "--size", "4096", "--overlap", "0.25", "--repeats", "2"),
    "raster_50": (
        *("prediction.py", "--size", "4096", "--overlap", "0.5", "--repeats", "1"),
        *("--only", "maskwright", "bare", "monai"),
    ),
    "raster_memory": (
        *("prediction.py", "--growth", "2048", "8192", "--overlap", "0.25", "--repeats", "1"),
        *("--only", "maskwright"),
    ),
    "start_up": ("start_up.py",),
    "logging_cost": ("logging_cost.py",),
    "event_log": ("event_log.py", "--steps", "1000000", "10000000", "--repeats", "3"),
}
HEAD = "| work | against | others | reached | goal | |\n|---|---|---|---|---|---|"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SCRIPTS), default=list(SCRIPTS))
    parser.add_argument("--write", action="store_true", help="write the table from what earlier runs kept")
    options = parser.parse_args()
    failed = [] if options.write else [name for name in options.only if not run(name)]
    TABLE.write_text("\n".join(table(kept())) + "\n")
    print(f"{TABLE} is written.")
    if failed:
        raise SystemExit(f"These failed: {', '.join(failed)}")


def run(name: str) -> bool:
    script, *words = SCRIPTS[name]
    print(f"== {name}", flush=True)
    began_s = time.perf_counter()
    ended = subprocess.run([sys.executable, str(HERE / script), *words, "--json", name], check=False)
    print(f"== {name}: {(time.perf_counter() - began_s) / 60:.1f} min", flush=True)
    return ended.returncode == 0


def kept() -> dict[str, dict[str, Any]]:
    """What the scripts kept, in the order above."""
    paths = {name: FOLDER / f"{name}.json" for name in SCRIPTS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}


def table(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The lines of the page: machine and versions, the table, the commands."""
    for about in dict.fromkeys(entry["machine"] for entry in found.values()):
        yield f"Machine: {about}, no GPU used."
    versions = {peer: version for entry in found.values() for peer, version in entry["versions"].items()}
    yield f"Versions: {', '.join(f'{peer} {version}' for peer, version in sorted(versions.items()))}.\n"
    yield HEAD
    for entry in found.values():
        yield from (line(Row(**row)) for row in entry["rows"])
    yield "\nEach with its command, its date and the load of the machine when it ended:\n"
    for entry in found.values():
        yield f"- `{entry['command']}` ({entry['date']}, load {entry['load']})"


def line(row: Row) -> str:
    sign = "<=" if row.at_most else ">="
    goal = "" if row.goal is None else f"{sign} {shown(row.goal, row.unit)}"
    verdict = "" if row.goal is None else "reached" if row.missing <= 0.05 else f"missed by {row.missing:.0%}"
    return f"| {row.work} | {row.against} | {row.others} | **{shown(row.reached, row.unit)}** | {goal} | {verdict} |"


def shown(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    number = f"{value:.{digits}f}"
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number} {unit}"


if __name__ == "__main__":
    main()
