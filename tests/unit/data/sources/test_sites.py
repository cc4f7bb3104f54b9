from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.data.sources import find_sites
from maskwright.errors import DataError


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_rasters_are_matched_by_prefix_whatever_case_separator_and_ending(tmp_path: Path) -> None:
    _touch(tmp_path, "a_DSM.tif", "a_CHM.tif", "b-dsm.tif", "b_chm.TIFF", "cDSM.tiff", "cdtm.tif", "plot 1 CHM.tif")
    sites, orphans = find_sites(tmp_path)
    assert orphans == ()
    found = [(site.name, *(path.name if path else None for path in (site.dsm, site.chm, site.dtm))) for site in sites]
    assert found == [
        ("a", "a_DSM.tif", "a_CHM.tif", None),
        ("b", "b-dsm.tif", "b_chm.TIFF", None),
        ("c", "cDSM.tiff", None, "cdtm.tif"),
        ("plot 1", None, "plot 1 CHM.tif", None),
    ]
    assert (sites[0].nodata, sites[0].chm_nodata, sites[0].ground) == (None, "tag", None)


def test_orphans_and_files_of_other_names_are_reported(tmp_path: Path) -> None:
    _touch(tmp_path, "a_DSM.tif", "b_DTM.tif", "c_CHM.tif", "ortho.tif", "notes.txt")
    sites, orphans = find_sites(tmp_path)
    assert [site.name for site in sites] == ["c"]
    assert orphans == (
        "a_DSM.tif: no CHM or DTM with the same prefix, so heights above ground are not known",
        "b_DTM.tif: no DSM or CHM with the same prefix, so heights above ground are not known",
        "ortho.tif: its name ends in none of DSM, CHM, DTM",
    )


def test_suffixes_can_be_chosen_and_the_longest_wins(tmp_path: Path) -> None:
    _touch(tmp_path, "x_height.tif", "x_top_height.tif")
    sites, _ = find_sites(tmp_path, dsm_suffix="top_height", chm_suffix="height")
    assert len(sites) == 1
    assert (sites[0].name, sites[0].dsm, sites[0].chm) == (
        "x",
        tmp_path / "x_top_height.tif",
        tmp_path / "x_height.tif",
    )


def test_files_without_a_prefix_are_named_after_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "plot7"
    folder.mkdir()
    _touch(folder, "DSM.tif", "CHM.tif")
    assert [site.name for site in find_sites(folder)[0]] == ["plot7"]


def test_two_files_for_one_place_are_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "a_DSM.tif", "A-dsm.tiff", "a_CHM.tif")
    with pytest.raises(DataError, match=r"A-dsm\.tiff and a_DSM\.tif claim the same place"):
        find_sites(tmp_path)


def test_a_folder_without_sites_says_what_was_there(tmp_path: Path) -> None:
    _touch(tmp_path, "a_DSM.tif")
    with pytest.raises(DataError, match=r"holds no site: no CHM, and no DSM with DTM(.|\n)*a_DSM\.tif: no CHM or DTM"):
        find_sites(tmp_path)
    with pytest.raises(DataError, match=r"nowhere is no folder\. Set data\.folder"):
        find_sites(tmp_path / "nowhere")
