"""Images as a source: windows, faults told at once, the cache."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.data.cache import Cache
from maskwright.data.sources.folders import find_images, find_masks
from maskwright.data.sources.image_file import ImageFormat
from maskwright.data.sources.images import ImageItem, ImageScenes
from maskwright.data.sources.mask_files import open_mask_labels
from maskwright.errors import DataError
from maskwright.types import Place, Window


class Halved:
    def normalise(self, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        return np.where(valid, values.astype(np.float32) / 2, np.float32(0))


def make(root: Path, count: int = 4, size: tuple[int, int] = (20, 30), bands: int = 3) -> Path:
    rng = np.random.default_rng(3)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        shape = size if bands == 1 else (*size, bands)
        pixels = rng.integers(1, 256, shape).astype(np.uint8)
        if bands == 4:
            pixels[..., 3] = np.where(pixels[..., 3] > 30, 255, 0)
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        Image.fromarray(((rng.random(size) < 0.2) * 255).astype(np.uint8)).save(root / "masks" / f"{index}.png")
    return root


def open_source(root: Path, tmp_path: Path, *, format: ImageFormat | None = None, **options: Any) -> ImageScenes:
    found = find_images(root)
    masks = find_masks(found)
    labels = open_mask_labels(found.images, masks.masks, **options.pop("labels", {}))
    items = [ImageItem(name, found.images[name], label) for name, label in labels.labels.items()]
    max_gb = options.pop("max_bytes", 10**9)
    cache = options.pop("cache", None) or Cache(tmp_path / "cache", max_gb)
    faults = (*found.faults, *labels.faults)
    return ImageScenes(
        items, format or ImageFormat(), labels.classes, normaliser=Halved(), cache=cache, faults=faults, **options
    )


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_sample_is_the_window_of_the_files(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    source = open_source(root, tmp_path)
    image, target, valid = source.sample("2", Window(5, 7, 8, 9))
    pixels, mask = read(root / "images/2.png")[5:13, 7:16], read(root / "masks/2.png")[5:13, 7:16]
    np.testing.assert_array_equal(image, pixels.transpose(2, 0, 1) / np.float32(2))
    np.testing.assert_array_equal(target, mask // 255)
    assert valid.all()
    assert (image.dtype, target.dtype, valid.dtype) == (np.float32, np.int64, np.bool_)
    assert (source.in_channels, source.dtype, source.largest) == (3, "uint8", 255)


def test_outside_the_image_nothing_is_valid(tmp_path: Path) -> None:
    source = open_source(make(tmp_path / "data"), tmp_path)
    image, target, valid = source.sample("0", Window(-4, 25, 30, 10))
    expected = np.zeros((30, 10), bool)
    expected[4:24, :5] = True
    np.testing.assert_array_equal(valid, expected)
    assert not image[:, ~valid].any()
    assert not target[~valid].any()
    np.testing.assert_array_equal(source.read("0", Window(-4, 25, 30, 10))[1], expected)
    np.testing.assert_array_equal(source.pixels("0", Window(-4, 25, 30, 10))[1], expected)


def test_clear_pixels_and_ignored_labels_do_not_count(tmp_path: Path) -> None:
    root = make(tmp_path / "data", bands=4)
    mask = read(root / "masks/0.png").copy()
    mask[3, 3] = 99
    Image.fromarray(mask).save(root / "masks/0.png")
    settings = {"classes_config": [("crack", (255,))], "ignore_values": (99,)}
    source = open_source(root, tmp_path, labels=settings)
    _, target, valid = source.sample("0", Window(0, 0, 20, 30))
    opaque = read(root / "images/0.png")[..., 3] == 255
    np.testing.assert_array_equal(valid, opaque & (mask != 99))
    np.testing.assert_array_equal(target, (mask == 255) & opaque)
    np.testing.assert_array_equal(source.read("0", Window(0, 0, 20, 30))[1], opaque)
    np.testing.assert_allclose(source.valid_share("0", 20), [[valid[:, :20].mean(), valid[:, 20:].sum() / 400]])


def test_classes_are_counted_in_any_window(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    source = open_source(root, tmp_path)
    mask = read(root / "masks/1.png") == 255
    assert source.class_counts(Place("1", Window(0, 0, 20, 30))).tolist() == [600 - mask.sum(), mask.sum()]
    part = mask[:10, 20:]
    assert source.class_counts(Place("1", Window(-5, 20, 15, 30))).tolist() == [100 - part.sum(), part.sum()]


def test_overlapping_labels_are_counted_with_all_that_counts_last(tmp_path: Path) -> None:
    root = make(tmp_path / "data", count=1)
    mask = np.zeros((20, 30), np.uint8)
    mask[:2], mask[2:5], mask[19] = 1, 2, 9
    Image.fromarray(mask).save(root / "masks/0.png")
    settings = {"form": "multilabel", "classes_config": [("a", (1,)), ("b", (2,))], "ignore_values": (9,)}
    source = open_source(root, tmp_path, labels=settings)
    assert source.class_counts(Place("0", Window(0, 0, 20, 30))).tolist() == [60, 90, 570]
    assert source.class_counts(Place("0", Window(1, 0, 2, 10))).tolist() == [10, 10, 20]
    assert source.sample("0", Window(0, 0, 20, 30))[1].max() == 2
    assert {index: len(rows) for index, rows in source.centres("0").items()} == {0: 16, 1: 16}


def test_centres_lie_on_their_class_and_are_spread(tmp_path: Path) -> None:
    root = make(tmp_path / "data", size=(100, 120))
    centres = open_source(root, tmp_path).centres("3")
    mask = read(root / "masks/3.png") == 255
    assert centres[1].shape == (46, 2)
    assert mask[tuple(centres[1].T)].all()
    assert not mask[tuple(centres[0].T)].any()
    assert len(np.unique(centres[1], axis=0)) == 46
    assert centres[1][:, 0].min() < 5
    assert centres[1][:, 0].max() > 95


def test_masks_are_resized_by_the_nearest_pixel(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    source = open_source(root, tmp_path, format=ImageFormat(resize_px=(40, 60)))
    assert (source.scenes[0].grid.height, source.scenes[0].grid.width) == (40, 60)
    mask = read(root / "masks/0.png") // 255
    np.testing.assert_array_equal(source.sample("0", Window(0, 0, 40, 60))[1], np.kron(mask, np.ones((2, 2), int)))


def test_every_fault_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    root = make(tmp_path / "data", count=6)
    (root / "images/0.png").write_text("this is a text")
    (root / "images/1.png").write_bytes((root / "images/1.png").read_bytes()[:500])
    Image.fromarray(np.zeros((20, 31), np.uint8)).save(root / "masks/2.png")
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(root / "masks/3.png")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(root / "images/4.png")
    (root / "masks/5.png").unlink()
    with pytest.raises(DataError) as caught:
        open_source(root, tmp_path)
    text = str(caught.value)
    assert text.startswith("6 faults in the data:\n")
    for part in (
        "1 of 6 images have no mask: 5",
        "0.png is no image: it begins with 'this is a text'",
        "1.png is damaged",
        "has 20 x 31 pixels (rows x columns), its image",
        "holds the value 7 (600 px)",
        "1 bands: 1 (4); 3 bands: 3 (1, 2, 3). Grey and coloured images cannot be mixed",
    ):
        assert part in text


def test_files_that_cannot_be_read_are_left_out_where_that_is_set(tmp_path: Path) -> None:
    root = make(tmp_path / "data", count=5)
    (root / "images/0.png").write_text("this is a text")
    (root / "images/1.png").write_bytes((root / "images/1.png").read_bytes()[:500])
    (root / "masks/2.png").write_bytes((root / "masks/2.png").read_bytes()[:60])
    for _ in range(2):  # decoded, and from the cache
        source = open_source(root, tmp_path, unreadable="skip")
        assert [scene.name for scene in source.scenes] == ["3", "4"]
        assert [item.name for item in source.items] == ["3", "4"]
        assert source.notes[0].startswith("3 images cannot be read and are left out: ")
        assert "0.png is no image" in source.notes[0]


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    root = make(tmp_path / "data", count=1)
    (root / "images/0.png").write_text("no")
    with pytest.raises(DataError, match="None of the 1 images can be read"):
        open_source(root, tmp_path, unreadable="skip")


def test_types_that_differ_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "data", count=2, bands=1)
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(root / "images/1.png")
    with pytest.raises(DataError, match=r"values of different types\. uint16: 1 \(1\); uint8: 1 \(0\)"):
        open_source(root, tmp_path)


def test_decoded_images_are_used_again_and_changed_files_noticed(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    open_source(root, tmp_path)
    entries = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.npy")}
    assert len(entries) == 1  # small images share a file
    before = open_source(root, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.npy")} == entries
    mask = read(root / "masks/0.png").copy()
    mask[0, 0] ^= 255
    Image.fromarray(mask).save(root / "masks/0.png")
    after = open_source(root, tmp_path)
    assert after.fingerprint != before.fingerprint
    assert after.sample("0", Window(0, 0, 1, 1))[1] == mask[0, 0] // 255


def test_a_cache_without_room_costs_time_and_changes_nothing(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    stored = open_source(root, tmp_path)
    loose = open_source(root, tmp_path, cache=Cache(tmp_path / "small", 5000))
    assert (stored.cached, loose.cached) == (True, False)
    assert [note for note in loose.notes if "decoded again whenever they are needed" in note] == [loose.notes[-1]]
    for name in "0123":
        window = Window(3, 4, 10, 12)
        for first, second in zip(stored.sample(name, window), loose.sample(name, window), strict=True):
            np.testing.assert_array_equal(first, second)
    assert open_source(root, tmp_path, cache=Cache(tmp_path / "small", 5000)).describe() == stored.describe()


def test_a_source_can_be_sent_to_another_process(tmp_path: Path) -> None:
    source = open_source(make(tmp_path / "data"), tmp_path)
    again = pickle.loads(pickle.dumps(source))
    for first, second in zip(
        source.sample("1", Window(0, 0, 9, 9)), again.sample("1", Window(0, 0, 9, 9)), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_pictures_show_red_green_and_blue(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    source = open_source(root, tmp_path)
    np.testing.assert_array_equal(source.picture("0", Window(2, 2, 5, 6)), read(root / "images/0.png")[2:7, 2:8])
    format = ImageFormat(bands=(3, 1))
    grey = open_source(root, tmp_path, format=format).picture("0", Window(0, 0, 4, 4))
    np.testing.assert_array_equal(grey, np.repeat(read(root / "images/0.png")[:4, :4, 2:], 3, axis=-1))


def test_pictures_of_more_than_eight_bits_are_stretched(tmp_path: Path) -> None:
    root = make(tmp_path / "data", count=1, bands=1)
    Image.fromarray(np.linspace(1000, 3000, 600).reshape(20, 30).astype(np.uint16)).save(root / "images/0.png")
    picture = open_source(root, tmp_path).picture("0", Window(0, 0, 20, 30))
    assert picture.dtype == np.uint8
    assert (picture.min(), picture.max()) == (0, 255)
    assert picture[10, 15].tolist() == [picture[10, 15, 0]] * 3


def test_facts_are_plain_and_complete(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    facts = open_source(root, tmp_path, format=ImageFormat(pixel_size_m=0.5, resize_px=(40, 60))).describe()["0"]
    assert (facts["height_px"], facts["width_px"], facts["pixel_size_m"], facts["valid_share"]) == (40, 60, 0.25, 1.0)
    assert sum(facts["pixels"].values()) == 2400
    assert [Path(file["path"]).name for file in facts["files"]] == ["0.png", "0.png"]
    assert len(facts["files"][0]["sha256"]) == 64


def test_an_unknown_scene_is_named(tmp_path: Path) -> None:
    source = open_source(make(tmp_path / "data"), tmp_path)
    with pytest.raises(DataError, match=r"There is no image '9'\. Images: 0, 1, 2, 3"):
        source.sample("9", Window(0, 0, 2, 2))


def test_a_sample_before_the_normaliser_is_fitted_is_refused(tmp_path: Path) -> None:
    source = open_source(make(tmp_path / "data"), tmp_path)
    source.normaliser = None
    with pytest.raises(DataError, match="have no normaliser yet"):
        source.sample("0", Window(0, 0, 2, 2))


def test_images_with_strange_names_are_read(tmp_path: Path) -> None:
    root = make(tmp_path / "data", count=2)
    for folder in ("images", "masks"):
        name = os.fsdecode(os.fsencode(root / folder) + b"/caf\xe9 1.png")
        try:
            (root / folder / "0.png").rename(name)
        except OSError:
            pytest.skip("this file system takes no such name")
    source = open_source(root, tmp_path)
    assert [scene.name for scene in source.scenes] == ["1", r"caf\xe9 1"]
    assert source.sample(r"caf\xe9 1", Window(0, 0, 4, 4))[2].all()
    assert source.describe()[r"caf\xe9 1"]["files"][0]["path"].endswith(r"caf\xe9 1.png")
