"""The token that a Ray of ours asks of everybody who talks to it, kept in a file that only its owner may read.

Ray 2.60 makes the token itself but leaves its file readable by all users of the machine.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from rayopt.errors import input_error
from rayopt.runs.private import lies_open

OTHERS = 0o077
REMEDY = "remove the file, so that a new token is made, and start anew whatever Ray of yours still runs with it"


def private_token() -> Path | None:
    """Makes the token for a Ray that is about to start, which asks for one by itself; gives its file.

    None where the environment says otherwise: no authentication, or a token from elsewhere. Raises InputError for one
    that others could read until now; what only its mode would let them read is closed.
    """
    if (
        os.environ.get("RAY_AUTH_MODE", "token") != "token"
        or "RAY_AUTH_TOKEN" in os.environ
        or "RAY_AUTH_TOKEN_PATH" in os.environ
    ):
        return None
    path = Path.home() / ".ray" / "auth_token"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _make(path)
        if path.stat().st_mode & OTHERS:
            if lies_open(path):
                raise input_error(str(path), "others can read this token of Ray", REMEDY)
            path.chmod(0o600)
    except OSError as error:
        remedy = "let HOME be a folder that you may write to, or set RAY_AUTH_TOKEN"
        raise input_error(str(path), f"the token of Ray cannot be kept there: {error.strerror}", remedy) from error
    return path


def _make(path: Path) -> None:
    """Puts a new token there, whole at once, unless another process has done so first."""
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        Path(aside).unlink()
