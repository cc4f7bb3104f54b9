"""The example of a training in the background of a Qt program runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "desktop_thread.py"
SMALL = "import runpy, sys, pathlib; found = runpy.run_path(sys.argv[1])['main'](pathlib.Path(sys.argv[2]), epochs=2)"


@pytest.mark.slow
def test_a_program_without_a_screen_hears_its_training_to_the_end(tmp_path: Path) -> None:
    code = f"{SMALL}; print(found['status'], found['val_losses'])"
    words = [sys.executable, "-c", code, str(EXAMPLE), str(tmp_path)]
    settings = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "MASKWRIGHT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(words, capture_output=True, text=True, env=settings, check=False)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^epoch (\d) begins", done.stdout, re.M) == ["1", "2"]
    told = [float(loss) for loss in re.findall(r"^epoch \d: loss [\d.]+ and ([\d.]+)", done.stdout, re.M)]
    ended = re.search(r"^finished \[([\d.]+), ([\d.]+)\]", done.stdout, re.M)
    assert ended, done.stdout
    assert [float(loss) for loss in ended.groups()] == pytest.approx(told, abs=1e-3)
