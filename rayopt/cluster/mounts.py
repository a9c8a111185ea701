"""`file_mounts` of a cluster file: local files brought to where the hosts want them, by rsync over ssh."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from rayopt.cluster.commands import plain
from rayopt.cluster.ssh import Remote

COPY_S = 1800.0


def copy_mounts(remote: Remote) -> tuple[str, str] | None:
    """Copies what the file names to a host; gives problem and remedy where that fails."""
    mounts = remote.cluster.raw.get("file_mounts") or {}
    for there, here in mounts.items():
        source = Path(here).expanduser()
        if not source.exists():
            return (
                f"there is no {source} to copy to {there}",
                "paths in `file_mounts:` are relative to the current folder",
            )
        argv = rsync(remote, source, there)
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=COPY_S, check=False)
        except FileNotFoundError:
            return "rsync is not installed here", "install rsync, or leave `file_mounts:` out"
        except subprocess.TimeoutExpired:
            return f"copying {source} took more than {COPY_S:g} s", "see what keeps the host busy"
        if done.returncode:
            return f"{source} could not be copied to {there}: {plain(done.stderr)}", "see the message"
    return None


def rsync(remote: Remote, source: Path, there: str) -> list[str]:
    """The words that copy a file or a folder's content to a host, making the folders on the way."""
    excluded = [f"--exclude={one}" for one in remote.cluster.raw.get("rsync_exclude") or ()]
    filters = [f"--filter=dir-merge,- {one}" for one in remote.cluster.raw.get("rsync_filter") or ()]
    what = f"{source}/" if source.is_dir() else str(source)
    target = there.removeprefix("~/")  # rsync starts in the home
    words = ["rsync", "-a", "--mkpath", *excluded, *filters, what]
    if remote.here:
        return [*words, str(Path(there).expanduser())]
    return [*words, "-e", shlex.join(["ssh", *remote.options()]), f"{remote.target}:{target}"]
