"""Masks: what their values are taken as, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from maskwright.data.sources.interface import Grid
from maskwright.data.sources.mask_files import MaskLabel, open_mask_labels, review_masks
from maskwright.errors import DataError, GridError

GRID = Grid(2, 3, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)


def label_of(path: Path, values: Any = None, **options: Any) -> MaskLabel:
    if values is not None:
        Image.fromarray(np.asarray(values, np.uint8)).save(path)
    labels = open_mask_labels({"a": Path("images/a.jpg")}, {"a": path}, **options)
    assert labels.faults == ()
    label = labels.labels["a"]
    assert isinstance(label, MaskLabel)
    return label


@pytest.mark.parametrize("painted", [1, 255])
def test_the_two_usual_forms_of_binary_masks_are_known(tmp_path: Path, painted: int) -> None:
    plane, told = label_of(tmp_path / "a.png", [[0, painted, 0], [0, 0, painted]]).paint_and_tell(GRID)
    assert plane.dtype == np.uint8
    assert plane.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert told["form"] == f"0/{painted}"


def test_a_mask_of_one_bit_is_a_mask_of_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255, 0], [0, 0, 255]], np.uint8)).convert("1").save(tmp_path / "a.png")
    assert label_of(tmp_path / "a.png").paint(GRID).tolist() == [[0, 1, 0], [0, 0, 1]]


def test_grey_edges_are_refused_with_what_to_set(tmp_path: Path) -> None:
    label = label_of(tmp_path / "a.png", [[0, 3, 90], [170, 250, 255]])
    with pytest.raises(DataError) as caught:
        label.paint(GRID)
    text = str(caught.value)
    assert "holds the values 0 (1 px), 3 (1 px), 90 (1 px), 170 (1 px), 250 (1 px), 255 (1 px)" in text
    assert 'values: ["128-255"]}] with background_values: ["0-127"]' in text


def test_what_the_message_says_to_set_works(tmp_path: Path) -> None:
    label = label_of(
        tmp_path / "a.png",
        [[0, 3, 90], [170, 250, 255]],
        classes_config=[("crack", ("128-255",))],
        background_values=("0-127",),
    )
    assert label.paint(GRID).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_one_and_255_in_one_mask_are_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="255 may mean foreground or pixels that do not count"):
        label_of(tmp_path / "a.png", [[0, 1, 0], [0, 0, 255]]).paint(GRID)


def test_one_and_255_in_different_masks_are_not_guessed() -> None:
    notes, faults = review_masks({"a": {"form": "0/1"}, "b": {"form": "0/255"}, "c": {"form": "empty"}})
    assert "Some masks hold 0 and 1 (a), others 0 and 255 (b)" in faults[0]
    notes, faults = review_masks({"a": {"form": "0/255"}, "c": {"form": "empty"}})
    assert faults == []
    assert notes == ["1 masks hold 0 and 255 only: taken as background and foreground; 1 more are all background"]


def test_class_numbers_become_ids(tmp_path: Path) -> None:
    label = label_of(
        tmp_path / "a.png",
        [[0, 1, 2], [9, 255, 2]],
        form="multiclass",
        classes_config=[("hole", ()), ("crack", ()), ("stain", (9,))],
        ignore_values=(255,),
    )
    assert label.paint(GRID).tolist() == [[0, 1, 2], [3, 255, 2]]


def test_a_class_number_out_of_range_is_refused_with_file_value_and_classes(tmp_path: Path) -> None:
    label = label_of(
        tmp_path / "a.png", [[0, 1, 7], [7, 7, 2]], form="multiclass", classes_config=[("hole", ()), ("crack", ())]
    )
    with pytest.raises(DataError) as caught:
        label.paint(GRID)
    text = str(caught.value)
    assert "a.png holds the value 7 (3 px), which no class means" in text
    assert "Classes: hole = 1, crack = 2, background = 0" in text
    assert "values: [7]" in text


def test_a_mask_of_0_and_255_read_as_classes_is_told(tmp_path: Path) -> None:
    label = label_of(
        tmp_path / "a.png", [[0, 255, 0], [0, 0, 255]], form="multiclass", classes_config=[("hole", ()), ("crack", ())]
    )
    with pytest.raises(DataError, match="it is a mask of 0 and 255, read as class numbers"):
        label.paint(GRID)


def test_a_task_of_classes_says_what_the_masks_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hold besides 0: 3 \(2 px\).*\{name: class_1, values: \[3\]\}"):
        label_of(tmp_path / "a.png", [[0, 3, 0], [0, 0, 3]], form="multiclass")


def test_overlapping_labels_are_sets_of_bits(tmp_path: Path) -> None:
    label = label_of(
        tmp_path / "a.png",
        [[0, 1, 2], [2, 255, 0]],
        form="multilabel",
        classes_config=[("a", (1,)), ("b", (2,))],
        ignore_values=(255,),
    )
    plane = label.paint(GRID)
    assert plane.dtype == np.uint16
    assert plane.tolist() == [[0, 1, 2], [2, 65535, 0]]


COLOURS = [[[0, 0, 0], [255, 0, 0], [0, 255, 0]], [[0, 0, 0], [255, 0, 0], [255, 0, 0]]]


def test_colours_are_looked_up(tmp_path: Path) -> None:
    label = label_of(
        tmp_path / "a.png",
        COLOURS,
        form="multiclass",
        classes_config=[("hole", ("#ff0000",)), ("crack", ("#00FF00",))],
    )
    assert label.paint(GRID).tolist() == [[0, 1, 2], [0, 1, 1]]


def test_colours_nobody_named_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is coloured.*#ff0000 \(3 px\), #000000 \(2 px\), #00ff00 \(1 px\)"):
        label_of(tmp_path / "a.png", COLOURS).paint(GRID)
    known = label_of(tmp_path / "a.png", COLOURS, classes_config=[("hole", ("#ff0000",))])
    with pytest.raises(DataError, match=r"holds the value #00ff00 \(1 px\), which no class means"):
        known.paint(GRID)


def test_a_palette_is_read_by_index_and_that_is_told(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2], [0, 0, 1]], np.uint8), mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "a.png")
    classes = [("hole", ()), ("crack", ())]
    plane, told = label_of(tmp_path / "a.png", form="multiclass", classes_config=classes).paint_and_tell(GRID)
    assert plane.tolist() == [[0, 1, 2], [0, 0, 1]]
    assert told["notes"] == ["palette images, read by index"]
    colours = [("crack", ("#00ff00",)), ("hole", ("#ff0000",))]
    label = label_of(tmp_path / "a.png", form="multiclass", classes_config=colours)
    assert label.paint(GRID).tolist() == [[0, 2, 1], [0, 0, 2]]


def test_grey_stored_in_three_bands_is_read_as_one(tmp_path: Path) -> None:
    grey = np.array([[0, 255, 0], [0, 0, 255]], np.uint8)
    plane, told = label_of(tmp_path / "a.png", np.stack([grey] * 3, axis=-1)).paint_and_tell(GRID)
    assert plane.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert told["notes"] == ["three equal bands, read as one"]


def test_large_class_numbers_of_sixteen_bits_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1000, 0], [0, 2000, 0]], np.uint16)).save(tmp_path / "a.png")
    label = label_of(tmp_path / "a.png", form="multiclass", classes_config=[("a", (1000,)), ("b", (2000,))])
    assert label.paint(GRID).tolist() == [[0, 1, 0], [0, 2, 0]]


def test_transparent_masks_are_refused(tmp_path: Path) -> None:
    values = np.zeros((2, 3, 4), np.uint8)
    values[0, 0, 3] = 255
    with pytest.raises(DataError, match="is transparent in 5 pixels"):
        label_of(tmp_path / "a.png", values).paint(GRID)


def test_nodata_of_a_mask_does_not_count(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "height": 2, "width": 3, "count": 1, "dtype": "float32", "nodata": -1}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
        file.write(np.array([[[0, 1, -1], [np.nan, 0, 1]]], np.float32))
    assert label_of(tmp_path / "a.tif").paint(GRID).tolist() == [[0, 1, 255], [255, 0, 1]]


def test_sizes_that_differ_are_told_for_both_files(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        label_of(tmp_path / "a.png", np.zeros((3, 2))).paint(GRID)
    assert "has 3 x 2 pixels (rows x columns), its image images/a.jpg has 2 x 3" in str(caught.value)
    assert "EXIF orientation" in str(caught.value)


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "height": 2, "width": 3, "count": 1, "dtype": "uint8", "crs": "EPSG:32611"}
    with rasterio.open(tmp_path / "a.tif", "w", transform=from_origin(5000, 200, 1, 1), **profile) as file:
        file.write(np.zeros((1, 2, 3), np.uint8))
    with rasterio.open(tmp_path / "a.tif") as file:
        there = Grid(2, 3, (1.0, 0.0, 100.0, 0.0, -1.0, 200.0), file.crs.to_wkt())
    with pytest.raises(GridError, match="lies elsewhere than its image"):
        label_of(tmp_path / "a.tif").paint(there)


def test_images_without_masks_are_refused_left_out_or_empty(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "a.png")
    images, masks = {"a": Path("a.jpg"), "b": Path("b.jpg")}, {"a": tmp_path / "a.png"}
    refused = open_mask_labels(images, masks, searched="there")
    assert refused.faults[0].startswith("1 of 2 images have no mask: b. Masks were looked for in there.")
    skipped = open_mask_labels(images, masks, missing="skip")
    assert (list(skipped.labels), skipped.notes) == (["a"], ("1 of 2 images have no mask: b; they are left out",))
    empty = open_mask_labels(images, masks, missing="empty")
    assert empty.labels["b"].paint(GRID).tolist() == [[0, 0, 0], [0, 0, 0]]


def write_classes(tmp_path: Path) -> dict[str, Any]:
    for name, value in (("a", 255), ("b", 255), ("c", 0)):
        Image.fromarray(np.full((2, 3), value, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "kinds.csv").write_text("file,defect\na,hole\nb.jpg,crack\nc,free\n")
    return {
        "images": {name: Path(f"{name}.jpg") for name in "abc"},
        "masks": {name: tmp_path / f"{name}.png" for name in "abc"},
        "image_classes": tmp_path / "kinds.csv",
        "class_column": "defect",
    }


def test_a_table_names_the_class_of_what_is_painted(tmp_path: Path) -> None:
    labels = open_mask_labels(**write_classes(tmp_path), form="multiclass")
    assert labels.classes.names == ("background", "crack", "hole")  # nothing is painted in images of the class free
    assert [int(labels.labels[name].paint(GRID).max()) for name in "abc"] == [2, 1, 0]


def test_something_painted_in_a_class_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    labels = open_mask_labels(**write_classes(tmp_path), form="multiclass", classes_config=[("hole", ())])
    assert labels.labels["a"].paint(GRID).max() == 1
    assert labels.labels["c"].paint(GRID).max() == 0
    with pytest.raises(DataError, match=r'b\.jpg is of class "crack", which is none of the classes, and 6 pixels'):
        labels.labels["b"].paint(GRID)


def test_a_table_without_the_column_or_an_image_is_told(tmp_path: Path) -> None:
    options = write_classes(tmp_path)
    with pytest.raises(DataError, match="has no column kind; it has file, defect"):
        open_mask_labels(**{**options, "class_column": "kind"})
    images = {**options["images"], "d": Path("d.jpg")}
    masks = {**options["masks"], "d": tmp_path / "a.png"}
    labels = open_mask_labels(**{**options, "images": images, "masks": masks}, form="multiclass")
    assert "names no class for 1 images: d" in labels.faults[0]


@pytest.mark.parametrize(
    ("classes", "options", "text"),
    [
        ([("a", ("red",))], {}, "'red' is no value of a mask"),
        ([("a", (0,))], {}, "the value 0 has two meanings"),
        ([("a", ("#ff0000",)), ("b", (3,))], {}, "some values are colours"),
        ([], {"ignore_values": (255,)}, "the values of the foreground must be said as well"),
    ],
)
def test_values_that_make_no_sense_are_refused(tmp_path: Path, classes: Any, options: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        label_of(tmp_path / "a.png", [[0, 1, 0], [0, 0, 1]], classes_config=classes, **options)


def test_recipes_differ_where_the_painting_does(tmp_path: Path) -> None:
    first = label_of(tmp_path / "a.png", [[0, 1, 0], [0, 0, 1]], classes_config=[("a", (1,))])
    second = label_of(tmp_path / "a.png", classes_config=[("a", (1, 2))])
    renamed = label_of(tmp_path / "a.png", classes_config=[("b", (1,))])
    assert first.recipe() != second.recipe()
    assert first.recipe() == renamed.recipe()
