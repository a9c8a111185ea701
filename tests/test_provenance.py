"""Which files a module depends on, and that editing any of them shows."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

from rayopt import plugins
from rayopt.provenance import source_hash, sources

FILES = {
    "network_of_a_test.py": (
        "import torch\nfrom layers_of_a_test import blocks\ndef build():\n    import late_of_a_test"
    ),
    "layers_of_a_test/__init__.py": "",
    "layers_of_a_test/blocks.py": "from . import sizes\nfrom .more.deep import value",
    "layers_of_a_test/sizes.py": "WIDTH = 8",
    "layers_of_a_test/more/__init__.py": "",
    "layers_of_a_test/more/deep.py": "value = 1\nimport network_of_a_test",
    "late_of_a_test.py": "import foreign_of_a_test.part",
    "unrelated_of_a_test.py": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "job" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "job" / name).write_text(text)
    return tmp_path / "job"


def hash_in(folder: Path) -> str:
    plugins.forget()
    with plugins.importable(folder):
        plugins.module("network_of_a_test", "here")
        return source_hash("network_of_a_test")


def test_imports_are_followed_wherever_they_stand(folder: Path) -> None:
    with plugins.importable(folder):
        found = {str(path.relative_to(folder)) for path in sources("network_of_a_test")}
    assert found == FILES.keys() - {"unrelated_of_a_test.py"}


@pytest.mark.parametrize("name", FILES.keys() - {"unrelated_of_a_test.py"})
def test_an_edit_changes_the_hash(folder: Path, name: str) -> None:
    before = hash_in(folder)
    assert hash_in(folder) == before
    (folder / name).write_text(FILES[name] + "\n# edited")
    assert hash_in(folder) != before


def test_an_edit_elsewhere_does_not(folder: Path) -> None:
    before = hash_in(folder)
    (folder / "unrelated_of_a_test.py").write_text("# edited")
    assert hash_in(folder) == before


def test_a_foreign_package_is_neither_read_nor_imported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "elsewhere" / "foreign_of_a_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("")
    monkeypatch.syspath_prepend(package.parent)
    with plugins.importable(folder):
        assert not [path for path in sources("network_of_a_test") if path.is_relative_to(package)]
    assert "foreign_of_a_test" not in sys.modules


def test_an_installed_package_is_followed_within_itself() -> None:
    found = sources("click.testing")
    assert Path(click.__file__) in found
    assert {path.parent.name for path in found} == {"click"}


def test_our_own_modules_have_a_version_instead() -> None:
    assert sources("rayopt.models.zoo") == set()
