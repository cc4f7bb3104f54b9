from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest

from maskwright.errors import ShapeError
from maskwright.pictures import code, figure, line_chart, page, paragraph, sentences, table

VOID = {"meta", "img", "br", "link"}


class Outline(HTMLParser):
    """Checks that every tag is closed in order, and keeps what was seen."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, size=(6, 8, 3), dtype=np.uint8)


def whole() -> str:
    return page(
        "Gaps",
        [
            (
                "Result",
                [paragraph("Scored on 12 tiles."), table(["height", "IoU"], [["5 m", 0.5]]), sentences(["One."])],
            ),
            ("Pictures", [figure(picture(), "A map")]),
            ("Next", [code("maskwright predict RUN raster.tif")]),
        ],
        subtitle="run 3",
    )


def test_the_page_is_well_formed_and_says_everything() -> None:
    outline = Outline(whole())

    for text in ("Gaps", "run 3", "Result", "Scored on 12 tiles.", "5 m", "0.500", "One.", "A map"):
        assert text in outline.texts
    assert "maskwright predict RUN raster.tif" in outline.texts


def test_nothing_is_fetched_when_the_page_is_opened() -> None:
    html = whole()

    assert not re.search(r"https?://|//[a-z]+\.|<script|<link|@import|url\(", html)
    assert all((attrs["src"] or "").startswith("data:image/") for tag, attrs in Outline(html).seen if tag == "img")


def test_everything_given_is_escaped() -> None:
    evil = "<script>alert('x')</script> & \"quotes\""
    html = page(
        evil,
        [
            (
                evil,
                [
                    paragraph(evil),
                    sentences([evil]),
                    code(evil),
                    figure(picture(), evil),
                    table([evil, "b"], [[evil, evil]]),
                ],
            )
        ],
        subtitle=evil,
    )

    assert "<script" not in html
    outline = Outline(html)
    assert {attrs["alt"] for tag, attrs in outline.seen if tag == "img"} == {evil}


def test_the_page_follows_light_and_dark_mode() -> None:
    html = whole()

    assert "prefers-color-scheme: dark" in html
    assert '<meta name="color-scheme" content="light dark">' in html


def test_the_same_content_gives_the_same_page() -> None:
    assert whole() == whole()


def test_pictures_are_inside_the_page_unchanged() -> None:
    block = figure(picture(), "A map", width_px=300)

    kind, data = block.uri.split(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data)))), picture())
    assert 'width="300"' in page("t", [("s", [block])])


def test_a_chart_is_shown_at_the_size_it_was_drawn_for() -> None:
    chart = line_chart([1, 2], {"a": [1, 2]})

    assert figure(chart).width == round(7.2 * 96)
    assert figure(chart, width_px=200).width == 200
    assert figure(picture()).width is None


def test_a_large_relief_is_stored_smaller() -> None:
    noise = np.random.default_rng(1).integers(0, 255, size=(400, 400, 3), dtype=np.uint8)

    assert figure(noise).uri.startswith("data:image/jpeg;base64,")


def test_columns_of_numbers_stand_to_the_right() -> None:
    block = table(
        ["height", "IoU", "interval", "share", "site", "area"],
        [
            ["5 m", 0.71234, "0.651 to 0.781", "12.5%", "12a", "3.4 ha"],
            ["10 m", float("nan"), "", "-", "b", "0.5 ha"],
        ],
        units={"area": "ha"},
    )

    assert [column.number for column in block.columns] == [False, True, True, True, False, True]
    assert block.rows[0][1] == "0.712"
    assert block.rows[1][1] == "-"
    html = page("t", [("s", [block])])
    assert '<th scope="row">5 m</th>' in html
    assert '<td class="number">0.712</td>' in html
    assert '<span class="unit">(ha)</span>' in html


def test_whole_numbers_text_and_nothing_are_written_as_they_are() -> None:
    block = table(["a", "b", "c", "d"], [["x", 12, None, np.float32(0.25)]])

    assert block.rows == (("x", "12", "-", "0.250"),)


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"A row of 1 cells does not fit 2 columns: \['x'\]"):
        table(["a", "b"], [["x"]])


def test_a_page_of_many_parts_has_links_to_them() -> None:
    outline = Outline(whole())

    links = [attrs["href"] for tag, attrs in outline.seen if tag == "a"]
    parts = [attrs["id"] for tag, attrs in outline.seen if tag == "section"]
    assert links == [f"#{part}" for part in parts]
    assert not [tag for tag, _ in Outline(page("t", [("s", [])])).seen if tag == "a"]
