"""`rayopt cache` on a cache whose entries have known sizes and ages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rayopt.cli.commands import cli
from rayopt.runs.cache import Cache, Entry

DAY_S = 24 * 3600


def rayopt(*words: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *words])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Three entries of 10,000 bytes and a little, used 30, 20 and 10 days ago."""
    cache = Cache(tmp_path / "cache")
    now = time.time()
    for number in range(3):
        key = f"{number}{number}" + "0" * 62
        cache.put(key, Entry({}, {"file": b"x" * 10_000}))
        used = now - DAY_S * (30 - 10 * number)
        os.utime(cache.folder / key[:2] / key[2:], (used, used))
    return cache


def test_info_says_what_is_there(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYOPT_CACHE_LIMIT", "2 GiB")
    told = json.loads(rayopt("info", "--json").stdout)
    assert told["folder"] == str(cache.folder)
    assert told["entries_count"] == 3
    assert told["size_bytes"] == sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())
    assert told["limit_bytes"] == 2 << 30
    assert told["oldest_use"] < told["newest_use"]
    text = rayopt("info").stdout
    assert "29.8 KiB, at most 2.0 GiB" in text
    assert told["oldest_use"] in text


def test_info_of_no_cache(tmp_path: Path) -> None:
    told = json.loads(rayopt("info", "--json").stdout)
    assert (told["entries_count"], told["size_bytes"], told["oldest_use"]) == (0, 0, None)
    assert "entries      0" in rayopt("info").stdout
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("words", "left"),
    [((), 3), (("--to", "21 kB"), 2), (("--to", "20kB"), 1), (("--all",), 0), (("--older-than", "15"), 1)],
)
def test_prune_drops_what_it_is_told_to(cache: Cache, words: tuple[str, ...], left: int) -> None:
    before = cache.info().size_bytes
    told = json.loads(rayopt("prune", *words, "--json").stdout)
    assert told["entries_count"] == cache.info().entries_count == left
    assert before - told["size_bytes"] == told["freed_bytes"]
    assert cache.get("00" + "0" * 62) is None or left == 3
    assert (cache.get("22" + "0" * 62) is None) == (left == 0)
    assert f"in {left} entries are left" in rayopt("prune", *words).stdout


@pytest.mark.parametrize("words", [("--to", "much"), ("--to", "1", "--all"), ("--all", "--older-than", "3")])
def test_prune_asks_again_for_what_makes_no_sense(cache: Cache, words: tuple[str, ...]) -> None:
    result = rayopt("prune", *words)
    assert result.exit_code == 2
    assert "error: " in result.stderr
    assert cache.info().entries_count == 3


def test_a_limit_that_is_no_size_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYOPT_CACHE_LIMIT", "plenty")
    result = rayopt("info")
    assert result.exit_code == 2
    assert "RAYOPT_CACHE_LIMIT: 'plenty' is no size" in result.stderr


def test_a_job_that_is_run_again_needs_no_torch(small_job: Callable[..., Path], tmp_path: Path) -> None:
    words = ["run", str(small_job()), "--out", str(tmp_path / "out"), "--address", "inprocess"]
    assert CliRunner().invoke(cli, words).exit_code == 0
    code = (
        "import sys\nfrom rayopt.cli.commands import cli\n"
        f"cli({words!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'ray', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 failed" in done.stdout
