"""Finding modules by name: in a room, on the import path, in a job's folder; and what is said when there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayopt import plugins
from rayopt.errors import InputError


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    yield
    plugins.forget()


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def value_in(folder: Path, module: str = "settings_of_a_test") -> Any:
    with plugins.importable(folder):
        return plugins.module(module, "here").VALUE


def refused(text: str, folder: Path, load: Any = lambda: plugins.module("broken_in_a_test", "job.yaml:3: kind")) -> str:
    write(folder, "broken_in_a_test.py", text)
    with plugins.importable(folder), pytest.raises(InputError) as caught:
        load()
    (fault,) = caught.value.faults
    assert fault.place == "job.yaml:3: kind"
    assert fault.remedy
    return str(fault)


# Rooms


def test_every_file_of_a_room_is_a_name() -> None:
    names = plugins.names("rayopt.methods")
    assert {"prune_channels", "quantize_static"} <= set(names)
    assert names == sorted(names)
    assert not [name for name in names if name.startswith("_")]


def test_a_name_gives_the_module_of_the_room() -> None:
    assert plugins.load("rayopt.methods", "recover", "here").__name__ == "rayopt.methods.recover"


def test_an_unknown_name_is_told_with_the_closest_one() -> None:
    with pytest.raises(
        InputError, match=r"^here: unknown method 'recoverr'; did you mean 'recover'\? known: convert_fp16, export_onnx"
    ):
        plugins.load("rayopt.methods", "recoverr", "here")


def test_a_dotted_name_is_a_module_from_anywhere(tmp_path: Path) -> None:
    write(tmp_path, "package_of_a_test/__init__.py", "")
    write(tmp_path, "package_of_a_test/method.py", "VALUE = 5")
    with plugins.importable(tmp_path):
        assert plugins.load("rayopt.methods", "package_of_a_test.method", "here").VALUE == 5


def test_a_dotted_name_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"there is no method 'no\.such'; put it into the job file's folder or install it"
    ):
        plugins.load("rayopt.methods", "no.such", "here")


# Objects


def test_an_object_is_found_inside_a_class() -> None:
    assert plugins.locate("pathlib:Path.cwd", "here")() == Path.cwd()


@pytest.mark.parametrize("path", ["pathlib", "pathlib:", ":Path", "", ":"])
def test_a_path_of_another_form_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=r"is not of the form package\.module:function; write for example"):
        plugins.locate(path, "here")


def test_an_object_that_is_not_there_is_told_with_the_closest_one() -> None:
    with pytest.raises(InputError, match=r"here: pathlib has no 'Pathh'; did you mean 'Path'\?"):
        plugins.locate("pathlib:Pathh", "here")


def test_a_part_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pathlib has no 'Path.nothing'"):
        plugins.locate("pathlib:Path.nothing", "here")


# Modules that do not import


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "importing 'broken_in_a_test' raised SyntaxError: invalid syntax (broken_in_a_test.py, line 1)"),
        ("raise KeyError('a')", "importing 'broken_in_a_test' raised KeyError: 'a'; mend the module"),
        ("import sys\nsys.exit(3)", "importing 'broken_in_a_test' raised SystemExit: 3; mend the module"),
        ("import no_such_thing.x", "needs 'no_such_thing', which is not installed; pip install no_such_thing"),
    ],
)
def test_a_module_that_does_not_import_is_told_with_its_reason(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(text, tmp_path)


@pytest.mark.parametrize("name", [".relative", "a..b", "..", "a.", "pathlib.Path"])
def test_names_that_no_module_can_have_are_input_errors(name: str) -> None:
    with pytest.raises(InputError, match=r"^here: "):
        plugins.module(name, "here")


# A job's folder


def test_a_folder_is_on_the_import_path_only_inside(tmp_path: Path) -> None:
    before = list(sys.path)
    with plugins.importable(tmp_path):
        assert sys.path[0] == str(tmp_path)
    assert sys.path == before


def test_no_folder_changes_nothing() -> None:
    before = list(sys.path)
    with plugins.importable(None):
        assert sys.path == before


def test_the_import_path_is_put_back_after_an_error(tmp_path: Path) -> None:
    before = list(sys.path)
    with pytest.raises(KeyError), plugins.importable(tmp_path):
        raise KeyError
    assert sys.path == before


def test_two_folders_may_have_modules_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path / "one", "settings_of_a_test.py", "VALUE = 1")
    write(tmp_path / "two", "settings_of_a_test.py", "VALUE = 2")
    assert [value_in(tmp_path / name) for name in ("one", "two", "one")] == [1, 2, 1]


def test_two_folders_may_have_packages_of_the_same_name_with_or_without_init(tmp_path: Path) -> None:
    write(tmp_path / "one", "parts_of_a_test/settings.py", "VALUE = 1")
    write(tmp_path / "two", "parts_of_a_test/__init__.py", "")
    write(tmp_path / "two", "parts_of_a_test/settings.py", "VALUE = 2")
    found = [value_in(tmp_path / name, "parts_of_a_test.settings") for name in ("one", "two", "one")]
    assert found == [1, 2, 1]


def test_a_module_is_loaded_once_for_as_long_as_its_job_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "settings_of_a_test.py", "VALUE = object()")
    assert value_in(tmp_path) is value_in(tmp_path)


def test_a_module_that_was_edited_is_read_again_once_forgotten(tmp_path: Path) -> None:
    write(tmp_path, "settings_of_a_test.py", "VALUE = 1")
    assert value_in(tmp_path) == 1
    write(tmp_path, "settings_of_a_test.py", "VALUE = 'edited'")
    plugins.forget()
    assert value_in(tmp_path) == "edited"


def test_a_submodule_that_came_later_is_forgotten_too(tmp_path: Path) -> None:
    write(tmp_path, "parts_of_a_test/__init__.py", "")
    write(tmp_path, "parts_of_a_test/settings.py", "VALUE = 1")
    with plugins.importable(tmp_path):
        plugins.module("parts_of_a_test", "here")
    assert value_in(tmp_path, "parts_of_a_test.settings") == 1
    plugins.forget()
    assert not [name for name in sys.modules if name.startswith("parts_of_a_test")]


def test_an_environment_below_a_folder_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job file often lies beside a `.venv`: what is installed there is nobody's to reload."""
    installed = tmp_path / ".venv" / "site-packages"
    write(installed, "installed_in_a_test.py", "VALUE = object()")
    monkeypatch.syspath_prepend(installed)
    with plugins.importable(tmp_path):
        module = plugins.module("installed_in_a_test", "here")
    with plugins.importable(tmp_path / "other"):
        assert plugins.module("installed_in_a_test", "here") is module
    del sys.modules["installed_in_a_test"]


def test_what_was_loaded_before_the_job_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "settings_of_a_test.py", "VALUE = 1")
    monkeypatch.syspath_prepend(tmp_path)
    module = plugins.module("settings_of_a_test", "here")
    assert value_in(tmp_path) == 1
    plugins.forget()
    assert sys.modules.pop("settings_of_a_test") is module
