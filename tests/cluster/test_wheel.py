"""This rayopt as a wheel: pip takes it, what it installs is byte for byte what runs here."""

from __future__ import annotations

import importlib.metadata
import io
import subprocess
import sys
import zipfile
from pathlib import Path

from rayopt import errors
from rayopt.cluster.wheel import make_wheel


def test_pip_installs_what_is_here(tmp_path: Path) -> None:
    name, content = make_wheel()
    (tmp_path / name).write_bytes(content)
    target = tmp_path / "site"
    words = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", *words, str(tmp_path / name)], check=True, capture_output=True)
    here = Path(errors.__file__).parent
    ours = {path.relative_to(here): path.read_bytes() for path in here.rglob("*") if path.is_file()}
    ours = {path: content for path, content in ours.items() if "__pycache__" not in path.parts}
    theirs = {path.relative_to(target / "rayopt"): path.read_bytes() for path in (target / "rayopt").rglob("*.*")}
    assert {path: theirs.get(path) for path in ours} == ours
    installed = importlib.metadata.Distribution.at(next(target.glob("*.dist-info")))
    assert installed.version == importlib.metadata.version("rayopt")
    assert [one.name for one in installed.entry_points] == ["rayopt"]


def test_the_same_files_give_the_same_bytes() -> None:
    assert make_wheel() == make_wheel()
    with zipfile.ZipFile(io.BytesIO(make_wheel()[1])) as archive:
        assert archive.testzip() is None
        assert not [name for name in archive.namelist() if "__pycache__" in name]
