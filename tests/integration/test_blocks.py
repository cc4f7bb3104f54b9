"""Every block of code in the README and the pages is run by a test, or stands in a list here that says why not.

What runs is read from the tests themselves: pages and choices of commands from the calls of ``follow`` in test_docs.py,
files of settings from its ``WITH_SETTINGS``, scripts from its calls of ``scripts``, pages on adding a part from the
``PAGES`` of test_how_to_add.py. Python without a title is run here.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))}
EXTRA = (
    "needs a network; tests/integration/test_packaging.py shows that the extra exists and is named where it is missing"
)
FACE = "stays open until it is closed; {} works with it"
PARTS = "uses what stands around it in a program; {} runs it there"
CLUSTER = "needs several hosts; tests/integration/test_distributed_commands.py starts two as network namespaces"
SHELL = "puts the commands on the path of a shell; the tests call them where they are"
NOT_RUN = {  # page, beginning of a command or block: reason
    ("README.md", "make demo"): "tests/integration/test_demo.py runs the demo in small",
    ("README.md", "make test"): "is what runs this",
    ("README.md", "pip install"): EXTRA,
    ("README.md", "source"): SHELL,
    ("README.md", "maskwright monitor"): FACE.format("tests/integration/test_dashboard.py"),
    ("README.md", "import maskwright"): "tests/integration/test_readme.py runs it on an experiment made small",
    ("README.md", "name: my_forest"): "tests/integration/test_readme.py loads and trains it",
    ("README.md", "name: cracks"): "tests/integration/test_readme.py loads it",
    ("docs/index.md", "source"): SHELL,
    ("docs/index.md", "make demo"): "tests/integration/test_demo.py runs the demo in small",
    ("docs/explanation/checkpoints.md", ".venv/bin/python -m pytest"): "runs tests that run here anyway",
    ("docs/explanation/checkpoints.md", "MASKWRIGHT_KILLS="): "takes an hour; with 20 kills it is among the tests",
    ("docs/explanation/heights.md", "MASKWRIGHT_DATA="): "takes an hour of real data",
    ("docs/explanation/scale.md", "python benchmarks/scale_model.py"): "tests/integration/test_scale_model.py runs it",
    ("docs/explanation/speed.md", "python benchmarks/time_to_accuracy.py"): "a benchmark, run by make bench-accuracy",
    ("docs/explanation/speed.md", "maskwright benchmark machine"): "loads the whole machine for a minute; "
    "tests/unit/workflows/test_benchmark_machine.py runs it in small",
    ("docs/how-to/dashboard.md", "pip install"): EXTRA,
    ("docs/how-to/dashboard.md", "maskwright monitor"): FACE.format("tests/integration/test_dashboard.py"),
    ("docs/how-to/dashboard.md", "ssh"): "needs another computer",
    ("docs/how-to/desktop.md", "pip install"): EXTRA,
    ("docs/how-to/desktop.md", "sudo apt install"): "changes the machine; tests/conftest.py names the same packages",
    ("docs/how-to/desktop.md", "maskwright desktop"): FACE.format("tests/unit/desktop/test_window.py"),
    ("docs/how-to/desktop.md", "from maskwright.desktop import TrainConfigDialog"): PARTS.format(
        "tests/integration/test_desktop_host.py"
    ),
    ("docs/how-to/desktop.md", "from maskwright.desktop import TrainingThread"): PARTS.format(
        "tests/integration/test_desktop_training.py"
    ),
    ("docs/how-to/desktop_predict.md", "from pathlib import Path"): PARTS.format(
        "tests/integration/test_desktop_predict.py"
    ),
    ("docs/how-to/several_gpus.md", "maskwright"): "the tutorial on several GPUs runs these; "
    "tests/integration/test_distributed_training.py divides networks (fsdp)",
    ("docs/how-to/several_gpus.md", "torchrun --standalone"): "tests/integration/test_distributed_commands.py runs it",
    ("docs/how-to/several_gpus.md", "torchrun --nnodes"): CLUSTER,
    ("docs/how-to/several_gpus.md", "#!/bin/bash"): CLUSTER,
    (
        "docs/how-to/trackers.md",
        "tensorboard",
    ): "a server of others; tests/integration/test_tracking.py reads the files",
    ("docs/how-to/trees.md", "maskwright train preset:"): "tests/integration/test_presets.py trains from these presets",
    ("docs/how-to/trackers.md", "MLFLOW_ALLOW_FILE_STORE"): "a server of others; as above",
    ("docs/how-to/tune.md", "tune:"): "needs a database; test_docs.py loads it",
    ("docs/how-to/tune.md", "from maskwright.workflows.tune"): "tests/integration/test_tune.py runs the function",
    (
        "docs/tutorials/trees.md",
        "from pathlib",
    ): "invents for minutes; test_docs.py does it with fewer and smaller scenes",
    ("docs/tutorials/desktop.md", "maskwright desktop"): FACE.format("tests/integration/test_desktop_training.py"),
}


class Block(NamedTuple):
    page: str
    language: str
    title: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.text.strip().splitlines()[0][:40]}"


def parsed(name: str) -> ast.Module:
    return ast.parse((HERE / name).read_text(encoding="utf-8"))


def assigned(name: str, variable: str) -> Any:
    """The value of a constant of a test file."""
    for node in parsed(name).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{name} has no {variable}")


@cache
def calls(function: str) -> list[tuple[str, ast.expr | None]]:
    """Page, and second argument, of the calls of a function in test_docs.py."""
    found = []
    for node in ast.walk(parsed("test_docs.py")):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function and isinstance(node.args[0], ast.Constant):
            page = (Path("docs") / str(node.args[0].value)).as_posix().replace("docs/../", "")
            found.append((page, node.args[1] if len(node.args) > 1 else None))
    return found


def chosen(condition: ast.expr | None) -> Callable[[list[str]], bool]:
    if condition is None:
        return lambda words: True
    return eval(compile(ast.Expression(condition), "test_docs.py", "eval"))


def all_blocks() -> Iterator[Block]:
    for page, path in PAGES.items():
        text = path.read_text(encoding="utf-8")
        for indent, head, body in re.findall(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", text, flags=re.MULTILINE):
            language, _, title = head.partition(" title=")
            yield Block(page, language, title.strip('"'), textwrap.dedent(body) if indent else body)


BLOCKS = list(all_blocks())


def commands(block: Block) -> list[str]:
    """The lines of a block for a shell; a script counts as one."""
    if block.text.startswith("#!"):
        return [block.text]
    return [line for line in block.text.replace("\\\n", "").splitlines() if line and not line.startswith("#")]


def runs_elsewhere(block: Block, command: str) -> bool:
    """Whether a test of another file runs a block, or one command of it."""
    if block.language == "bash":
        conditions = [chosen(condition) for page, condition in calls("follow") if page == block.page]
        words = command.split()
        return words[0] == "maskwright" and any(condition(words[1:]) for condition in conditions)
    if block.text.startswith("--8<-- "):
        return "own_loop" in block.text  # test_example_loops.py runs all of that name
    if block.language == "yaml" and re.match(r"# \w+\.yaml\n", block.text):
        return block.page.removeprefix("docs/") in assigned("test_docs.py", "WITH_SETTINGS")
    added = Path(block.page).stem in assigned("test_how_to_add.py", "PAGES")
    return bool(block.title) and (added or block.page in {page for page, _ in calls("scripts")})


def excuse(block: Block, command: str) -> tuple[str, str] | None:
    return next((key for key in NOT_RUN if key[0] == block.page and command.startswith(key[1])), None)


ALONE = [
    block
    for block in BLOCKS
    if block.language == "python" and not block.title and not excuse(block, block.text) and "--8<--" not in block.text
]


def test_every_block_is_run_or_the_list_says_why_not() -> None:
    used = set()
    for block in BLOCKS:
        if not block.language or block in ALONE:
            continue
        for command in commands(block) if block.language == "bash" else [block.text]:
            key = excuse(block, command)
            used.add(key)
            assert runs_elsewhere(block, command) != bool(key), (block.name, command, "run and excused, or neither")
    assert len(BLOCKS) > 100
    assert set(NOT_RUN) == used - {None}, "the list speaks of what stands nowhere"


def test_what_is_for_a_shell_says_so() -> None:
    words = r"^(maskwright|pip|make|sudo|python|torchrun|ssh|tensorboard|mlflow|\.venv|[A-Z_]+=)"
    shell = re.compile(words, re.MULTILINE)
    for block in BLOCKS:
        if not block.language:
            assert not shell.search(block.text), block.name


def test_every_reason_that_names_a_test_names_one_there_is() -> None:
    for reason in NOT_RUN.values():
        for path in re.findall(r"tests/[\w/]+\.py", reason):
            assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("block", ALONE, ids=[block.name for block in ALONE])
def test_python_that_stands_alone_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, block.page, "exec"), {"__name__": "__main__"})


def test_what_the_pages_put_in_is_there() -> None:
    for block in BLOCKS:
        for name in re.findall(r'--8<-- "([^"]+)"', block.text):
            assert (ROOT / name).is_file(), (block.page, name)


def test_every_example_is_run_by_a_test() -> None:
    text = "".join(
        path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py") if path.name != Path(__file__).name
    )
    examples = [path.stem for path in ROOT.glob("examples/*.py")] + [
        path.parent.name for path in ROOT.glob("examples/*/*.yaml")
    ]
    assert len(examples) > 10
    for name in examples:
        assert f'"{name}' in text or f"/{name}" in text, name
