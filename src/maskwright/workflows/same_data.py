"""require_same_data: a run continues on the data it was begun with, wherever it lies now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from maskwright.errors import RunError
from maskwright.workflows.assemble import data_fingerprint

if TYPE_CHECKING:
    from maskwright.tracking.folder import RunFolder
    from maskwright.workflows.assemble import AnySource

__all__ = ["require_same_data"]

_NAMED = 5
_FREE = ("notes",)  # what was noticed about a site may be worded otherwise


def require_same_data(source: AnySource, folder: RunFolder) -> None:
    """Compare the data with what run.json says of it.

    Raises:
        RunError: Naming sites or images that are missing, new, or have other files or properties.
    """
    record = folder.record.load()
    if record.get("data") in (None, data_fingerprint(source)):
        return
    differences = list(_differences(record.get("sites") or {}, source.describe()))
    more = f"; and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
    raise RunError(
        f"The data of {folder.path.name} has changed since it was begun, so it cannot continue exactly: "
        f"{'; '.join(differences[:_NAMED]) or 'the way it is read'}{more}. Put the old data back, or begin a new run "
        f"from its weights with --resume {folder.path} --experiment-name NAME."
    )


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(was.keys() | now.keys()):
        if name not in now:
            yield f"{name} is missing"
        elif name not in was:
            yield f"{name} is new"
        elif changed := _changed(was[name], now[name]):
            yield f"{name} has another {', '.join(changed)}"


def _changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of what differs: properties, or ``content`` where the files hold other bytes."""
    changed = [
        name
        for name in sorted(was.keys() & now.keys())
        if name not in (*_FREE, "files") and str(was[name]) != str(now[name])
    ]
    hashes = [[file.get("sha256") for file in site.get("files", ())] for site in (was, now)]
    return changed if hashes[0] == hashes[1] else ["content", *changed]
