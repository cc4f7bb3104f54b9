"""Small pieces that several pages show."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from maskwright.dashboard.view import View
from maskwright.tracking.shelf import RunShelf


def test_an_empty_folder_says_what_would_fill_it(tmp_path: Path) -> None:
    def script(folder: str) -> None:
        from pathlib import Path

        import pandas as pd

        from maskwright.dashboard.view import View, table
        from maskwright.tracking.shelf import RunShelf

        view = View(RunShelf(Path(folder)), None, read_only=True, refresh_s=5.0)
        assert view.look() is None
        table(pd.DataFrame(), "key", otherwise="Nothing yet.")
        table(pd.DataFrame({"score": [0.5]}), "more", otherwise="Nothing yet.")

    test = AppTest.from_function(script, args=(str(tmp_path),), default_timeout=60).run()
    assert not test.exception
    assert "There are no runs in" in test.info[0].value
    assert f"maskwright train EXPERIMENT.yaml --output-dir {tmp_path}" in test.code[0].value
    assert test.caption[0].value == "Nothing yet."
    assert test.dataframe[0].value["score"].tolist() == [0.5]


def test_a_view_is_what_a_page_is_given(tmp_path: Path) -> None:
    view = View(RunShelf(tmp_path), None, read_only=False, refresh_s=1.0)
    assert view.shelf.folder == tmp_path
