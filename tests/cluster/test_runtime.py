"""Runtime environments: every wrong key and every secret is told of, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayopt.cluster.runtime import CHECKS, brings_python, read_runtime_env, with_variables
from rayopt.errors import InputError
from rayopt.onray.environments import check_environment


def read(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "env.yaml"
    path.write_text(text)
    found = read_runtime_env(path)
    check_environment(found, str(path))
    return found


def test_a_right_one_is_taken_as_it_is(tmp_path: Path) -> None:
    found = read(tmp_path, "pip: [requests==2.32]\nenv_vars: {MODE: fast}\nconfig: {setup_timeout_seconds: 60}\n")
    assert found == {
        "pip": ["requests==2.32"],
        "env_vars": {"MODE": "fast"},
        "config": {"setup_timeout_seconds": 60},
    }
    assert brings_python(found)
    assert not brings_python({"env_vars": {}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pipp: [x]", "env.yaml:1: pipp: unknown key 'pipp'; did you mean 'pip'?"),
        ("\nenv_var: {}", "env.yaml:2: env_var: unknown key 'env_var'; did you mean 'env_vars'?"),
        ("working_dir: .", "rayopt packs the folder"),
        ("excludes: [a]", ".rayignore"),
        ("env_vars: {A: 1}", "must be a mapping of names to text"),
        ("config: {setup_timeout: 3}", "did you mean 'setup_timeout_seconds'?"),
        ("py_modules: [./mine]", "'./mine' is no address"),
        ("env_vars: {HF_TOKEN: abc}", "everybody on the cluster could read it"),
        ("pip: ['https://me:hunter22@index/simple']", "an address with a password in it"),
        ("py_modules: ['https://me:hunter22@host/x.zip']", "an address with a password in it"),
        ("py_modules: ['https://ghp_0123456789012345678901234567890@host/x.zip']", "an access token"),
        ("config: {log_files: ['https://me:hunter22@host/x']}", "an address with a password in it"),
        (f"pip: {'a' * 5000}", "is not a runtime environment: File name too long"),
        ("pip: missing.txt", "is not a runtime environment: missing.txt is not a valid file"),
        ("pip: [5]", "is not a runtime environment: "),
        ("{pip: [a], conda: b}", "is not a runtime environment: The 'pip' field, 'uv' field, and 'conda' field"),
        ("uv: {packages: 5}", "is not a runtime environment: "),
        ("config: {setup_timeout_seconds: abc}", "is not a runtime environment: setup_timeout_seconds must be"),
        ("py_modules: ['https://host/x.txt']", "is not a runtime environment: "),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


@pytest.mark.parametrize("key", ["pip", "uv", "conda"])
def test_a_file_that_ray_would_send_the_text_of_is_read(tmp_path: Path, key: str) -> None:
    packages = tmp_path / ("packages.yaml" if key == "conda" else "packages.txt")
    packages.write_text("--index-url https://me:hunter22@index/simple\nrequests\n")
    with pytest.raises(InputError, match=r"packages\.(txt|yaml): holds an address with a password in it"):
        read(tmp_path, f"{key}: {packages}")
    packages.write_text("requests\n")
    assert read(tmp_path, f"{key}: {packages}") == {key: str(packages)}


def test_a_file_is_looked_for_beside_the_one_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (tmp_path / "packages.txt").write_text("requests\n")
    (tmp_path / "mine").write_text("")
    (elsewhere / "more.txt").write_text("requests\n")
    assert read(tmp_path, "pip: packages.txt") == {"pip": str(tmp_path / "packages.txt")}
    assert read(tmp_path, "pip: more.txt") == {"pip": "more.txt"}
    assert read(tmp_path, "conda: mine") == {"conda": "mine"}


def test_every_key_but_the_taken_ones_is_rays_own() -> None:
    from ray.runtime_env import RuntimeEnv

    assert set(CHECKS) - {"nsight"} <= RuntimeEnv.known_fields


def test_variables_are_added_and_not_replaced() -> None:
    assert with_variables({"env_vars": {"A": "1"}}, {"B": "2"}) == {"env_vars": {"A": "1", "B": "2"}}
    with pytest.raises(InputError, match=r"env_vars.A: is set by rayopt"):
        with_variables({"env_vars": {"A": "1"}}, {"A": "2"})
