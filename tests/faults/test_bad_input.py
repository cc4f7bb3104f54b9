"""Bad input ends with one clear message and exit code 2, before work is lost, with nothing half-written."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from maskwright.cli.main import main

SIZE = 192
UTM = "EPSG:32633"


def write_raster(path: Path, values: np.ndarray, *, crs=UTM, nodata=-9999.0, left=500_000.0, pixel=1.0) -> Path:
    bands = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=bands.shape[1],
        width=bands.shape[2],
        count=len(bands),
        dtype="float32",
        crs=crs,
        nodata=nodata,
        transform=from_origin(left, 200_000.0, pixel, pixel),
    ) as file:
        file.write(bands.astype(np.float32))
    return path


def canopy(size: int = SIZE) -> np.ndarray:
    rng = np.random.default_rng(3)
    heights = rng.uniform(15, 30, (size, size))
    for row, col in rng.integers(8, size - 8, (40, 2)):
        heights[row - 6 : row + 6, col - 6 : col + 6] = rng.uniform(0, 4)
    return heights


def write_config(folder: Path, sites: str, *, extra: str = "", tile_px: int = 16) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(
        f"""name: faults
task: {{kind: height_gaps, heights_m: [2, 5, 10]}}
data:
  kind: height_rasters
  sites:
{sites}
  terrain: {{simulate: true}}
  tiles: {{size_px: {tile_px}}}
model: {{kind: film_unet, base_channels: 4, depth: 1}}
training: {{epochs: 1}}
tracking: {{output_dir: {folder / "outputs"}, quiet: true}}
{extra}""",
        encoding="utf-8",
    )
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused; returns what it said."""
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert code == 2, said
    assert "Traceback" not in said
    return " ".join(said.split())


def nothing_was_written(folder: Path) -> bool:
    return not (folder / "outputs").exists() or not any((folder / "outputs").iterdir())


def train_refused(capsys, tmp_path: Path, sites: str, **options) -> str:
    said = refused(capsys, "train", write_config(tmp_path, sites, **options))
    assert nothing_was_written(tmp_path)
    return said


def test_rasters_on_different_grids_are_refused_and_the_way_out_is_named(capsys, tmp_path):
    write_raster(tmp_path / "dsm.tif", canopy() + 100)
    write_raster(tmp_path / "chm.tif", canopy(SIZE // 2), pixel=2.0)
    said = train_refused(capsys, tmp_path, "    - {name: a, dsm: dsm.tif, chm: chm.tif}")
    assert "data.align" in said
    assert "chm.tif" in said


def test_rasters_without_common_ground_are_refused(capsys, tmp_path):
    write_raster(tmp_path / "dsm.tif", canopy() + 100)
    write_raster(tmp_path / "chm.tif", canopy(), left=600_000.0)
    said = train_refused(capsys, tmp_path, "    - {name: a, dsm: dsm.tif, chm: chm.tif}")
    assert "overlap" in said or "common" in said


def test_a_raster_with_three_bands_is_refused_with_its_count(capsys, tmp_path):
    write_raster(tmp_path / "chm.tif", np.stack([canopy()] * 3))
    said = train_refused(capsys, tmp_path, "    - {name: a, chm: chm.tif}")
    assert "chm.tif" in said
    assert "3 bands" in said


def test_a_site_without_a_measured_pixel_is_refused(capsys, tmp_path):
    write_raster(tmp_path / "chm.tif", np.full((SIZE, SIZE), -9999.0))
    said = train_refused(capsys, tmp_path, "    - {name: empty_site, chm: chm.tif}")
    assert "empty_site" in said or "chm.tif" in said


def test_undeclared_nodata_is_refused_with_the_setting_that_names_it(capsys, tmp_path):
    heights = canopy()
    heights[:20] = -9999
    write_raster(tmp_path / "chm.tif", heights, nodata=None)
    said = train_refused(capsys, tmp_path, "    - {name: a, chm: chm.tif}")
    assert "-9999" in said
    assert "nodata" in said


def test_a_truncated_raster_is_refused_by_name(capsys, tmp_path):
    path = write_raster(tmp_path / "chm.tif", canopy())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    said = train_refused(capsys, tmp_path, "    - {name: a, chm: chm.tif}")
    assert "chm.tif" in said


def test_no_tile_with_enough_measured_pixels_is_refused(capsys, tmp_path):
    heights = canopy()
    heights[np.indices(heights.shape).sum(axis=0) % 2 == 0] = -9999  # a chessboard: every tile is half measured
    write_raster(tmp_path / "chm.tif", heights)
    said = train_refused(capsys, tmp_path, "    - {name: a, chm: chm.tif}")
    assert "min_valid" in said


def test_a_part_with_too_few_tiles_is_refused_with_a_tile_size_that_works(capsys, tmp_path):
    write_raster(tmp_path / "chm.tif", canopy())
    said = train_refused(capsys, tmp_path, "    - {name: a, chm: chm.tif}", tile_px=64)
    assert "size_px" in said
    assert "16" in said or "32" in said


def test_a_height_below_every_canopy_is_refused(capsys, tmp_path):
    write_raster(tmp_path / "chm.tif", canopy() + 12)
    said = train_refused(capsys, tmp_path, "    - {name: a, chm: chm.tif}")
    assert "2 m" in said
    assert "lowest" in said


def test_a_typing_mistake_in_the_settings_is_refused_with_a_suggestion(capsys, tmp_path):
    write_raster(tmp_path / "chm.tif", canopy())
    said = train_refused(capsys, tmp_path, "    - {name: a, chm: chm.tif}", extra="optm: {}")
    assert "optm" in said
    assert "Did you mean optim?" in said


def test_a_missing_raster_is_refused_by_name(capsys, tmp_path):
    said = train_refused(capsys, tmp_path, "    - {name: a, chm: nowhere.tif}")
    assert "nowhere.tif" in said


def test_all_faults_of_all_sites_are_told_at_once(capsys, tmp_path):
    write_raster(tmp_path / "three.tif", np.stack([canopy()] * 3))
    said = train_refused(capsys, tmp_path, "    - {name: a, chm: nowhere.tif}\n    - {name: b, chm: three.tif}")
    assert "nowhere.tif" in said
    assert "three.tif" in said


def test_an_output_folder_that_cannot_be_written_is_refused(capsys, tmp_path):
    write_raster(tmp_path / "chm.tif", canopy())
    (tmp_path / "outputs").write_text("a file where a folder should be")
    said = refused(capsys, "train", write_config(tmp_path, "    - {name: a, chm: chm.tif}"))
    assert "outputs" in said


def test_a_full_disk_is_refused_before_the_run_folder_stands_half_made(capsys, tmp_path, monkeypatch):
    write_raster(tmp_path / "chm.tif", canopy())

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    config = write_config(tmp_path, "    - {name: a, chm: chm.tif}")
    monkeypatch.setattr("maskwright.tracking.folder._furnish", full)
    said = refused(capsys, "train", config)
    assert "full" in said or "space" in said
    assert nothing_was_written(tmp_path)


def test_predicting_with_no_such_run_is_refused(capsys, tmp_path):
    raster = write_raster(tmp_path / "dsm.tif", canopy())
    said = refused(capsys, "predict", tmp_path / "no_run", raster, "--out", tmp_path / "maps")
    assert "no_run" in said
    assert not (tmp_path / "maps").exists()


def trained_model(folder: Path, **settings: object) -> Path:
    """A run on the small raster, by the real command; returns its folder."""
    from maskwright.tracking.folder import find_runs

    write_raster(folder / "chm.tif", canopy())
    config = write_config(folder, "    - {name: a, chm: chm.tif}", extra="metrics: {bootstrap: 100}")
    assert main(["train", str(config)]) == 0
    return find_runs(folder / "outputs")[0].path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_model(tmp_path_factory.mktemp("trained"))


def predict_refused(capsys, run: Path, raster: Path, *options: object) -> str:
    maps = raster.parent / "maps"
    said = refused(capsys, "predict", run, raster, "--out", maps, *options)
    assert not maps.exists() or not any(maps.iterdir())
    return said


def test_predicting_on_a_truncated_raster_leaves_nothing_behind(capsys, tmp_path, run):
    path = write_raster(tmp_path / "dsm.tif", canopy())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "dsm.tif" in predict_refused(capsys, run, path)


def test_predicting_on_three_bands_is_refused_with_the_count(capsys, tmp_path, run):
    path = write_raster(tmp_path / "rgb.tif", np.stack([canopy()] * 3))
    assert "3 bands" in predict_refused(capsys, run, path)


def test_predicting_where_nothing_was_measured_is_refused(capsys, tmp_path, run):
    path = write_raster(tmp_path / "empty.tif", np.full((SIZE, SIZE), -9999.0))
    assert "empty.tif" in predict_refused(capsys, run, path)


def test_predicting_with_undeclared_nodata_is_refused_with_the_option(capsys, tmp_path, run):
    heights = canopy()
    heights[:20] = -9999
    path = write_raster(tmp_path / "dsm.tif", heights, nodata=None)
    assert "-9999" in predict_refused(capsys, run, path)
    assert main(["predict", str(run), str(path), "--nodata", "-9999", "--out", str(tmp_path / "maps"), "--quiet"]) == 0


def test_a_height_of_zero_is_refused_in_prediction(capsys, tmp_path, run):
    path = write_raster(tmp_path / "dsm.tif", canopy())
    assert "0 m" in predict_refused(capsys, run, path, "--heights", "0", "5")


def test_an_output_folder_for_maps_that_cannot_be_made_is_refused(capsys, tmp_path, run):
    path = write_raster(tmp_path / "dsm.tif", canopy())
    (tmp_path / "maps").write_text("a file where a folder should be")
    said = refused(capsys, "predict", run, path, "--out", tmp_path / "maps")
    assert "maps" in said


def test_a_raster_without_crs_is_mapped_and_it_is_said(capsys, tmp_path, run):
    path = write_raster(tmp_path / "dsm.tif", canopy(), crs=None)
    assert main(["predict", str(run), str(path), "--out", str(tmp_path / "maps"), "--quiet"]) == 0
    assert "no CRS" in capsys.readouterr().err


def test_a_site_smaller_than_a_tile_is_padded_and_it_is_said(capsys, tmp_path):
    write_raster(tmp_path / "chm.tif", canopy())
    write_raster(tmp_path / "small.tif", canopy(40)[:24, :40], left=510_000.0)
    sites = "    - {name: a, chm: chm.tif}\n    - {name: small, chm: small.tif}"
    config = write_config(tmp_path, sites, extra="metrics: {bootstrap: 100}", tile_px=32)
    text = config.read_text().replace("tiles: {size_px: 32}", "tiles: {size_px: 32, min_valid: 0.3}")
    config.write_text(text.replace("quiet: true", "quiet: false"))
    assert main(["train", str(config)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "small" in said
    assert "padded" in said


def test_validation_ground_without_a_gap_is_refused_unless_the_loss_steers(capsys, tmp_path):
    write_raster(tmp_path / "a.tif", canopy())
    write_raster(tmp_path / "b.tif", canopy(), left=520_000.0)
    closed = np.full((SIZE, SIZE), 22.0)
    write_raster(tmp_path / "closed.tif", closed, left=540_000.0)
    sites = "".join(f"    - {{name: {name}, chm: {name}.tif}}\n" for name in ("a", "b", "closed"))
    config = write_config(tmp_path, sites.rstrip("\n"), extra="metrics: {bootstrap: 100}")
    split = "  split: {by: lists, train: [a], val: [closed], test: [b]}\n"
    config.write_text(config.read_text().replace("  terrain:", f"{split}  terrain:"))
    said = refused(capsys, "train", config)
    assert "The validation ground holds no gap" in said
    assert "callbacks.monitor: val/loss" in said
    assert nothing_was_written(tmp_path)
    assert main(["train", str(config), "--set", "callbacks.monitor=val/loss"]) == 0


def test_a_height_below_every_canopy_is_refused_without_training_too(capsys, tmp_path):
    raster = write_raster(tmp_path / "chm.tif", canopy() + 12)
    said = refused(capsys, "prepare", "gaps", raster, "--heights", "2", "--out", tmp_path / "gaps")
    assert "lowest canopy" in said
    assert not (tmp_path / "gaps").exists()
