"""Images and labels with something wrong in them: told by ``check``, ``train --dry-run`` and ``train`` alike.

What is refused ends with exit code 2, a message that names the file, what is wrong and what to do, and no run folder.
What can be lived with is told as a note, and the training runs.
"""

from __future__ import annotations

import json
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import transform

from maskwright.cli.main import main

COUNT = 8
SIZE = 64
UTM = "EPSG:32633"

Settings = dict[str, Any]


def picture(seed: int) -> np.ndarray:
    noisy = np.random.default_rng(seed).normal(90, 12, (SIZE, SIZE, 3))
    noisy[10:30, 10 + seed : 30 + seed] += 80
    return noisy.clip(0, 255).astype(np.uint8)


def mask(seed: int, value: int = 255) -> np.ndarray:
    painted = np.zeros((SIZE, SIZE), np.uint8)
    painted[10:30, 10 + seed : 30 + seed] = value
    return painted


def save(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def images(folder: Path) -> None:
    for seed in range(COUNT):
        save(picture(seed), folder / "images" / f"p{seed}.png")


def pairs(folder: Path, value: int = 255) -> None:
    images(folder)
    for seed in range(COUNT):
        save(mask(seed, value), folder / "masks" / f"p{seed}.png")


def raster(path: Path, values: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=count, dtype=values.dtype, **options
        ) as file:
            file.write(values)


def rasters(folder: Path) -> None:
    for seed in range(COUNT):
        place = Affine(1, 0, 500_000 + seed * 1000, 0, -1, 5_000_000)
        raster(folder / "images" / f"p{seed}.tif", picture(seed).transpose(2, 0, 1), crs=UTM, transform=place)


def bomb(path: Path, colour: int) -> None:
    """A PNG of a few bytes that claims 60000 x 60000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, colour, 0, 0, 0)
    parts = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[Path], Settings | None], tuple[str, ...]]] = {}


def refused(*words: str) -> Callable[[Callable[[Path], Settings | None]], Callable[[Path], Settings | None]]:
    """Data that is refused with a message that holds these words."""

    def remember(build: Callable[[Path], Settings | None]) -> Callable[[Path], Settings | None]:
        REFUSED[build.__name__] = build, words
        return build

    return remember


@refused("1 of 8 images have no mask: p3", "data.labels.missing: skip")
def image_without_mask(folder: Path) -> None:
    pairs(folder)
    (folder / "masks" / "p3.png").unlink()


@refused("masks/p1.png", "has 50 x 64 pixels", "images/p1.png has 64 x 64", "export the mask in the image's size")
def sizes_differ(folder: Path) -> None:
    pairs(folder)
    save(mask(1)[:50], folder / "masks" / "p1.png")


@refused("images/p2.png is damaged", "Copy it again, or remove it")
def truncated_image(folder: Path) -> None:
    pairs(folder)
    path = folder / "images" / "p2.png"
    path.write_bytes(path.read_bytes()[:900])


@refused("masks/p2.png is damaged", "Export it again")
def truncated_mask(folder: Path) -> None:
    pairs(folder)
    path = folder / "masks" / "p2.png"
    path.write_bytes(path.read_bytes()[:60])


@refused("images/p2.png is no image: it begins with 'hello, I am text'", "Export it again, or remove it")
def text_named_as_image(folder: Path) -> None:
    pairs(folder)
    (folder / "images" / "p2.png").write_text("hello, I am text")


@refused("images/p2.png is empty")
def empty_file(folder: Path) -> None:
    pairs(folder)
    (folder / "images" / "p2.png").write_bytes(b"")


@refused("None of the 8 images can be read", "p0.png")
def nothing_readable_though_skipping(folder: Path) -> Settings:
    pairs(folder)
    for path in (folder / "images").iterdir():
        path.write_text("no")
    return {"data": {"unreadable": "skip"}}


@refused("a mask of 0 and 255, read as class numbers", "ignore_values: [255]", "masks/p0.png")
def zero_and_255_declared_as_classes(folder: Path) -> Settings:
    pairs(folder)
    return _classes()


@refused("masks/p4.png holds the value 9 (100 px), which no class means", "values: [9]")
def class_out_of_range(folder: Path) -> Settings:
    pairs(folder, 1)
    painted = mask(4, 1)
    painted[40:50, 40:50] = 9
    save(painted, folder / "masks" / "p4.png")
    return _classes()


def _classes() -> Settings:
    classes = [{"name": "a", "values": [1]}, {"name": "b", "values": [2]}]
    return {"task": {"kind": "multiclass"}, "data": {"labels": {"kind": "masks", "classes": classes}}}


@refused("rust, scratch", "data.labels.class_folders: true")
def unsaid_folders_of_classes(folder: Path) -> Settings:
    class_folders(folder)
    return {"task": {"kind": "multilabel"}}


@refused("scratch/p0.png paints scratch on 50 pixels that another mask paints rust", "task.kind: multilabel")
def overlapping_masks_of_classes_that_exclude_each_other(folder: Path) -> Settings:
    class_folders(folder)
    painted = np.zeros((SIZE, SIZE), np.uint8)
    painted[25:30, 10:20] = 255
    save(painted, folder / "masks" / "scratch" / "p0.png")
    return {"task": {"kind": "multiclass"}, "data": {"labels": {"kind": "masks", "class_folders": True}}}


def class_folders(folder: Path) -> None:
    images(folder)
    for seed in range(COUNT):
        save(mask(seed), folder / "masks" / "rust" / f"p{seed}.png")
        save(mask(seed)[::-1].copy(), folder / "masks" / "scratch" / f"p{seed}.png")


@refused("c.json: images that are not there: p5.png", "remove their entries")
def coco_with_a_missing_image(folder: Path) -> Settings:
    content = coco(folder)
    (folder / "images" / "p5.png").unlink()
    return write_coco(folder, content)


@refused("c.json: annotations without outline and box: annotation 3 of p2.png", "data.labels.unusable: skip")
def coco_with_an_empty_annotation(folder: Path) -> Settings:
    content = coco(folder)
    content["annotations"][2] |= {"segmentation": [], "bbox": None}
    return write_coco(folder, content)


@refused("a polygon of fewer than three points: annotation 3 of p2.png", "data.labels.unusable: skip")
def coco_with_a_polygon_of_two_points(folder: Path) -> Settings:
    content = coco(folder)
    content["annotations"][2]["segmentation"] = [[1, 1, 5, 5]]
    return write_coco(folder, content)


@refused("annotations of a category that is not listed: annotation 3 (category_id 9)")
def coco_with_an_unknown_category(folder: Path) -> Settings:
    content = coco(folder)
    content["annotations"][2]["category_id"] = 9
    return write_coco(folder, content)


@refused("c.json is no json", "it may be cut off")
def coco_cut_off(folder: Path) -> Settings:
    settings = write_coco(folder, coco(folder))
    (folder / "c.json").write_text('{"images": [')
    return settings


def coco(folder: Path) -> Settings:
    images(folder)
    boxes = [(10 + seed, 10, 20, 20) for seed in range(COUNT)]
    return {
        "images": [{"id": i, "file_name": f"p{i}.png", "width": SIZE, "height": SIZE} for i in range(COUNT)],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": i,
                "category_id": 1,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                "bbox": [x, y, w, h],
            }
            for i, (x, y, w, h) in enumerate(boxes)
        ],
    }


def write_coco(folder: Path, content: Settings) -> Settings:
    (folder / "c.json").write_text(json.dumps(content))
    return {"data": {"labels": {"kind": "coco", "file": str(folder / "c.json")}}}


@refused("a class number that data.yaml does not name", "p2.txt line 1 (class 7)", "Its classes are 0 thing")
def yolo_class_out_of_range(folder: Path) -> Settings:
    images(folder)
    (folder / "labels").mkdir()
    for seed in range(COUNT):
        (folder / "labels" / f"p{seed}.txt").write_text("0 0.2 0.2 0.5 0.2 0.5 0.5\n")
    (folder / "labels" / "p2.txt").write_text("7 0.2 0.2 0.5 0.2 0.5 0.5\n")
    (folder / "data.yaml").write_text("names: [thing]\n")
    return {"data": {"labels": {"kind": "yolo", "folder": str(folder / "labels")}}}


@refused("points outside their image", "p2.csv line 2", "data.labels.unusable: skip")
def point_outside(folder: Path) -> Settings:
    images(folder)
    (folder / "points").mkdir()
    for seed in range(COUNT):
        (folder / "points" / f"p{seed}.csv").write_text("x,y\n20,20\n")
    (folder / "points" / "p2.csv").write_text("x,y\n300,4\n")
    return {"data": {"labels": {"kind": "points", "folder": str(folder / "points"), "radius_px": 4}}}


@refused("no shape lies on any raster", "Look whether they show the same ground")
def vectors_of_another_place(folder: Path) -> Settings:
    rasters(folder)
    return vectors(folder, [[(x + 9e5, y) for x, y in square(seed)] for seed in range(COUNT)])


@refused("p0.png, p1.png", "and 3 more: The raster names no CRS", "v.geojson has EPSG:32633")
def vectors_on_photographs(folder: Path) -> Settings:
    images(folder)
    return vectors(folder, [square(seed) for seed in range(COUNT)])


def square(seed: int) -> list[tuple[float, float]]:
    x, y = 500_010.0 + seed * 1001, 4_999_990.0
    return [(x, y), (x + 20, y), (x + 20, y - 20), (x, y - 20), (x, y)]


def vectors(folder: Path, rings: list[Any], crs: str = "urn:ogc:def:crs:EPSG::32633") -> Settings:
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}} for ring in rings
    ]
    named = {"type": "name", "properties": {"name": crs}}
    content = {"type": "FeatureCollection", "crs": named, "features": features}
    (folder / "v.geojson").write_text(json.dumps(content))
    return {"data": {"labels": {"kind": "vectors", "file": str(folder / "v.geojson")}, "split": {"by": "image"}}}


@refused("No tile of 32 px has 2% of its pixels that count", "data.nodata")
def nothing_measured_anywhere(folder: Path) -> None:
    pairs(folder)
    for seed in range(COUNT):
        (folder / "images" / f"p{seed}.png").unlink()
        raster(folder / "images" / f"p{seed}.tif", np.full((1, SIZE, SIZE), -9999, np.float32), nodata=-9999)


@refused("images/p1.png is not read: it claims 60000 x 60000 pixels", "may be a decompression bomb", "tiled TIFF")
def decompression_bomb(folder: Path) -> None:
    pairs(folder)
    bomb(folder / "images" / "p1.png", 2)


@refused("masks/p1.png is not read: it claims 60000 x 60000 pixels", "may be a decompression bomb")
def decompression_bomb_as_mask(folder: Path) -> None:
    pairs(folder)
    bomb(folder / "masks" / "p1.png", 0)


@refused("images/p9.png cannot be read", "Too many levels of symbolic links")
def image_that_links_to_itself(folder: Path) -> None:
    pairs(folder)
    save(mask(1), folder / "masks" / "p9.png")
    (folder / "images" / "p9.png").symlink_to(folder / "images" / "p9.png")


@refused("p1.jpg and ", "p1.png have one name", "Rename or remove one of them")
def two_images_of_one_name(folder: Path) -> None:
    pairs(folder)
    save(picture(1), folder / "images" / "p1.jpg")


@refused("different numbers of bands. 1 bands: 1 (p1); 3 bands: 7", "convert the grey ones to RGB")
def grey_among_coloured(folder: Path) -> None:
    pairs(folder)
    save(picture(1)[..., 0].copy(), folder / "images" / "p1.png")


@refused("holds no image", "Set data.folder")
def empty_folder(folder: Path) -> None:
    folder.mkdir(parents=True)


@refused("does not exist", "Check data.folder")
def no_folder(folder: Path) -> None:
    assert not folder.exists()


@refused("hold no pixel of foreground", "data.split.seed")
def nothing_painted(folder: Path) -> None:
    pairs(folder, 0)


# --- what is told, and lived with -------------------------------------------------------------------------------------

TOLD: dict[str, tuple[Callable[[Path], Settings | None], tuple[str, ...]]] = {}


def told(*words: str) -> Callable[[Callable[[Path], Settings | None]], Callable[[Path], Settings | None]]:
    """Data that is used, with notes that hold these words."""

    def remember(build: Callable[[Path], Settings | None]) -> Callable[[Path], Settings | None]:
        TOLD[build.__name__] = build, words
        return build

    return remember


@told("1 masks have no image and are not used: p3")
def mask_without_image(folder: Path) -> None:
    pairs(folder)
    (folder / "images" / "p3.png").unlink()


@told("2 images cannot be read and are left out", "p2.png is damaged", "masks/p4.png is damaged")
def damaged_files_left_out(folder: Path) -> Settings:
    truncated_image(folder)
    path = folder / "masks" / "p4.png"
    path.write_bytes(path.read_bytes()[:60])
    return {"data": {"unreadable": "skip"}}


@told("invalid shapes, repaired: feature 0 of v.geojson (Self-intersection")
def invalid_geometry_in_another_crs(folder: Path) -> Settings:
    rasters(folder)
    rings: list[Any] = [square(seed) for seed in range(COUNT)]
    rings[0] = [rings[0][i] for i in (0, 2, 1, 3, 0)]  # a bow tie
    turned = [list(zip(*transform(UTM, "EPSG:4326", *zip(*ring, strict=True)), strict=True)) for ring in rings]
    return vectors(folder, turned, "urn:ogc:def:crs:OGC:1.3:CRS84")


@told("1 images have no pixel that counts and are of no use: p3")
def one_image_without_a_measured_pixel(folder: Path) -> None:
    pairs(folder)
    for seed in range(COUNT):
        (folder / "images" / f"p{seed}.png").unlink()
        values = picture(seed)[None, ..., 0].astype(np.float32)
        raster(folder / "images" / f"p{seed}.tif", values * 0 - 9999 if seed == 3 else values, nodata=-9999)


@told("8 masks hold 0 and 255 only")
def names_with_spaces_and_bytes_that_are_no_text(folder: Path) -> None:
    pairs(folder)
    for kind in ("images", "masks"):
        os.rename(folder / kind / "p1.png", folder / kind / "my photo  with spaces.png")
        os.rename(folder / kind / "p2.png", os.fsencode(folder / kind) + b"/caf\xe9.png")
        os.rename(folder / kind / "p3.png", folder / kind / "größe-日本.png")


@told("leads to a folder that was read already", "images/x is not used", "Too many levels of symbolic links")
def links_in_a_circle(folder: Path) -> None:
    pairs(folder)
    (folder / "images" / "again").symlink_to(folder / "images", target_is_directory=True)
    (folder / "images" / "x").symlink_to(folder / "images" / "x")


@told("1 images: it holds 2 pages, and only the first is read (p1)")
def tiff_of_two_pages(folder: Path) -> None:
    pairs(folder)
    (folder / "images" / "p1.png").unlink()
    pages = [Image.fromarray(picture(seed)) for seed in (1, 2)]
    pages[0].save(folder / "images" / "p1.tif", save_all=True, append_images=pages[1:])


# --- the tests --------------------------------------------------------------------------------------------------------


def write_experiment(folder: Path, more: Settings) -> Path:
    settings = {
        "name": "bad",
        "task": {"kind": "binary"} | more.get("task", {}),
        "data": {
            "kind": "images",
            "folder": str(folder / "data"),
            "tiles": {"size_px": 32},
            "loader": {"batch_size": 4, "samples_per_epoch": 8},
        }
        | more.get("data", {}),
        "model": {"kind": "unet", "base_channels": 4, "depth": 1},
        "training": {"epochs": 1},
        "tracking": {"output_dir": str(folder / "runs"), "quiet": True},
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def contents(folder: Path) -> dict[bytes, bytes | None]:
    """Every file below a folder; None for links."""
    walked = os.walk(os.fsencode(folder))
    paths = [os.path.join(root, name) for root, _, names in walked for name in names]
    return {path: None if os.path.islink(path) else Path(os.fsdecode(path)).read_bytes() for path in paths}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_data_is_refused_by_every_command_with_what_where_and_what_to_do(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build, words = REFUSED[kind]
    file = write_experiment(tmp_path, build(tmp_path / "data") or {})
    before = contents(tmp_path / "data")

    assert main(["check", str(file), "--out", str(tmp_path / "check"), "--json"]) == 2
    findings = json.loads(capsys.readouterr().out)["findings"]
    errors = " ".join(f"{f['where']} {f['what']} {f['do']}" for f in findings if f["level"] == "error")
    for words_of_train in (["train", str(file), "--dry-run"], ["train", str(file), "--quiet"]):
        assert main(words_of_train) == 2
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        assert "defect in Maskwright" not in output.err
        for word in words:
            assert word in output.err.replace("\n  ", " ")
    last_words = words[-1].split()
    assert all(word in errors for word in last_words), errors
    assert contents(tmp_path / "data") == before
    assert not list((tmp_path / "runs").glob("bad_*"))


@pytest.mark.parametrize("kind", TOLD)
def test_odd_data_is_told_and_used(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build, words = TOLD[kind]
    file = write_experiment(tmp_path, build(tmp_path / "data") or {})

    assert main(["check", str(file), "--out", str(tmp_path / "check"), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    said = " ".join(f"{finding['where']} {finding['what']}" for finding in findings)
    for word in words:
        assert word in said or all(part in said for part in word.split()), said
    assert main(["train", str(file), "--dry-run"]) == 0
    output = capsys.readouterr().out
    for word in words:
        assert word in output
    assert main(["train", str(file), "--quiet"]) == 0
    assert len(list((tmp_path / "runs").glob("bad_*"))) == 1
