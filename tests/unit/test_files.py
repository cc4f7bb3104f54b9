from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from maskwright import files
from maskwright.errors import CheckpointError, RunError


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_file_is_replaced_as_a_whole_and_no_temporary_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    files.write_bytes(path, b"new and longer")
    assert path.read_bytes() == b"new and longer"
    assert names_in(tmp_path) == ["a.bin"]


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "Höhe in m²\n")
    assert (tmp_path / "a.txt").read_bytes() == "Höhe in m²\n".encode()


def test_the_steps_of_a_durable_write_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        steps.append("fsync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "fsync file")
        fsync(handle)

    def noted_replace(source: Path, target: Path) -> None:
        steps.append("rename")
        assert Path(source).parent == Path(target).parent
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    with files.durable_file(tmp_path / "a", verify=lambda temporary: steps.append(temporary.read_text())) as file:
        file.write(b"content")
    assert steps == ["fsync file", "content", "rename", "fsync folder"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "no permission"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_refusing_disk_leaves_the_old_file_and_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def refuse(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointError, match=words) as caught:
        files.write_text(path, "new", error=CheckpointError)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.json"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="missing does not exist"):
        files.write_text(tmp_path / "missing" / "a.txt", "x")


def test_an_error_of_the_body_passes_through_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def stumble(file: BinaryIO) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), files.durable_file(path) as file:
        stumble(file)
    with pytest.raises(FileNotFoundError), files.durable_file(path) as file:
        open(tmp_path / "another file")  # noqa: SIM115
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


def test_an_objection_of_verify_stops_the_replacement(tmp_path: Path) -> None:
    def object_to(temporary: Path) -> None:
        raise CheckpointError("not what was written")

    with pytest.raises(CheckpointError, match="not what"), files.durable_file(tmp_path / "a", verify=object_to) as file:
        file.write(b"x")
    assert names_in(tmp_path) == []


def test_readers_never_see_a_half_written_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, ["0" * 5000])
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            files.write_json(path, [str(number % 10) * 5000])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            (text,) = files.read_json(path)
            assert text == text[0] * 5000
    finally:
        stop.set()
        writer.join()


def test_temporary_files_of_dead_processes_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    script = (
        f"from pathlib import Path; from maskwright.files import *; temporary_path(Path({str(tmp_path)!r})/'a').touch()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    (dead,) = names_in(tmp_path)
    mine = files.temporary_path(tmp_path / "b")
    mine.touch()
    other = tmp_path / f".c.00000000-1-0{files.TEMPORARY_SUFFIX}"  # another computer
    other.touch()
    old = tmp_path / f".d.00000000-1-0{files.TEMPORARY_SUFFIX}"
    old.touch()
    os.utime(old, (1, 1))
    (tmp_path / "kept.txt").touch()
    assert files.remove_stale(tmp_path) == (dead, old.name)
    assert names_in(tmp_path) == sorted([mine.name, other.name, "kept.txt"])


def test_a_process_number_given_again_does_not_protect_a_leftover(tmp_path: Path) -> None:
    mine = files.temporary_path(tmp_path / "a")
    mine.touch()
    os.utime(mine, (1, 1))  # written long before this process began
    assert files.remove_stale(tmp_path) == (mine.name,)


def test_json_is_strict_and_numbers_that_are_not_finite_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {
        "nan": math.nan,
        "inf": [math.inf, -math.inf],
        "numpy": np.float32(0.5),
        "int": np.int64(3),
        "path": Path("x/y"),
        "tuple": (1, None, True),
        3: "text",
    }
    files.write_json(path, value)

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    raw = json.loads(path.read_text(), parse_constant=refuse)
    assert raw["nan"] == "NaN"
    assert raw["inf"] == ["Infinity", "-Infinity"]
    back = files.read_json(path)
    assert math.isnan(back.pop("nan"))
    assert back == {
        "inf": [math.inf, -math.inf],
        "numpy": 0.5,
        "int": 3,
        "path": "x/y",
        "tuple": [1, None, True],
        "3": "text",
    }


def test_what_json_cannot_hold_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"value\['a'\]\[1\] is a set"):
        files.write_json(tmp_path / "a.json", {"a": [1, {2}]})
    assert names_in(tmp_path) == []


def test_a_damaged_or_missing_json_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1')
    with pytest.raises(RunError, match=r"a\.json is damaged: not JSON"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(CheckpointError, match=r"b\.json cannot be read: No such file"):
        files.read_json(tmp_path / "b.json", error=CheckpointError)


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert files.sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_free_space_is_that_of_the_disk_even_if_the_folder_is_yet_to_be_made(tmp_path: Path) -> None:
    assert files.free_bytes(tmp_path / "not" / "yet") == pytest.approx(files.free_bytes(tmp_path), rel=0.1)
    assert files.free_bytes(tmp_path) > 0


def test_check_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    files.check_writable(tmp_path)
    files.check_writable(tmp_path / "not" / "yet")
    assert names_in(tmp_path) == []


def test_check_writable_names_folder_and_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file is a file, not a folder"):
        files.check_writable(tmp_path / "file" / "runs")
    with pytest.raises(RunError, match=r"Cannot write in .*: 1000000000\.0 GB are needed and .* are free"):
        files.check_writable(tmp_path, need_bytes=10**18)

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunError, match=r"Cannot write in .*: .* the disk is full"):
        files.check_writable(tmp_path)
    assert names_in(tmp_path) == ["file"]


def test_a_lock_is_exclusive_between_processes_and_freed_by_death(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import time; from pathlib import Path; from maskwright.files import FileLock\n"
        f"with FileLock(Path({str(path)!r})):\n    print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="held by another process"), files.FileLock(path, timeout_s=0.05):
            pass
    finally:
        child.kill()
        child.wait()
    with files.FileLock(path, timeout_s=5):
        pass


def test_a_lock_is_exclusive_between_threads(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with files.FileLock(tmp_path / "lock"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_lock_where_nothing_can_be_written_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="could not be written"), files.FileLock(tmp_path / "missing" / "lock"):
        pass


@pytest.mark.parametrize("text", ['{"a": "NaN"}', b'["NaN"]', '{"a": ["\\u004eaN"]}', b'{"a": NaN}'])
def test_what_is_no_number_is_found_however_it_is_written(text: str | bytes) -> None:
    value = files.parse_json(text)
    found = value["a"] if isinstance(value, dict) else value
    assert math.isnan(found[0] if isinstance(found, list) else found)


def test_infinities_come_back_from_text_and_bytes() -> None:
    assert files.parse_json('{"a": "-Infinity"}') == {"a": -math.inf}
    assert files.parse_json(b'{"a": {"b": "Infinity"}, "c": "Nan"}') == {"a": {"b": math.inf}, "c": "Nan"}
