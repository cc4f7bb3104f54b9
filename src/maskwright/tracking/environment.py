"""Where a run happens: computer, Python, package versions, commit; and marks that tell living processes from dead ones.

Nothing is imported to learn its version, so this answers in milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
import sys
from importlib import metadata
from pathlib import Path

import psutil

__all__ = ["commit_of", "describe_environment", "is_running", "package_versions", "process_mark"]

_PACKAGES = (
    "maskwright",
    "numpy",
    "opencv-python-headless",
    "pydantic",
    "rasterio",
    "safetensors",
    "scipy",
    "segmentation-models-pytorch",
    "timm",
    "torch",
    "torchvision",
)


def describe_environment(folder: Path | None = None, **facts: object) -> dict[str, object]:
    """What a reader of the run needs to judge or repeat it.

    Args:
        folder: Folder whose git commit is noted; the working directory unless given.
        facts: More facts, added as they are (for example what torch knows of the GPU).

    Returns:
        Plain values: ``host``, ``system``, ``python``, ``cpu``, ``cores`` (physical; None if unknown), ``threads``
        (logical), ``memory_mb``, ``versions``, ``commit`` (None outside a git tree), ``command``, ``working_dir``.
    """
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "versions": package_versions(),
        "commit": commit_of(folder or Path.cwd()),
        "command": list(sys.argv),
        "working_dir": str(Path.cwd()),
        **facts,
    }


def package_versions(names: tuple[str, ...] = _PACKAGES) -> dict[str, str]:
    """Versions of those of ``names`` that are installed, found without importing them."""
    versions = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def commit_of(folder: Path) -> str | None:
    """The git commit checked out in ``folder`` or above it, read from git's own files; None if there is none."""
    folder = folder.absolute()
    for candidate in (folder, *folder.parents):
        git = candidate / ".git"
        if not git.exists():
            continue
        try:
            return _commit_in(_git_dir(git))
        except (OSError, UnicodeDecodeError):
            return None  # a tree we may not read, or not git's
    return None


def process_mark(pid: int) -> str | None:
    """A text that no other process carries, even one that is given the same number later; None if none lives.

    Linux counts a start from the boot, which setting the clock does not move; elsewhere the start time serves.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _process_mark_by_time(pid)
    fields = stat.rpartition(")")[2].split()  # the name in brackets may hold spaces
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def is_running(pid: int, mark: str) -> bool:
    """Whether the process that got ``mark`` from :func:`process_mark` still runs on this computer."""
    return process_mark(pid) == mark


def _process_mark_by_time(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def _git_dir(git: Path) -> Path:
    if git.is_dir():
        return git
    target = git.read_text().removeprefix("gitdir:").strip()  # a worktree or submodule points elsewhere
    return Path(os.path.normpath(git.parent / target))


def _commit_in(git_dir: Path) -> str | None:
    head = (git_dir / "HEAD").read_text().strip()
    if not head.startswith("ref:"):
        return head
    ref = head.removeprefix("ref:").strip()
    common = git_dir / "commondir"
    shared = git_dir / common.read_text().strip() if common.exists() else git_dir
    for base in (git_dir, shared):
        if (base / ref).exists():
            return (base / ref).read_text().strip()
    packed = shared / "packed-refs"
    lines = packed.read_text().splitlines() if packed.exists() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), None)
