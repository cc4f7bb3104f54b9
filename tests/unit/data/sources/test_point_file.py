from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskwright.data.sources.point_file import read_points
from maskwright.errors import DataError


@pytest.mark.parametrize(
    "text", ["x,y\n1.5,2\n", "\ufeffx,y\n1.5,2\n", "x;y\n1,5;2\n", " x ,y,more\n1.5,2,z\n", "x\ty\r\n1.5\t2\r\n\r\n"]
)
def test_csv_comes_in_several_dresses(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(text.encode())
    assert read_points(path, "x", "y").xy.tolist() == [[1.5, 2.0]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("X,y\n1,2\n", "has no column x; its columns are X, y"),
        ("east,north\n1,2\n", "has no column x and no column y; its columns are east, north.* Set data.labels.x"),
        ("1,2\n3,4\n", r"the first line holds numbers \(1, 2\)"),
        ("", "is empty"),
        ("x,y\n1,2\n3,tree\n4\n", r"line 3 \(3, tree\), line 4 \(4\): no numbers in the columns x and y"),
        ("x,y\n1,inf\n", "line 2"),
    ],
)
def test_bad_csv_says_what_is_wrong(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=why):
        read_points(path, "x", "y")


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes("x,y,kind\n1,2,tr\xe9e\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte 15\)"):
        read_points(path, "x", "y")


def test_classes_images_and_lines_stand_beside_the_points(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text('image,x,y,kind\n"a, b.tif",1,2,oak\n\nc.tif,3,4, elm\n', encoding="utf-8")
    found = read_points(path, "x", "y", class_column="kind", image_column="image")
    assert found.images == ("a, b.tif", "c.tif")
    assert found.classes == ("oak", "elm")
    assert found.lines.tolist() == [2, 4]
    last = found.pick(np.array([False, True]))
    assert (last.xy.tolist(), last.images, last.classes) == ([[3.0, 4.0]], ("c.tif",), ("elm",))


def test_a_column_of_images_may_be_missing_where_it_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("x,y\n1,2\n", encoding="utf-8")
    assert read_points(path, "x", "y", image_column="image", image_needed=False).images is None
    with pytest.raises(DataError, match="has no column image"):
        read_points(path, "x", "y", image_column="image")
