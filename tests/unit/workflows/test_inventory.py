"""A prediction held against lists of trees in several coordinates."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.warp import transform

from maskwright.checkpoints import save_model
from maskwright.cli.main import main
from maskwright.config.model import MultitaskUNetConfig, UNetConfig
from maskwright.data.band_normalise import BandNormaliser
from maskwright.data.sources.image_file import ImageFormat
from maskwright.data.sources.inventory_file import read_inventory
from maskwright.errors import DataError, RunError
from maskwright.prediction import RasterResult
from maskwright.tasks.agroforestry import Agroforestry
from maskwright.tasks.binary import Binary
from maskwright.workflows.inventory import evaluate_inventory, hold_against

UTM = CRS.from_epsg(32724)
PLACE = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 8_300_000)
TREES = [(500_010.0, 8_299_990.0, "cacao"), (500_020.0, 8_299_980.0, "shade"), (500_030.0, 8_299_970.0, "cacao")]


def _raster(path: Path, crs: CRS | None, place: rasterio.Affine, codes: np.ndarray) -> Path:
    shape = {"height": 100, "width": 100, "count": 1, "dtype": "uint8", "nodata": 255}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=place, **shape) as dataset:
        dataset.write(codes, 1)
    return path


@pytest.fixture
def predicted(tmp_path: Path) -> RasterResult:
    """Three trees found on 50 m of ground, of which the last ten columns were not mapped."""
    return _predicted(tmp_path, UTM, PLACE)


def _predicted(folder: Path, crs: CRS | None, place: rasterio.Affine) -> RasterResult:
    codes = np.zeros((100, 100), np.uint8)
    codes[:, 90:] = 255
    raster = _raster(folder / "plot.tif", crs, place, codes)
    (folder / "out").mkdir()
    mask = _raster(folder / "out/plot_mask.tif", crs, place, codes)
    table = folder / "out/plot_inventory.csv"
    lines = [f"{number},{name},0.9,{x},{y}" for number, (x, y, name) in enumerate(TREES, start=1)]
    table.write_text("\n".join(["tree_id,class,score,x,y", *lines]) + "\n", encoding="utf-8")
    summary = folder / "out/plot_summary.json"
    summary.write_text(json.dumps({"classes": ["cacao", "shade"]}), encoding="utf-8")
    files = {"inventory": table, "summary": summary, "mask": mask}
    return RasterResult(raster, files, (), (), (), 9000, 0.1, (), size=(100, 100))


def _list(path: Path, rows: list[tuple[float, float, str]], head: str = "x,y,species") -> Path:
    path.write_text("\n".join([head, *(f"{x},{y},{name}" for x, y, name in rows)]) + "\n", encoding="utf-8")
    return path


def test_distances_are_in_metres_and_files_tell_each_tree(predicted: RasterResult, tmp_path: Path) -> None:
    rows = [(500_010.6, 8_299_990.8, "Cacao"), (500_020.0, 8_299_980.0, "cacao"), (500_005.0, 8_299_960.0, "shade")]
    beyond = [(500_048.0, 8_299_990.0, "cacao"), (400_000.0, 8_299_990.0, "cacao")]  # not mapped; elsewhere
    result = hold_against(predicted, read_inventory(_list(tmp_path / "farm.csv", [*rows, *beyond])))
    assert result.scores.error_mean_m == pytest.approx(0.5)
    assert result.scores.detection_rate == pytest.approx(2 / 3)
    assert result.scores.species_accuracy == pytest.approx(1 / 2)
    assert any("2 of 5 listed trees lie beyond" in note for note in result.notes)
    assert any("names no CRS" in note for note in result.notes)
    with result.files["trees"].open(encoding="utf-8") as file:
        told = list(csv.DictReader(file))
    assert [row["status"] for row in told] == ["found", "found", "missed", "extra"]
    assert told[0]["distance_m"] == "1.0"
    numbers = json.loads(result.files["numbers"].read_text("utf-8"))
    assert numbers["verdict"] == "poor"
    assert "66.7%" in result.files["page"].read_text("utf-8")


def test_a_list_in_degrees_is_laid_on_a_map_in_metres(predicted: RasterResult, tmp_path: Path) -> None:
    xs, ys = transform(UTM, "EPSG:4326", [x + 1.0 for x, _, _ in TREES], [y for _, y, _ in TREES])
    rows = [(x, y, "") for x, y in zip(xs, ys, strict=True)]
    result = hold_against(predicted, read_inventory(_list(tmp_path / "gps.csv", rows, "longitude,latitude,species")))
    assert result.scores.f1 == 1.0
    assert result.scores.error_mean_m == pytest.approx(1.0, abs=1e-3)
    assert result.scores.offset_m == pytest.approx((-1.0, 0.0), abs=1e-3)
    assert result.scores.species_compared == 0


def test_a_map_in_degrees_is_measured_in_metres(tmp_path: Path) -> None:
    place = rasterio.Affine(5e-6, 0, -39.0, 0, -5e-6, -15.0)
    predicted = _predicted(tmp_path, CRS.from_epsg(4326), place)
    table = predicted.files["inventory"]
    table.write_text("tree_id,class,score,x,y\n1,cacao,0.9,-38.9998,-15.0002\n", encoding="utf-8")
    listed = _list(tmp_path / "gps.csv", [(-38.9998, -15.0002 + 9e-6, "cacao")])
    result = hold_against(predicted, read_inventory(listed, crs="EPSG:4326"))
    assert result.scores.error_mean_m == pytest.approx(
        9e-6 * 110_650, rel=0.01
    )  # metres to a degree at 15 degrees south


def test_names_of_species_are_translated_and_unknown_ones_are_said(predicted: RasterResult, tmp_path: Path) -> None:
    rows = [(*TREES[0][:2], "Theobroma cacao"), (*TREES[1][:2], "Erythrina"), (*TREES[2][:2], "Erythrina")]
    listed = read_inventory(_list(tmp_path / "farm.csv", rows))
    result = hold_against(predicted, listed, species={"theobroma cacao": "cacao"})
    assert (result.scores.species_compared, result.scores.species_accuracy) == (1, 1.0)
    assert any("Erythrina (2)" in note for note in result.notes)
    with pytest.raises(DataError, match="the model knows cacao, shade"):
        hold_against(predicted, listed, species={"Erythrina": "palm"})


def test_a_list_of_other_ground_is_refused_with_both_places(predicted: RasterResult, tmp_path: Path) -> None:
    listed = read_inventory(_list(tmp_path / "far.csv", [(1.0, 2.0, "cacao")]))
    with pytest.raises(DataError, match=r"lie at x 1 to 1, y 2 to 2, the raster at x 500000 to 500050"):
        hold_against(predicted, listed)


def test_no_tree_found_is_no_error(predicted: RasterResult, tmp_path: Path) -> None:
    predicted.files["inventory"].write_text("tree_id,class,score,x,y\n", encoding="utf-8")
    result = hold_against(predicted, read_inventory(_list(tmp_path / "farm.csv", TREES)))
    assert result.scores.detection_rate == 0.0
    assert result.scores.count.accuracy == 0.0


@pytest.mark.parametrize(("crs", "place"), [(None, rasterio.Affine.identity())])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_image_without_a_place_is_refused(crs: CRS | None, place: rasterio.Affine, tmp_path: Path) -> None:
    predicted = _predicted(tmp_path, crs, place)
    with pytest.raises(DataError, match="no place on the ground"):
        hold_against(predicted, read_inventory(_list(tmp_path / "farm.csv", TREES)))


def test_a_raster_without_a_crs_takes_no_list_that_has_one(tmp_path: Path) -> None:
    predicted = _predicted(tmp_path, None, PLACE)
    listed = _list(tmp_path / "farm.csv", TREES)
    with pytest.raises(DataError, match="names no CRS and"):
        hold_against(predicted, read_inventory(listed, crs="EPSG:32724"))
    assert hold_against(predicted, read_inventory(listed)).scores.f1 == 1.0


def test_the_command_refuses_options_that_go_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "run", "--inventory", "a.csv"]) == 2
    assert "--inventory goes with --on" in capsys.readouterr().err
    assert main(["evaluate", "run", "--on", "a.tif", "--within", "3"]) == 2
    assert "--within goes with --inventory" in capsys.readouterr().err
    assert main(["evaluate", "run", "--on", "a.tif", "--inventory", "a.csv", "--species", "cacao"]) == 2
    assert "write NAME=CLASS" in capsys.readouterr().err


def _saved(folder: Path, task: Agroforestry | Binary) -> Path:
    """A model that has learned nothing."""
    config = MultitaskUNetConfig(base_channels=4, depth=2) if isinstance(task, Agroforestry) else UNetConfig()
    description = {
        "task": task.to_dict(),
        "model": config.model_dump(mode="json"),
        "in_channels": 1,
        "batch_size": 4,
        "input": "image",
        "image": ImageFormat().to_dict(),
        "normaliser": BandNormaliser("unit", (0.0,), (255.0,), False).to_dict(),
        "classes": list(task.class_names),
        "heights_m": [],
        "pixel_size_m": None,
        "tile_px": 32,
        "probability_threshold": 0.5,
        "prediction": {},
    }
    save_model(folder, task.build_model(config, 1, 4), description)
    return folder


def test_a_raster_is_mapped_and_compared_in_one_go(tmp_path: Path) -> None:
    raster = _raster(tmp_path / "plot.tif", UTM, PLACE, np.full((100, 100), 90, np.uint8))
    listed = _list(tmp_path / "farm.csv", TREES)
    run = _saved(tmp_path / "run/model", Agroforestry(["background", "cacao", "shade"])).parent
    result = evaluate_inventory(run, raster, listed)
    assert result.folder == run / "evaluations" / "plot_farm"
    assert {"page", "numbers", "trees", "crowns", "report"} <= set(result.files)
    assert result.scores.count.true == 3
    with pytest.raises(RunError, match="add --overwrite"):
        evaluate_inventory(run, raster, listed)
    assert evaluate_inventory(run, raster, listed, overwrite=True).scores.count == result.scores.count


def test_what_cannot_be_compared_is_refused_before_anything_is_mapped(tmp_path: Path) -> None:
    listed = _list(tmp_path / "farm.csv", TREES)
    run = _saved(tmp_path / "run/model", Binary(["crack"])).parent
    with pytest.raises(DataError, match="finds no trees one by one"):
        evaluate_inventory(run, tmp_path / "plot.tif", listed)
    run = _saved(tmp_path / "other/model", Agroforestry(["background", "cacao"])).parent
    with pytest.raises(DataError, match="give one raster to --on"):
        evaluate_inventory(run, tmp_path, listed)
