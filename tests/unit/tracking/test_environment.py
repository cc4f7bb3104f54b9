from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from maskwright.tracking import describe_environment
from maskwright.tracking.environment import commit_of, is_running, process_mark

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_environment_is_plain_and_says_what_matters() -> None:
    described = describe_environment(gpu="none")
    assert json.loads(json.dumps(described)) == described
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))
    assert described["threads"] == os.cpu_count()
    assert described["gpu"] == "none"
    assert described["cpu"]
    assert isinstance(described["versions"], dict)
    assert {"numpy", "torch"} <= set(described["versions"])


def test_tracking_imports_nothing_heavy() -> None:
    script = (
        "import sys, maskwright.tracking as t; t.describe_environment()\n"
        "print([name for name in ('torch', 'numpy', 'rasterio', 'scipy', 'cv2', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_commit_is_found_as_branch_packed_or_detached(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    inner = tmp_path / "src" / "deep"
    inner.mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit_of(inner) is None  # nothing committed yet
    (git / "packed-refs").write_text(f"# pack-refs\n{'f' * 40} refs/heads/other-main\n{COMMIT} refs/heads/main\n")
    assert commit_of(inner) == COMMIT
    (git / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    assert commit_of(inner) == "a" * 40
    (git / "HEAD").write_text(COMMIT + "\n")
    assert commit_of(inner) == COMMIT


def test_the_commit_of_a_worktree_is_its_own(tmp_path: Path) -> None:
    git = tmp_path / "main" / ".git"
    own = git / "worktrees" / "side"
    (git / "refs" / "heads").mkdir(parents=True)
    own.mkdir(parents=True)
    (git / "refs" / "heads" / "side").write_text(COMMIT)
    (own / "HEAD").write_text("ref: refs/heads/side")
    (own / "commondir").write_text("../..\n")
    side = tmp_path / "side"
    side.mkdir()
    (side / ".git").write_text(f"gitdir: {own}\n")
    assert commit_of(side) == COMMIT


def test_a_process_is_told_from_others_with_its_number() -> None:
    mark = process_mark(os.getpid())
    assert mark is not None
    assert process_mark(os.getpid()) == mark
    assert is_running(os.getpid(), mark)
    assert not is_running(os.getpid(), mark + "0")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert process_mark(child.pid) is None
