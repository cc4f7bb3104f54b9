"""A step that writes many files: what is finished is kept, what is half done never remains, what is foreign is left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from maskwright.data.cache import recipe_key
from maskwright.errors import RunError
from maskwright.files import check_writable, explain_os_error, remove_stale, sha256_file, write_text

__all__ = ["Job", "file_facts"]


def file_facts(paths: Iterable[Path]) -> list[list[Any]]:
    """Path, size and modification time of files, for the recipe of a job: a changed source starts it anew."""
    facts = []
    for path in paths:
        status = path.stat()
        facts.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    return facts


class Job:
    """The files one step writes into a folder, and which of them are finished.

    The list ``.prepare_STEP.jsonl`` in the folder names the job and its files before the first is written, then each
    finished file with its size and hash.

    Args:
        out: The folder; made if missing.
        step: ``align``, ``tiles``, ``masks`` or ``shards``.
        recipe: Plain values; a job with the same recipe continues, another one starts anew.
        names: The files the job will write, relative to ``out``.
        overwrite: Replace files of the same names that another job or somebody else wrote.

    Raises:
        RunError: If the folder cannot be written, or files of these names are there already and are not this job's.
    """

    def __init__(
        self, out: Path, step: str, recipe: Mapping[str, Any], names: Iterable[str], *, overwrite: bool = False
    ) -> None:
        self.out, self.names = out, tuple(names)
        self._list = out / f".prepare_{step}.jsonl"
        self._key = recipe_key({"step": step, "recipe": recipe, "names": list(self.names)})
        out.mkdir(parents=True, exist_ok=True)
        check_writable(out)
        remove_stale(out)
        self._finished: dict[str, dict[str, Any]] = {}
        if not self._resume():
            self._begin(overwrite)

    def finished(self, name: str) -> dict[str, Any] | None:
        """The facts of a file finished earlier and whole still; None if it is to be written."""
        entry = self._finished.get(name)
        path = self.out / name
        if entry is None or not path.is_file() or path.stat().st_size != entry["bytes"]:
            return None
        return dict(entry["facts"]) if sha256_file(path) == entry["sha256"] else None

    def sha256(self, name: str) -> str:
        """The hash of a finished file."""
        return str(self._finished[name]["sha256"])

    def finish(self, name: str, facts: Mapping[str, Any] | None = None) -> None:
        """Note that a file is written and whole. Raises RunError if the list cannot be written."""
        path = self.out / name
        entry = {
            "file": name,
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
            "facts": dict(facts or {}),
        }
        try:
            with open(self._list, "a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(entry))  # a line cut by a kill spoils itself alone
                file.flush()
                os.fsync(file.fileno())
        except OSError as cause:
            raise RunError(explain_os_error(cause, self._list)) from cause
        self._finished[name] = entry

    def _resume(self) -> bool:
        try:
            first, *lines = self._list.read_text(encoding="utf-8").splitlines() or [""]
        except OSError:
            return False
        if first != self._key:
            return False
        for line in filter(None, lines):
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the file it speaks of is written again
            self._finished[entry["file"]] = entry
        return True

    def _begin(self, overwrite: bool) -> None:
        there = [name for name in self.names if (self.out / name).exists()]
        if there and not overwrite:
            more = f" and {len(there) - 3} more" if len(there) > 3 else ""
            raise RunError(
                f"{self.out} holds {', '.join(there[:3])}{more} already, and another job wrote them. Choose another "
                "folder, or replace them with --overwrite."
            )
        write_text(self._list, self._key + "\n")
