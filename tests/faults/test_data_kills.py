"""A process killed in the middle of decoding or tiling leaves nothing half done, and the next one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from maskwright.cli.main import main

_DIE = """
import os, signal, sys
import {module} as module
count = 0
made = module.{function}
def dying(*given, **named):
    global count
    count += 1
    if count > {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return made(*given, **named)
module.{function} = dying
from maskwright.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def killed(words: list[str], module: str, function: str, after: int) -> None:
    """Run a command in a process of its own that is killed when a function is called once too often."""
    code = _DIE.format(module=module, function=function, after=after)
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, timeout=120, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL, done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.fixture
def canopy(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    heights = np.random.default_rng(0).uniform(0, 30, (1, 96, 96)).astype(np.float32)
    for name, values in (("a_CHM.tif", heights), ("a_DSM.tif", heights + 300)):
        with rasterio.open(
            folder / name,
            "w",
            driver="GTiff",
            count=1,
            height=96,
            width=96,
            dtype="float32",
            crs="EPSG:32633",
            transform=Affine(1, 0, 5e5, 0, -1, 5e6),
        ) as file:
            file.write(values)
    return folder


def test_tiling_killed_in_the_middle_goes_on_and_ends_as_if_never_stopped(canopy: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = ["prepare", "tiles", str(canopy), "--tile-px", "32", "--out"]
    assert main([*words, str(whole)]) == 0
    killed([*words, str(broken)], "maskwright.workflows.prepare_tiles", "_write", 5)
    begun = contents(broken)
    assert 0 < len(begun) < len(contents(whole))
    assert main([*words, str(broken)]) == 0
    assert contents(broken).keys() == contents(whole).keys()
    tiles = {name: data for name, data in contents(broken).items() if name.endswith(".tif")}
    assert tiles == {name: data for name, data in contents(whole).items() if name.endswith(".tif")}


def test_masks_killed_in_the_middle_go_on(canopy: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = ["prepare", "masks", str(canopy), "--heights", "2", "5", "--out"]
    assert main([*words, str(whole)]) == 0
    killed([*words, str(broken)], "maskwright.workflows.prepare_masks", "raster_draft", 1)
    assert not list(broken.glob("*_5m.tif"))
    assert main([*words, str(broken)]) == 0
    assert {path.name for path in broken.glob("*.tif")} == {path.name for path in whole.glob("*.tif")}
    for path in whole.glob("*.tif"):
        with rasterio.open(path) as one, rasterio.open(broken / path.name) as other:
            assert np.array_equal(one.read(), other.read())


def test_aligning_killed_inside_the_second_raster_goes_on_with_it(canopy: Path, tmp_path: Path) -> None:
    shifted = canopy / "a_CHM.tif"
    with rasterio.open(shifted) as file:
        values, profile = file.read(), file.profile
    profile.update(transform=Affine(1, 0, 5e5 + 0.5, 0, -1, 5e6), compress="deflate")
    with rasterio.open(shifted, "w", **profile) as file:
        file.write(values)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = ["prepare", "align", str(canopy), "--out"]
    assert main([*words, str(whole)]) == 0
    killed([*words, str(broken)], "maskwright.workflows.prepare_align", "read_onto", 0)
    assert sorted(contents(broken)) == ["a_DSM.tif"]  # the finished one; of the other nothing under its name
    made = (broken / "a_DSM.tif").stat().st_mtime_ns
    assert main([*words, str(broken)]) == 0
    assert contents(broken) == contents(whole)
    assert (broken / "a_DSM.tif").stat().st_mtime_ns == made
    with rasterio.open(broken / "a_DSM.tif") as one, rasterio.open(broken / "a_CHM.tif") as other:
        assert one.transform == other.transform


def test_decoding_killed_in_the_middle_starts_anew_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    for seed in range(12):
        picture = np.random.default_rng(seed).integers(0, 255, (48, 48, 3)).astype(np.uint8)
        painted = np.zeros((48, 48), np.uint8)
        painted[8:24, 8 + seed : 24] = 255
        for kind, values in (("images", picture), ("masks", painted)):
            (data / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(data / kind / f"p{seed}.png")
    file = tmp_path / "experiment.yaml"
    file.write_text(
        f"name: cracks\ntask: {{kind: binary}}\ndata: {{kind: images, folder: {data}, tiles: {{size_px: 32}}}}\n"
        f"model: {{kind: unet, base_channels: 4, depth: 1}}\ntracking: {{output_dir: {tmp_path / 'runs'}}}\n"
    )
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(cache))
    killed(["train", str(file), "--dry-run"], "maskwright.data.sources.image_store", "decode", 5)
    assert main(["train", str(file), "--dry-run"]) == 0
    assert "Nothing was trained." in capsys.readouterr().out
    assert main(["cache", "show"]) == 0
    assert "12 images" in capsys.readouterr().out
    assert not list(cache.rglob("*.tmp*"))
    assert main(["cache", "clean", "--all"]) == 0
    assert "0.000 GB left" in capsys.readouterr().out
