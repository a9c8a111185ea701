"""Which files a module depends on, and that editing any of them shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch

from rayopt import plugins
from rayopt.provenance import Sources, sources_of

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


def found_in(folder: Path) -> Sources:
    with plugins.importable(folder):
        return sources_of(["network_of_a_test"])


def test_imports_are_followed_wherever_they_stand(folder: Path) -> None:
    found = found_in(folder)
    assert {str(path.relative_to(folder)) for path in found.files.values()} == FILES.keys() - {"unrelated_of_a_test.py"}
    assert found.versions["torch"] == torch.__version__


@pytest.mark.parametrize("name", sorted(FILES.keys() - {"unrelated_of_a_test.py"}))
def test_an_edit_changes_the_hash(folder: Path, name: str) -> None:
    before = found_in(folder).sha256
    assert found_in(folder).sha256 == before
    (folder / name).write_text(FILES[name] + "\n# edited")
    assert found_in(folder).sha256 != before


def test_an_edit_elsewhere_does_not(folder: Path) -> None:
    before = found_in(folder).sha256
    (folder / "unrelated_of_a_test.py").write_text("# edited")
    assert found_in(folder).sha256 == before


def test_what_is_found_outside_the_folder_is_read_but_not_imported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "elsewhere" / "foreign_of_a_test"
    package.mkdir(parents=True)
    (package / "part.py").write_text("")
    monkeypatch.syspath_prepend(package.parent)
    found = found_in(folder)
    before = found.sha256
    assert found.files["foreign_of_a_test.part"] == package / "part.py"
    assert "foreign_of_a_test" not in sys.modules
    (package / "part.py").write_text("# edited")
    assert found_in(folder).sha256 != before


def test_a_package_that_a_job_names_is_read_even_if_it_is_installed() -> None:
    found = sources_of(["click.testing"])
    assert found.files["click"] == Path(click.__file__)
    assert {name.partition(".")[0] for name in found.files} == {"click"}


def test_our_own_modules_have_a_version_instead() -> None:
    assert sources_of(["rayopt.models.zoo"]) == Sources()


def test_own_modules_are_forgotten_and_installed_ones_stay(tmp_path: Path) -> None:
    code = (
        "import click, network_of_a_test, sys\n"
        "from rayopt.provenance import forget_own_modules\n"
        "forget_own_modules()\n"
        "assert 'network_of_a_test' not in sys.modules\n"
        "assert {'click', 'rayopt.provenance', 'json'} <= set(sys.modules)"
    )
    (tmp_path / "network_of_a_test.py").write_text("import json")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
