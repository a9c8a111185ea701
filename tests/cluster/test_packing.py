"""What of a folder travels: git's own verdict on ignored files, and no secret, link or run folder."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rayopt.cluster import packing
from rayopt.cluster.packing import collect, named_in, pack
from rayopt.errors import InputError


def write(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(root: Path, *named: str) -> set[str]:
    return set(collect(root, named).files)


def test_ignored_files_stay_and_rayignore_has_the_last_word(tmp_path: Path) -> None:
    write(tmp_path, "job.yaml", "a/b.npz", "a/c.npz", "a/deep/d.log", "data/rows.csv", "notes.txt")
    (tmp_path / ".gitignore").write_text("*.npz\n!a/b.npz\n/data/\n")
    (tmp_path / "a" / ".gitignore").write_text("*.log\n")
    (tmp_path / ".rayignore").write_text("notes.txt\n!/data/\n")
    assert names(tmp_path) == {
        *("job.yaml", "a/b.npz", "data/rows.csv", ".gitignore", ".rayignore", "a/.gitignore"),
    }


def test_rules_of_the_repository_above_hold(tmp_path: Path) -> None:
    write(tmp_path, "top/jobs/job.yaml", "top/jobs/big.bin", "top/.git/HEAD")
    (tmp_path / ".gitignore").write_text("*.yaml\n")  # another repository's: it ends below
    (tmp_path / "top" / ".gitignore").write_text("/jobs/*.bin\n")
    assert names(tmp_path / "top" / "jobs") == {"job.yaml"}


def test_what_a_job_names_travels_although_it_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, "job.yaml", "rows.npz", "other.npz", "out/model/a.bin", "out/b.bin", "out/model/.env")
    (tmp_path / ".gitignore").write_text("*.npz\nout/\n")
    assert names(tmp_path, "rows.npz", "out/model") == {"job.yaml", ".gitignore", "rows.npz", "out/model/a.bin"}


SECRET = (
    ".env",
    ".env.local",
    "id_rsa",
    "id_ed25519",
    "server.key",
    "cert.pem",
    ".netrc",
    "auth_token",
    "Secrets.YAML",
)
HARMLESS = (".env.example", "id_rsa.pub", "keys.py", "environment.yaml", "tokens.txt", "monkey")


def test_secrets_stay_whatever_asks_for_them(tmp_path: Path) -> None:
    write(tmp_path, *SECRET, *HARMLESS, "sub/.env", ".ssh/config", "sub/.aws/credentials")
    write(tmp_path, "deploy", text="-----BEGIN OPENSSH PRIVATE KEY-----\nabc")
    package = collect(tmp_path, [".env", "sub/.env", ".ssh"])
    assert set(package.files) == set(HARMLESS)
    assert set(package.secrets) >= {*SECRET, "deploy", "sub/.env"}


COPIES: tuple[str, ...] = (
    *(".env~", ".env-prod", ".env_prod", ".env copy", "prod.env.bak", "#.env#", ".env.local~", ".env.swp", ".netrc~"),
    *("auth_token~", "credentials.csv", "credentials.toml", "token", "kaggle.json", "secrets.ini", "secrets", "TOKEN"),
)


def test_copies_and_variants_of_secrets_stay(tmp_path: Path) -> None:
    harmless: tuple[str, ...] = (
        "secrets.py",
        "token.py",
        "credentials.py",
        ".env.example~",
        "tokens",
        "token/a.txt",
        ".env-example",
    )
    harmless += ("lib/secrets/__init__.py", "lib/secrets/code.py")
    write(tmp_path / "a", *COPIES[:-3], ".docker/config.json", ".kaggle/x", "x.secret/b.py")
    write(tmp_path / "b", *COPIES[-3:])
    write(tmp_path, *harmless, "c/secrets/password")
    package = collect(tmp_path)
    assert set(package.files) == {*harmless, "a/x.secret/b.py"}
    assert {Path(name).name for name in package.secrets} == set(COPIES)


def test_version_control_environments_caches_and_runs_stay(tmp_path: Path) -> None:
    write(tmp_path, "job.yaml", ".git/HEAD", "a/__pycache__/b.pyc", "venv/pyvenv.cfg", "venv/lib/x.py")
    write(tmp_path, "cache/CACHEDIR.TAG", "cache/y", "runs/one/model.onnx")
    (tmp_path / "runs" / "one" / "plan.json").write_text(json.dumps({"job_hash": "0"}))
    assert names(tmp_path) == {"job.yaml"}
    assert names(tmp_path, "runs/one") == {"job.yaml", "runs/one/model.onnx", "runs/one/plan.json"}


def test_links_inside_are_followed_and_links_that_leave_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "a.txt", ".env", "sub/b.txt")
    write(tmp_path, "outside.txt")
    (root / "c.txt").symlink_to("a.txt")
    (root / "also").symlink_to("sub")
    (root / "settings").symlink_to(".env")
    (root / "nowhere").symlink_to("missing")
    package = collect(root)
    assert set(package.files) == {"a.txt", "sub/b.txt", "c.txt", "also/b.txt"}
    assert "settings" not in package.files
    for name, target in (("up", "../outside.txt"), ("etc", "/etc"), ("gone", "/nonexistent/file")):
        link = root / name
        link.symlink_to(target)
        with pytest.raises(InputError, match=f"{name}: is a link to .*outside of the folder"):
            collect(root)
        (root / ".rayignore").write_text(f"/{name}\n")
        assert name not in names(root)
        (root / ".rayignore").unlink()
        link.unlink()


def test_a_link_in_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a/b.txt")
    (tmp_path / "a" / "again").symlink_to("../a")
    with pytest.raises(InputError, match="folder that it lies in"):
        collect(tmp_path)


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a/b.txt")
    (tmp_path / "a" / "one").symlink_to("two")
    (tmp_path / "a" / "two").symlink_to("one")
    with pytest.raises(InputError, match=r"(?s)a/one: cannot be read: .*a/two: cannot be read: .*\.rayignore"):
        collect(tmp_path)
    with pytest.raises(InputError, match=r"^one: cannot be read.*\ntwo: [^\n]*$"):
        collect(tmp_path / "a", ["one"])
    assert named_in({"data": {"source": "a/one"}}, tmp_path, tmp_path, "job.yaml") == []


@pytest.mark.parametrize("name", ["theirs", "theirs/.gitignore", "theirs/b.txt"])
def test_what_may_not_be_read_is_told(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may read everything, so the refusals are played."""
    write(tmp_path, "job.yaml", "theirs/.gitignore", "theirs/b.txt", "theirs/c/d.txt")

    def refusing(method: str) -> None:
        before = getattr(Path, method)

        def instead(path: Path, *rest: object, **more: object) -> object:
            if path == tmp_path / name:
                raise PermissionError(13, "Permission denied", str(path))
            return before(path, *rest, **more)

        monkeypatch.setattr(Path, method, instead)

    for method in ("iterdir", "read_bytes", "open") if name != "theirs/b.txt" else ("is_dir",):
        refusing(method)
    with pytest.raises(InputError, match=f"{name}: cannot be read: Permission denied"):
        collect(tmp_path)


def test_too_much_is_refused_before_packing_with_the_five_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(7):
        (tmp_path / f"file{index}").write_bytes(b"x" * (100 * index))
    monkeypatch.setattr(packing, "MAX_BYTES", 2099)
    with pytest.raises(InputError) as caught:
        collect(tmp_path)
    said = str(caught.value)
    assert [f"file{index} (" in said for index in range(7)] == [False, False, True, True, True, True, True]
    monkeypatch.setattr(packing, "MAX_BYTES", 2100)
    assert collect(tmp_path).size_bytes == 2100


def test_the_same_files_make_the_same_package(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "b/run.sh", "a.txt")
    (root / "b" / "run.sh").chmod(0o755)
    first = pack(collect(root), tmp_path / "1.zip")
    os.utime(root / "a.txt", (1, 1))
    assert pack(collect(root), tmp_path / "2.zip") == first
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist() == ["a.txt", "b/run.sh"]
        assert archive.getinfo("b/run.sh").external_attr >> 16 & 0o777 == 0o755
        assert archive.read("a.txt") == b"x"
    (root / "a.txt").write_text("y")
    assert pack(collect(root), tmp_path / "3.zip") != first


def test_named_files_are_found_in_jobs_that_jobs_name(tmp_path: Path) -> None:
    write(tmp_path, "jobs/rows.npz", "jobs/model.onnx", "other/inner.yaml", "other/deep.npz", "far.csv")
    (tmp_path / "jobs" / "inner.yaml").write_text("model: {onnx: model.onnx}\nkeep: 0.5\n")
    data = {"data": {"source": "rows.npz"}, "job": "inner.yaml", "list": ["digits", "", ".", "/etc/passwd", 3]}
    found = named_in(data, tmp_path / "jobs", tmp_path / "jobs", "job.yaml")
    assert set(found) == {"rows.npz", "inner.yaml", "model.onnx"}
    with pytest.raises(InputError, match=r"job.yaml: names '../far.csv'.*--working-dir"):
        named_in({"data": "../far.csv"}, tmp_path / "jobs", tmp_path / "jobs", "job.yaml")
    assert named_in({"data": "../far.csv"}, tmp_path / "jobs", tmp_path, "job.yaml") == ["far.csv"]


def test_only_what_is_a_path_is_a_named_file(tmp_path: Path) -> None:
    """A job's kind and name, and a folder's name that may be any word, leave what is ignored ignored."""
    folders = ("train", "resnet", "accuracy", "prune", "images", "zoo", "earlier", "rows", "more")
    write(tmp_path, *(f"{folder}/x" for folder in folders), "note", "split.npz")
    data = {"kind": "train", "name": "resnet", "description": "note", "metric": "accuracy", "task": "note"}
    assert named_in(data, tmp_path, tmp_path, "job.yaml") == []
    assert named_in({"steps": [{"use": "note"}], "job": data}, tmp_path, tmp_path, "job.yaml") == []
    paths = {"data": {"args": {"folder": "images", "name": "split.npz"}}, "models": ["zoo"], "warm_start": "earlier"}
    paths |= {"teacher": {"run": "./rows"}, "more": "more/"}
    found = named_in(paths, tmp_path, tmp_path, "job.yaml")
    assert set(found) == {"images", "split.npz", "zoo", "earlier", "rows", "more"}


def test_a_folder_that_is_called_like_the_kind_stays_ignored(tmp_path: Path) -> None:
    write(tmp_path, "job.yaml", "train/rows.bin", "data/source/images/1.png")
    (tmp_path / ".gitignore").write_text("train/\ndata/\n")
    named = named_in({"kind": "train", "data": {"source": "data/source"}}, tmp_path, tmp_path, "job.yaml")
    assert names(tmp_path, *named) == {"job.yaml", ".gitignore", "data/source/images/1.png"}


PARTS = st.sampled_from(["a", "b", "c.log", "d.txt"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
PIECES = st.sampled_from(["a", "b", "*", "**", "c.log", "d.*", "?", "[ab]", "[!a]"])
PATTERNS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "!"]),
        st.sampled_from(["", "/"]),
        st.lists(PIECES, min_size=1, max_size=3).map("/".join),
        st.sampled_from(["", "/"]),
    ),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    paths=st.lists(PATHS, min_size=1, max_size=6),
    outer=st.lists(PATTERNS, max_size=4),
    inner=st.lists(PATTERNS, max_size=3),
)
@example(paths=["a/b/c.log"], outer=["a/*", "!a/b/"], inner=["!c.log"])
@example(paths=["a/a", "a/b/a", "b/a"], outer=["a/**/"], inner=[])
@example(paths=["a/a", "a/b/a", "c.log"], outer=["**/", "!a/**/"], inner=[])
@example(paths=["a.py", "b/c.py", "b/d/e.py", "b/x"], outer=["*", "!*/", "!*.py"], inner=[])
@example(paths=["a/.keep", "a/b/.keep", "a/b/x"], outer=["a/**", "!a/**/", "!a/**/.keep"], inner=[])
@example(paths=["b/c.py", "b/d/e.py", "b/x"], outer=["b/**", "!b/**/*.py"], inner=[])
@example(paths=["a", "c.log", "d.txt"], outer=["\ufeffc.log"], inner=[])
@example(paths=["a", "c.log", "d.txt"], outer=["c.log\r", "d.txt\x0c", "a\u2028", "b\x85c.log"], inner=[])
@example(paths=["a", "b", "!", "c.log"], outer=["a\\", "!", "c.log", "\\", "[z", "b["], inner=[])
@example(paths=["a", "b", "c.log", "d.txt"], outer=["a  ", "b\\ ", "c.log\\  ", "d.txt\t"], inner=[])
def test_git_itself_would_leave_out_the_same(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], outer: list[str], inner: list[str]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for path in paths:
        taken = any((root / parent).is_file() for parent in Path(path).parents if parent != Path())
        if not taken and not (root / path).is_dir():
            write(root, path)
    (root / ".gitignore").write_bytes(("\n".join(outer) + "\n").encode())
    if (root / "a").is_dir():
        (root / "a" / ".gitignore").write_bytes(("\n".join(inner) + "\n").encode())
    subprocess.run(["git", "init", "--quiet", root], check=True)
    words = ["git", "-C", str(root), "-c", "core.excludesFile=", "ls-files", "--others", "--exclude-standard"]
    kept = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    assert names(root) == set(kept)


@pytest.mark.parametrize(
    "name",
    [
        "prod.env",
        ".secrets",
        "secrets.env",
        "kubeconfig",
        "kubeconfig.yaml",
        ".boto",
        ".s3cfg",
        ".vault-token",
        "a.tfstate",
    ],
)
def test_files_that_tools_keep_secrets_in_stay(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, text="x")
    write(tmp_path, "example.env", text="x")
    write(tmp_path, "environment.py", text="x")
    package = collect(tmp_path)
    assert (package.secrets, set(package.files)) == ((name,), {"example.env", "environment.py"})


def test_a_key_inside_of_a_file_keeps_it_here(tmp_path: Path) -> None:
    """A service account is JSON; code that only speaks of keys travels."""
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
    write(tmp_path, "account.json", text=json.dumps({"type": "service_account", "private_key": key}))
    write(tmp_path, "settings.txt", text=f"key = {key}")
    write(tmp_path, "code.py", text='if "-----BEGIN PRIVATE KEY-----" in text:\n    raise ValueError(text)\n')
    package = collect(tmp_path)
    assert (package.secrets, set(package.files)) == (("account.json", "settings.txt"), {"code.py"})
