from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from maskwright.data.sources import file_hashes as module
from maskwright.data.sources.file_hashes import file_hashes
from maskwright.errors import DataError


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = tmp_path / "a.bin", tmp_path / "cache"
    path.write_bytes(b"one")
    os.utime(path, (1000, 1000))
    digest = hashlib.sha256(b"one").hexdigest()
    assert file_hashes([path], folder) == {path: digest}
    monkeypatch.setattr(module, "sha256_file", lambda file: "0" * 64)
    assert file_hashes([path], folder) == {path: digest}
    path.write_bytes(b"two")
    assert file_hashes([path], folder) == {path: "0" * 64}


def test_a_file_written_a_moment_ago_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for content in (b"one", b"two"):  # same size, perhaps the same time
        path.write_bytes(content)
        assert file_hashes([path], tmp_path / "cache") == {path: hashlib.sha256(content).hexdigest()}


def test_the_hash_of_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.tif cannot be read"):
        file_hashes([tmp_path / "gone.tif"], tmp_path)
