"""`rayopt cache`: what the cache of finished work holds, and making it smaller."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import click

from rayopt.errors import input_error
from rayopt.runs.cache import Cache, parse_size

DAY_S = 24 * 3600


def show_info(as_json: bool) -> None:
    """The folder, the number of entries, bytes and limit, and when the entries were last used."""
    info = Cache().info()
    if as_json:
        told = {
            "folder": str(info.folder),
            "entries_count": info.entries_count,
            "size_bytes": info.size_bytes,
            "limit_bytes": info.limit_bytes,
            "oldest_use": _when(info.oldest),
            "newest_use": _when(info.newest),
        }
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"folder       {info.folder}")
    click.echo(f"entries      {info.entries_count:,}")
    click.echo(f"size         {_size(info.size_bytes)}, at most {_size(info.limit_bytes)} (RAYOPT_CACHE_LIMIT)")
    if info.oldest is not None:
        click.echo(f"oldest use   {_when(info.oldest)}")
        click.echo(f"newest use   {_when(info.newest)}")


def prune(size: str | None, everything: bool, days: float | None, as_json: bool) -> None:
    """Makes the cache smaller and says by how much; raises InputError for options that contradict each other."""
    if sum((size is not None, everything, days is not None)) > 1:
        raise input_error("cache prune", "--to, --all and --older-than say different things", "give one of them")
    cache = Cache()
    limit = 0 if everything else None if size is None else parse_size(size, "--to")
    freed = cache.prune(limit, math.inf if days is None else days * DAY_S)
    left = cache.info()
    if as_json:
        told = {"freed_bytes": freed, "size_bytes": left.size_bytes, "entries_count": left.entries_count}
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"freed {_size(freed)}; {_size(left.size_bytes)} in {left.entries_count:,} entries are left")


def _size(size_bytes: float) -> str:
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    power = min(int(math.log(size_bytes, 1024)), len(units) - 1) if size_bytes >= 1 else 0
    return f"{size_bytes / 1024**power:.{1 if power else 0}f} {units[power]}"


def _when(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
