"""Whether a file is its owner's alone: by its mode, by the folders above it, and by who else is in its group."""

from __future__ import annotations

import grp
import pwd
from pathlib import Path


def lies_open(path: Path) -> bool:
    """Whether anybody but its owner and root may read or write a file, and is let through to it."""
    found, above = path.stat(), [folder.stat() for folder in path.resolve().parents]
    if found.st_mode & 0o006 and all(one.st_mode & 0o001 for one in above):
        return True
    lets_group = all(one.st_mode & 0o001 or (one.st_gid == found.st_gid and one.st_mode & 0o010) for one in above)
    return bool(found.st_mode & 0o060) and lets_group and _is_shared(found.st_gid, found.st_uid)


def _is_shared(group: int, owner: int) -> bool:
    """Whether others than a user are in a group; many systems give everybody a group of his own."""
    try:
        named = grp.getgrgid(group).gr_mem
    except KeyError:
        named = []
    users = pwd.getpwall()
    return any(one.pw_uid not in (owner, 0) and (one.pw_gid == group or one.pw_name in named) for one in users)
