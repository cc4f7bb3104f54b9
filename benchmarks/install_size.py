"""How large an installation is: the core by itself, and what each extra adds, from the files that pip wrote.

Run: ``.venv/bin/python benchmarks/install_size.py``. Sizes are those of the distributions installed here, added up over
what each needs on this platform; an extra whose packages are not all installed is marked.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
_GPU = re.compile(r"^(nvidia|cuda|triton)")  # what torch brings for GPUs on Linux


def plain(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def size_mb(name: str) -> float:
    """Megabytes of the files of a distribution; bytecode, which is written later, is left out."""
    files = metadata.distribution(name).files or []
    return sum(file.size or 0 for file in files if not str(file).endswith(".pyc")) / 1e6


def needed(requirements: Iterable[str]) -> tuple[set[str], set[str]]:
    """Installed distributions that satisfy requirements, with all that they need; and those that are not installed."""
    found: set[str] = set()
    missing: set[str] = set()
    waiting = [(text, frozenset[str]()) for text in requirements]
    seen = set(waiting)
    while waiting:
        text, extras = waiting.pop()
        asked = Requirement(text)
        if asked.marker and not any(asked.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        try:
            more = metadata.distribution(asked.name).requires or []
        except metadata.PackageNotFoundError:
            missing.add(plain(asked.name))
            continue
        found.add(plain(asked.name))
        entries = {(each, frozenset(asked.extras)) for each in more} - seen
        seen |= entries
        waiting += entries
    return found, missing


def main() -> None:
    """Print a table."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    core, missing = needed(project["dependencies"])
    gpu = {name for name in core if _GPU.match(name)}
    print(f"core: {len(core)} packages, {sum(map(size_mb, core)):.0f} MB{_lacking(missing)}")
    print(f"  of these torch's libraries for GPUs: {sum(map(size_mb, gpu)):.0f} MB")
    for name in sorted(core - gpu, key=size_mb, reverse=True)[:6]:
        print(f"  {name}: {size_mb(name):.0f} MB")
    for extra, requirements in project["optional-dependencies"].items():
        if extra == "dev":
            continue
        more, missing = needed(requirements)
        added = more - core
        print(f"[{extra}]: {len(added)} packages more, {sum(map(size_mb, added)):.0f} MB{_lacking(missing)}")


def _lacking(missing: set[str]) -> str:
    return f", not installed here: {', '.join(sorted(missing))}" if missing else ""


if __name__ == "__main__":
    main()
