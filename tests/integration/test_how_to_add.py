"""The pages "Add a ..." do what they say: their blocks are put into a copy of the package, and it is run.

A page has three kinds of blocks, told by their title, the path of a file: a new file of the package; a change of one,
in parts divided by ``@@`` whose lines begin with a blank (context), ``+`` or ``-``; a script, run beside the package.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("add_a_loss", "add_a_metric", "add_a_model", "add_a_source", "add_a_task")
RUN_ALL = """
import json, runpy, sys, traceback
import maskwright
outcome = {"": maskwright.__file__}
for script in sys.argv[1:]:
    try:
        runpy.run_path(script, run_name="__main__")
        outcome[script] = ""
    except BaseException:
        outcome[script] = traceback.format_exc()
print("OUTCOME " + json.dumps(outcome))
"""


class Block(NamedTuple):
    language: str
    path: str
    text: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / f"docs/how-to/{page}.md").read_text(encoding="utf-8")
    return [Block(*found) for found in re.findall(r'```(\w+) title="([^"]+)"\n(.*?)```', text, flags=re.DOTALL)]


def changed(text: str, change: str) -> str:
    """``text`` with every part of a change made; what a part names must stand there exactly once."""
    for part in change.split("@@\n"):
        lines = part.splitlines(keepends=True)
        before = "".join(line[1:] or "\n" for line in lines if line[0] != "+")
        after = "".join(line[1:] or "\n" for line in lines if line[0] != "-")
        places = [found.start() for found in re.finditer(r"^" + re.escape(before), text, flags=re.MULTILINE)]
        assert places, f"not there any more:\n{before}"
        start = places[0]  # of several, the first: what a table lists once may be named again further down
        text = text[:start] + after + text[start + len(before) :]
    return text


def write(package: Path, page: str) -> list[str]:
    """Put the blocks of a page into a package; the names of its scripts."""
    scripts = []
    for block in blocks(page):
        path = package / block.path
        if block.language == "diff":
            path.write_text(changed(path.read_text(encoding="utf-8"), block.text), encoding="utf-8")
            continue
        assert not path.exists(), f"{page}: {block.path} exists"
        path.write_text(block.text, encoding="utf-8")
        scripts += [] if block.path.startswith("src/") else [block.path]
    return scripts


def environment(package: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(package / "src"), "MASKWRIGHT_CACHE": str(package / "cache")}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with everything the pages add, and the tests that ask every part the same questions."""
    folder = tmp_path_factory.mktemp("package")
    no_bytes = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", folder / "src", ignore=no_bytes)
    for tests in ("conformance", "architecture"):
        shutil.copytree(ROOT / "tests" / tests, folder / "tests" / tests, ignore=no_bytes)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture(scope="module")
def outcome(package: Path) -> dict[str, str]:
    """Name of each script to what went wrong in it; under the empty name the package that was run."""
    scripts = [script for page in PAGES for script in write(package, page)]
    words = [sys.executable, "-c", RUN_ALL, *scripts]
    done = subprocess.run(words, cwd=package, env=environment(package), capture_output=True, text=True, check=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("OUTCOME ")] or [done.stderr]
    told: dict[str, str] = json.loads(line.removeprefix("OUTCOME "))
    return told


def test_it_is_the_copy_that_runs(package: Path, outcome: dict[str, str]) -> None:
    assert outcome[""] == str(package / "src/maskwright/__init__.py")


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_adds_works(page: str, outcome: dict[str, str]) -> None:
    scripts = [block.path for block in blocks(page) if block.path in outcome]
    assert scripts
    for script in scripts:
        assert not outcome[script], outcome[script]


def test_what_the_pages_add_is_formatted_and_clean(package: Path, outcome: dict[str, str]) -> None:
    touched = sorted({block.path for page in PAGES for block in blocks(page) if block.path.startswith("src/")})
    for words in (["format", "--check"], ["check"]):
        command = [str(Path(sys.executable).parent / "ruff"), *words, *touched]
        done = subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_what_the_pages_add_answers_what_every_part_is_asked(package: Path, outcome: dict[str, str]) -> None:
    asked = "(poly1 or refined_unet or table or kinds or __all__ or all_is_sorted) and not forest"
    words = [sys.executable, "-m", "pytest", "tests/conformance/test_losses.py", "tests/conformance/test_models.py"]
    words += ["tests/architecture/test_kinds.py", "tests/architecture/test_public_names.py", "-k", asked]
    done = subprocess.run(words, cwd=package, env=environment(package), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 50


def test_a_part_that_is_not_there_any_more_is_told() -> None:
    assert changed("a\nb\nc\n", " b\n+x\n@@\n-c\n+d\n") == "a\nb\nx\nd\n"
    with pytest.raises(AssertionError, match="not there any more"):
        changed("a\n", " b\n+c\n")
