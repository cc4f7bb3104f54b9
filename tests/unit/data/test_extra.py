"""Images with masks made by a model: written, read back, refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.data.extra import EXTRA_FILE, ExtraImage, ExtraMask, read_extra, write_extra
from maskwright.data.sources.classes import ClassTable
from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError

GRID = Grid(2, 3, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None)
CRACK = ClassTable(("crack",), "binary", "background", ((255,),))


def folder_of(tmp_path: Path, ids: np.ndarray) -> Path:
    (tmp_path / "masks").mkdir()
    Image.fromarray(ids).save(tmp_path / "masks" / "a.png")
    write_extra(tmp_path, [ExtraImage("a", Path("/photos/a.jpg"), tmp_path / "masks" / "a.png")], CRACK)
    return tmp_path


def test_a_list_is_read_back_with_masks_of_ids(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    (item,) = read_extra(folder_of(tmp_path, ids), CRACK)
    assert (item.name, item.path, item.part) == ("extra:a", Path("/photos/a.jpg"), None)
    assert isinstance(item.label, ExtraMask)
    assert np.array_equal(item.label.paint(GRID), ids)


def test_sets_of_bits_survive_the_file(tmp_path: Path) -> None:
    bits = np.array([[0, 5, 65535], [1, 4, 7]], np.uint16)
    Image.fromarray(bits).save(tmp_path / "bits.png")
    assert np.array_equal(ExtraMask(tmp_path / "bits.png", "multilabel", 3).paint(GRID), bits)


def test_masks_of_other_classes_sizes_and_ids_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, np.array([[0, 2, 255]], np.uint8))
    with pytest.raises(DataError, match=r"are of binary classes crack, these data of binary classes rust"):
        read_extra(folder, ClassTable(("rust",), "binary", "background", ((255,),)))
    (item,) = read_extra(folder, CRACK)
    assert isinstance(item.label, ExtraMask)
    with pytest.raises(DataError, match="is 1 x 3 px and its image 2 x 3 px"):
        item.label.paint(GRID)
    with pytest.raises(DataError, match="holds the id 2, which is no class of these data"):
        item.label.paint(Grid(1, 3, GRID.transform, None))


def test_a_folder_without_a_list_or_with_a_damaged_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no extra\.json"):
        read_extra(tmp_path, CRACK)
    (tmp_path / EXTRA_FILE).write_text(json.dumps({"version": 1}))
    with pytest.raises(DataError, match="is damaged"):
        read_extra(tmp_path, CRACK)
