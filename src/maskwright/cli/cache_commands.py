"""``maskwright cache``: what the cache of decoded data holds, and how it is emptied."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.render import print_table
from maskwright.errors import DataError

__all__ = ["app", "clean", "show"]

app = typer.Typer(help="Show and clean what was decoded and kept.", no_args_is_help=True, add_completion=False)

_Folder = Annotated[
    Path | None, typer.Option("--folder", help="The cache; unset: the user's cache folder.", show_default=False)
]


@app.callback()
def _cache() -> None:
    """Show and clean what was decoded and kept."""


@app.command()
def show(
    folder: _Folder = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Entries listed at most, the largest first.")] = 30,
) -> int:
    """List what the cache holds: size, last use, what it is."""
    from maskwright.data.cache import Cache, default_cache_folder

    cache = Cache(folder or default_cache_folder())
    entries = sorted(cache.entries(), key=lambda entry: -entry.bytes)
    now = time.time()
    if entries:
        print_table(
            ("size", "last use", "what"),
            [(_gb(entry.bytes), _ago(now - entry.used_at), entry.note or entry.key[:12]) for entry in entries[:rows]],
        )
    if len(entries) > rows:
        typer.echo(f"... and {len(entries) - rows} more (--rows {len(entries)} lists all)")
    typer.echo(f"{cache.folder}: {len(entries)} entries, {_gb(sum(entry.bytes for entry in entries))}")
    return 0


@app.command()
def clean(
    folder: _Folder = None,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", min=0, help="Entries not used this long.", show_default=False),
    ] = None,
    to_gb: Annotated[
        float | None,
        typer.Option("--to", metavar="GB", min=0, help="As many as needed to be this small.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every entry.")] = False,
) -> int:
    """Remove entries, the longest unused first; they are made again when needed."""
    from maskwright.data.cache import Cache, default_cache_folder

    if older_than is None and to_gb is None and not everything:
        raise DataError("Say what to remove: --older-than DAYS, --to GB, or --all.")
    cache = Cache(folder or default_cache_folder())
    freed = cache.clean(
        older_than_days=older_than, to_bytes=None if to_gb is None else int(to_gb * 1e9), everything=everything
    )
    typer.echo(f"{cache.folder}: {_gb(freed)} freed, {_gb(cache.size_bytes())} left")
    return 0


def _gb(count: int) -> str:
    return f"{count / 1e9:.3f} GB"


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds) / 60:.0f} minutes ago"
