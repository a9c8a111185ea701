"""This very rayopt as a wheel, made of the files that are imported here: whatever way it was installed."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import zipfile
from pathlib import Path

from rayopt import errors

LEFT_OUT = {"__pycache__"}
WHEEL = "Wheel-Version: 1.0\nGenerator: rayopt\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same files give the same bytes


def make_wheel() -> tuple[str, bytes]:
    """The wheel's file name and content (binary distribution format, PyPA)."""
    found = importlib.metadata.distribution("rayopt")
    about = f"rayopt-{found.version}.dist-info"
    files = _package_files()
    told = found.read_text("METADATA") or found.read_text("PKG-INFO")  # the latter beside a checkout
    files[f"{about}/METADATA"] = (told or "").encode()
    files[f"{about}/WHEEL"] = WHEEL.encode()
    files[f"{about}/entry_points.txt"] = (found.read_text("entry_points.txt") or "").encode()
    record = "".join(f"{name},{_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), content, zipfile.ZIP_DEFLATED)
    return f"rayopt-{found.version}-py3-none-any.whl", buffer.getvalue()


def _package_files() -> dict[str, bytes]:
    folder = Path(errors.__file__).parent
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and LEFT_OUT.isdisjoint(path.parts))
    return {f"rayopt/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in paths}


def _digest(content: bytes) -> str:
    """As RECORD has it: urlsafe base64 without padding."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
