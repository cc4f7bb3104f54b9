"""What is handed on: a wheel and a source archive with what belongs in them, and what works without any extra."""

from __future__ import annotations

import email
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import maskwright
from maskwright.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
HIDDEN = {  # what the extras bring, by the names it is imported by
    *("streamlit", "plotly", "PySide6", "pyqtgraph", "onnx", "onnxruntime", "onnxscript", "optuna"),
    *("faster_coco_eval", "skimage", "tensorboard", "mlflow", "wandb"),
}
HIDE = f"""
import sys
from importlib.machinery import PathFinder

class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in {HIDDEN!r} else PathFinder.find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""
needs_hatchling = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling, which builds the package, is not installed"
)


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in words]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "hatchling", "build", "-d", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_extra_that_a_message_names_exists() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r"maskwright\[(\w+)\]", text))
    assert {"dashboard", "export", "track"} <= named <= set(EXTRAS)


def test_python_versions_are_those_the_tests_run_with() -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert claimed == ["3.11"]
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == maskwright.__version__
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_size_of_an_installation_is_told_by_a_script() -> None:
    told = run(sys.executable, "benchmarks/install_size.py").stdout
    assert re.search(r"^core: \d+ packages, \d+ MB", told)
    assert set(re.findall(r"^\[(\w+)\]", told, re.M)) == set(EXTRAS) - {"dev"}


@needs_hatchling
def test_the_wheel_holds_the_package_its_types_and_its_data_and_no_tests(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = email.message_from_bytes(archive.read(f"maskwright-{PROJECT['version']}.dist-info/METADATA"))
    presets = {f"maskwright/config/presets/{path.name}" for path in ROOT.glob("src/maskwright/config/presets/*.yaml")}
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert {"maskwright/py.typed", "maskwright/pictures/page.html.j2"} | presets | modules <= names
    assert {name.partition("/")[0] for name in names} == {"maskwright", f"maskwright-{PROJECT['version']}.dist-info"}
    assert not [name for name in names if "test" in name or name.endswith(".pyc")]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)
    assert metadata.get_payload().startswith("# Maskwright")


@needs_hatchling
def test_the_source_archive_builds_the_same_and_holds_no_run(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "src/maskwright/py.typed"} <= names
    assert {name.partition("/")[0] for name in names} <= {
        *("src", "examples", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "PKG-INFO"),
        ".gitignore",
    }


@needs_hatchling
@pytest.mark.slow
def test_without_extras_everything_else_works_and_what_is_missing_is_named(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    binary = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    done = run(binary / "python", "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel)
    assert done.returncode == 0, done.stderr
    where = run(binary / "python", "-c", "import site; print(site.getsitepackages()[0])").stdout.strip()
    (own,) = {Path(path) for path in sys.path if path.endswith("site-packages")}
    (Path(where) / "core.pth").write_text(f"{own}\n", encoding="utf-8")  # the core's packages ...
    (Path(where) / "sitecustomize.py").write_text(HIDE, encoding="utf-8")  # ... and none of the extras'
    imported = run(binary / "python", "-c", "import maskwright; print(maskwright.__file__)").stdout
    assert imported.startswith(where)

    assert run(binary / "maskwright", "--help").returncode == 0
    searched = "tune: {space: [{setting: optim.optimizer.lr, low: 0.001, high: 0.01}], trials: 1}"
    (tmp_path / "a.yaml").write_text(f"name: a\ndata: {{folder: nowhere}}\n{searched}\n", encoding="utf-8")
    faces = {"monitor": [tmp_path], "desktop": [], "tune": [tmp_path / "a.yaml"]}
    extra_of = {"monitor": "dashboard", "desktop": "desktop", "tune": "tune"}
    for command, words in faces.items():
        if command in COMMANDS:
            told = run(binary / "maskwright", command, *words, HOME=str(tmp_path))
            assert told.returncode == 2, told
            assert f"pip install 'maskwright[{extra_of[command]}]'" in told.stderr
    code = "from maskwright.prediction.export_formats import require; require('onnx', 'ONNX')"
    assert "pip install 'maskwright[export]'" in run(binary / "python", "-c", code).stderr

    small = "import maskwright.config, maskwright.tracking, maskwright.losses, maskwright.metrics, maskwright.models"
    assert run(binary / "python", "-c", f"{small}, maskwright.training, maskwright.prediction").returncode == 0
    demo = run(binary / "python", "-m", "maskwright", "config", "validate", "preset:minimal", "--set", "data.folder=x")
    assert "Traceback" not in demo.stderr
