from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.data.sources.coco import open_coco_labels
from maskwright.data.sources.image_header import read_header
from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError

SQUARE = [[1, 1, 3, 1, 3, 3, 1, 3]]
CATEGORIES = [{"id": 7, "name": "crack"}, {"id": 3, "name": "stain"}]


def grid(height: int = 4, width: int = 5) -> Grid:
    return Grid(height, width, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)


def annotation(**values: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 1, 2, 2], "iscrowd": 0, **values}


def image(**values: Any) -> dict[str, Any]:
    return {"id": 1, "file_name": "a.png", "height": 4, "width": 5, **values}


def write(folder: Path, annotations: list[Any], images: list[Any] | None = None, categories: Any = CATEGORIES) -> Path:
    content = {"images": [image()] if images is None else images, "annotations": annotations, "categories": categories}
    path = folder / "labels.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def painted(folder: Path, annotations: list[Any], **options: Any) -> np.ndarray:
    found = open_coco_labels(write(folder, annotations), {"a": folder / "a.png"}, **options)
    assert found.faults == ()
    return found.labels["a"].paint(grid())


def faults_of(folder: Path, annotations: list[Any], images: list[Any] | None = None, **options: Any) -> str:
    found = open_coco_labels(write(folder, annotations, images), {"a": folder / "a.png"}, **options)
    return "\n".join(found.faults)


def test_polygons_are_painted(tmp_path: Path) -> None:
    out = painted(tmp_path, [annotation(segmentation=SQUARE)])
    np.testing.assert_array_equal(out, [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    assert out.dtype == np.uint8


def test_run_lengths_of_both_kinds_paint_the_same(tmp_path: Path) -> None:
    # Column by column: 5 outside, 2 inside, 2 outside, 2 inside, 9 outside; a hole needs no special word.
    listed = painted(tmp_path, [annotation(segmentation={"size": [4, 5], "counts": [5, 2, 2, 2, 9]})])
    packed = painted(tmp_path, [annotation(segmentation={"size": [4, 5], "counts": "52207"})])
    np.testing.assert_array_equal(listed, packed)
    np.testing.assert_array_equal(listed, [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])


def test_parts_of_an_annotation_are_a_union(tmp_path: Path) -> None:
    out = painted(tmp_path, [annotation(segmentation=[[0, 0, 5, 0, 5, 4, 0, 4], SQUARE[0]])])
    assert out.all()


def test_categories_become_classes_by_name(tmp_path: Path) -> None:
    both = [
        annotation(segmentation=SQUARE),
        annotation(id=2, category_id=3, segmentation=[[0, 0, 1, 0, 1, 1, 0, 1]], bbox=[0, 0, 1, 1]),
    ]
    table = open_coco_labels(write(tmp_path, both), {"a": tmp_path / "a.png"}, form="multiclass").classes
    assert table.names == ("background", "crack", "stain")
    out = painted(tmp_path, both, form="multiclass")
    assert (out[0, 0], out[1, 1], out[3, 4]) == (2, 1, 0)
    turned = painted(tmp_path, both, form="multiclass", classes_config=[("stain", ()), ("line", (7,))])
    assert (turned[0, 0], turned[1, 1]) == (1, 2)
    bits = painted(tmp_path, both, form="multilabel")
    assert (bits[0, 0], bits[1, 1], bits[3, 4]) == (2, 1, 0)
    assert bits.dtype == np.uint16


def test_categories_may_be_background_or_not_counted(tmp_path: Path) -> None:
    both = [
        annotation(segmentation=SQUARE),
        annotation(id=2, category_id=3, segmentation=[[0, 0, 1, 0, 1, 1, 0, 1]], bbox=[0, 0, 1, 1]),
    ]
    out = painted(tmp_path, both, classes_config=[("crack", ())], ignore_values=("stain",))
    assert (out[0, 0], out[1, 1], out[3, 4]) == (255, 1, 0)
    out = painted(tmp_path, both, background_values=(3,))
    assert (out[0, 0], out[1, 1]) == (0, 1)
    kept = open_coco_labels(write(tmp_path, both), {}, form="multiclass", background_values=(3,)).classes
    assert kept.names == ("background", "crack")
    text = faults_of(tmp_path, both, classes_config=[("crack", ())])
    assert "categories that belong to no class: stain (1 annotations). The classes are crack" in text
    assert "data.labels.ignore_values" in text


def test_crowds_do_not_count_or_are_painted(tmp_path: Path) -> None:
    crowd = {"size": [4, 5], "counts": [0, 4, 16]}
    both = [annotation(segmentation=crowd, iscrowd=1, bbox=[0, 0, 1, 4])]
    assert painted(tmp_path, both)[:, 0].tolist() == [255] * 4
    assert painted(tmp_path, both, crowds="paint")[:, 0].tolist() == [1] * 4
    found = open_coco_labels(write(tmp_path, both), {"a": tmp_path / "a.png"}).labels["a"].instances(grid())
    assert found is not None
    assert found.crowd.tolist() == [True]
    assert found.labels.tolist() == [1]


def test_boxes_alone_are_refused_or_filled_and_kept_either_way(tmp_path: Path) -> None:
    boxes = [annotation(), annotation(id=2, segmentation=[], bbox=[0, 0, 1, 1])]
    refused = open_coco_labels(write(tmp_path, boxes), {"a": tmp_path / "a.png"})
    (fault,) = refused.faults
    assert "have a box and no outline: annotation 1 of a.png, annotation 2 of a.png" in fault
    assert "data.labels.boxes: fill" in fault
    kept = refused.labels["a"].instances(grid())
    assert kept is not None
    assert kept.boxes.tolist() == [[1, 1, 3, 3], [0, 0, 1, 1]]
    with pytest.raises(DataError, match="box and no outline"):
        refused.labels["a"].paint(grid())
    assert painted(tmp_path, boxes, boxes="fill").sum() == 5


def test_crown_diameters_are_kept_as_the_file_says_them(tmp_path: Path) -> None:
    entries = [
        annotation(segmentation=SQUARE, crown_diameter=6.5),
        annotation(id=2, segmentation=SQUARE, attributes={"crown_diameter": 3}),
        annotation(id=3, segmentation=SQUARE),
    ]
    found = open_coco_labels(write(tmp_path, entries), {"a": tmp_path / "a.png"}).labels["a"].instances(grid())
    assert found is not None
    assert found.crown_diameter[:2].tolist() == [6.5, 3.0]
    assert np.isnan(found.crown_diameter[2])


def test_an_image_without_annotations_is_all_background(tmp_path: Path) -> None:
    assert not painted(tmp_path, []).any()


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    bad = [
        annotation(segmentation=[[1, 1, 2, 2]]),
        annotation(id=2, image_id=99, segmentation=SQUARE),
        annotation(id=3, category_id=99, segmentation=SQUARE),
        {"id": 4, "image_id": 1, "category_id": 7},
        annotation(id=5, segmentation=SQUARE, bbox=[1, 1, 0, 2]),
        annotation(id=6, segmentation=[[11, 11, 13, 11, 13, 13]]),
        annotation(id=7, segmentation=[[1, 1, 2, 2, 3, 3]]),
        annotation(id=8, segmentation=[[1, 1, 2, 2, 3, "x"]]),
        annotation(id=9, segmentation=[[1, 1, 2, 2, 3, 3, 4]]),
        annotation(id=10, segmentation={"size": [4, 5], "counts": [5, 2]}),
        annotation(id=11, segmentation={"size": [5, 4], "counts": [20]}),
        annotation(id=12, segmentation={"size": [4, 5], "counts": "5`"}),
        annotation(id=13, segmentation=SQUARE, crown_diameter=-1),
        annotation(id=14, segmentation={"size": [4, 5], "counts": [20]}),
    ]
    images = [image(), image(id=2, file_name="sub dir/gone é.png"), image(id=1, file_name="b.png")]
    text = faults_of(tmp_path, bad, images)
    for expected in (
        "images that are not there: sub dir/gone é.png. Put them into the folder",
        "images with one id: 1 (a.png and b.png)",
        "a polygon of fewer than three points: annotation 1 of a.png. Correct or remove them",
        "of an image that is not listed: annotation 2 (image_id 99)",
        "of a category that is not listed: annotation 3 (category_id 99)",
        "without outline and box: annotation 4",
        "whose box has no size: annotation 5",
        "that lie outside their image: annotation 6",
        "whose outline has no area: annotation 7 of a.png, annotation 14",
        "coordinates that are no numbers: annotation 8",
        "odd number of coordinates: annotation 9",
        "do not add up to the image: annotation 10",
        "of another size than the image: annotation 11",
        "is cut off: annotation 12",
        "crown_diameter is no positive number: annotation 13",
    ):
        assert expected in text, expected
    assert text.count("labels.json") == len(text.splitlines())


def test_annotations_that_cannot_be_painted_may_be_left_out(tmp_path: Path) -> None:
    entries = [annotation(segmentation=[[1, 1, 2, 2]]), annotation(id=2, segmentation=SQUARE)]
    found = open_coco_labels(write(tmp_path, entries), {"a": tmp_path / "a.png"}, unusable="skip")
    assert found.faults == ()
    assert "left out, annotations that have a polygon of fewer than three points: annotation 1" in found.notes[0]
    assert found.labels["a"].paint(grid()).sum() == 4


def test_harmless_things_are_notes(tmp_path: Path) -> None:
    entries = [
        annotation(segmentation=SQUARE),
        annotation(segmentation=[[3, 3, 9, 3, 9, 9, 3, 9]], bbox=[3, 3, 6, 6]),
    ]
    found = open_coco_labels(write(tmp_path, entries), {"a": tmp_path / "a.png", "b": tmp_path / "b.png"})
    text = "\n".join(found.notes)
    assert found.faults == ()
    assert "ids of annotations used more than once, which is harmless here: 1" in text
    assert "reach past their image and are cut there: annotation 1 of a.png" in text
    assert "images that the labels do not list, left without a label: b.png" in text
    assert list(found.labels) == ["a"]
    instances = found.labels["a"].instances(grid())
    assert instances is not None
    assert instances.boxes[1].tolist() == [3, 3, 5, 4]


def test_many_alike_make_one_short_text(tmp_path: Path) -> None:
    text = faults_of(tmp_path, [annotation(id=i, segmentation=[[1, 1, 2, 2]]) for i in range(1000)])
    assert "and 995 more" in text
    assert len(text) < 500


def test_names_with_folders_blanks_and_accents_find_their_images(tmp_path: Path) -> None:
    names = ["train/site one/bäum 1.png", "val\\site one\\bäum 1.png", "./c.png"]  # the second spells ä with two signs
    images = [image(id=i, file_name=name) for i, name in enumerate(names)]
    paths = {
        "train/site one/bäum 1": tmp_path / "images" / "train" / "site one" / "bäum 1.png",
        "val/site one/bäum 1": tmp_path / "images" / "val" / "site one" / "bäum 1.png",
        "c": tmp_path / "images" / "c.png",
    }
    found = open_coco_labels(write(tmp_path, [annotation(image_id=1, segmentation=SQUARE)], images), paths)
    assert found.faults == ()
    assert found.notes == ()
    assert [label.paint(grid()).any() for label in found.labels.values()] == [False, True, False]


def test_a_name_that_fits_several_images_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, [], [image()])
    found = open_coco_labels(path, {"x/a": tmp_path / "x" / "a.png", "y/a": tmp_path / "y" / "a.png"})
    assert "file names that fit several images: a.png (" in found.faults[0]
    assert "Write their folders into file_name" in found.faults[0]


def test_two_entries_of_one_image_are_refused(tmp_path: Path) -> None:
    text = faults_of(tmp_path, [], [image(), image(id=2, file_name="old/a.png")])
    assert "entries of images that mean one file: a.png and old/a.png" in text


def test_a_folder_holds_a_file_for_each_part(tmp_path: Path) -> None:
    paths = {}
    for part, categories in (("train", CATEGORIES), ("valid", [{"id": 0, "name": "stain"}])):
        (tmp_path / part).mkdir()
        entries = [annotation(segmentation=SQUARE, category_id=categories[-1]["id"])]
        write(tmp_path / part, entries, categories=categories)
        paths[f"{part}/a"] = tmp_path / part / "a.png"  # the same name in both
    found = open_coco_labels(tmp_path, paths, form="multiclass")
    assert (found.faults, found.notes) == ((), ())
    assert found.classes.names == ("background", "crack", "stain")
    assert [int(label.paint(grid()).max()) for label in found.labels.values()] == [2, 2]
    assert [label.files for label in found.labels.values()] == [
        (tmp_path / part / "labels.json",) for part in ("train", "valid")
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no json\. Set data\.labels\.file"):
        open_coco_labels(tmp_path / "empty", paths)


def test_an_image_of_another_size_is_refused_when_painted(tmp_path: Path) -> None:
    label = open_coco_labels(write(tmp_path, []), {"a": tmp_path / "a.png"}).labels["a"]
    with pytest.raises(DataError, match=r"a\.png has 8 x 10 pixels, .*labels\.json says 4 x 5\. Annotations would lie"):
        label.paint(grid(8, 10))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"images": [', "is no json: .* in line 1"),
        (b"[]", "is no COCO file: it has no list images, annotations, categories"),
        (b'{"images": [], "annotations": []}', "it has no list categories"),
        (b'{"images": "\xff"}', "is not UTF-8 text"),
    ],
)
def test_files_that_are_no_coco_say_why(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=why):
        open_coco_labels(path, {})
    with pytest.raises(DataError, match=r"gone\.json cannot be read"):
        open_coco_labels(tmp_path / "gone.json", {})


def test_the_recipe_changes_with_what_is_painted(tmp_path: Path) -> None:
    path = write(tmp_path, [annotation(segmentation=SQUARE)])
    images = {"a": tmp_path / "a.png"}
    recipes = [
        json.dumps(open_coco_labels(path, images, **options).labels["a"].recipe(), sort_keys=True)
        for options in (
            {},
            {"crowds": "paint"},
            {"order": "as_listed"},
            {"form": "multiclass"},
            {"ignore_values": (3,)},
        )
    ]
    assert len(set(recipes)) == len(recipes)
    assert open_coco_labels(path, images).labels["a"].files == (path,)


@pytest.mark.real
def test_real_boxes_of_tree_crowns(real_data: Path) -> None:
    folder = real_data / "trees_neon"
    images = {path.stem: path for path in sorted((folder / "images").iterdir())}
    found = open_coco_labels(folder / "annotations_boxes_coco.json", images, boxes="fill")
    assert found.faults == ()
    assert found.classes.names == ("tree",)
    assert len(found.labels) == 35
    instances = [label.instances(read_header(images[name]).grid) for name, label in found.labels.items()]
    assert sum(len(entry) for entry in instances if entry is not None) == 522


@pytest.mark.real
def test_real_weak_masks_are_box_and_canopy(real_data: Path) -> None:
    folder = real_data / "trees_neon"
    images = {path.stem: path for path in sorted((folder / "images").glob("TEAK*"))}
    found = open_coco_labels(folder / "annotations_teak_weakmasks_coco.json", images)
    assert (found.faults, found.notes, len(found.labels)) == ((), (), 11)
    objects = 0
    for name, label in found.labels.items():
        instances = label.instances(read_header(images[name]).grid)
        assert instances is not None
        canopy = _mask(folder / "canopy_masks" / f"{name}.png")
        for index, (x0, y0, x1, y1) in enumerate(instances.boxes.astype(int)):
            box = np.zeros_like(canopy)
            box[y0:y1, x0:x1] = True
            np.testing.assert_array_equal(instances.mask(index), box & canopy)
        objects += len(instances)
    assert objects == 298


@pytest.mark.real
def test_real_polygons_of_tree_crowns(real_data: Path) -> None:
    folder = real_data / "trees_oam_tcd"
    images = {path.stem: path for path in sorted((folder / "images").iterdir())}
    found = open_coco_labels(folder / "annotations_coco.json", images)
    assert found.faults == ()
    shares, objects = [], 0
    for name, label in found.labels.items():
        header = read_header(images[name])
        ours, theirs = label.paint(header.grid) == 1, _mask(folder / "masks" / f"{name}.png")
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97
        shares.append(round(100 * float(ours.mean()), 1))
        instances = label.instances(header.grid)
        objects += 0 if instances is None else len(instances)
    assert shares == [4.4, 0.8]
    assert objects == 49


def _mask(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture) > 0
