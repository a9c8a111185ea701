"""The words of a submission, and what a head offers: nothing leaves the folder, everything is what was offered."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.cluster.fetching import fetch
from rayopt.cluster.submission import MANIFEST, SentFile, command, entrypoint, manifest, new_id, next_id, out_fault
from rayopt.errors import InputError, WorkError
from rayopt.runs.files import is_inside


def test_the_shell_gives_each_word_as_it_was() -> None:
    words = command("/opt/my env/python", "my job.yaml", "~/.rayopt/runs/a", ("a.b=$(reboot) 'x'",), True)
    line = entrypoint(("printf", "%s\\n", *words))
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env={"HOME": "/h", **PATH})
    assert done.stdout.splitlines() == [word.replace("~", "/h") for word in words]
    assert shlex.split(entrypoint(words))[0] == "exec"


PATH = {"PATH": os.environ["PATH"]}


def test_ids_differ() -> None:
    assert len({new_id("a") for _ in range(1000)}) == 1000


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//b", "", ".", "a\\..\\b", "c:x", "a\0b", "a/./b"])
def test_a_name_that_leaves_the_folder_is_refused(name: str) -> None:
    assert not is_inside(name)
    with pytest.raises(WorkError, match="leave the folder"):
        manifest(MANIFEST + json.dumps(["dir", [[name, 1, "0"]]]))


@given(st.text(max_size=12))
def test_whatever_is_inside_stays_inside(name: str) -> None:
    if is_inside(name):
        assert Path("/top/folder") in (Path("/top/folder") / os.path.normpath(name)).parents


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b")])
def test_two_of_a_name_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(WorkError, match="two files of one name"):
        manifest(MANIFEST + json.dumps(["dir", [[name, 1, "0"] for name in names]]))


def test_a_log_without_a_list_offers_nothing_yet() -> None:
    assert manifest("Running entrypoint\n") is None
    with pytest.raises(WorkError, match="cannot be read"):
        manifest(MANIFEST + "[1")


def sent(content: bytes, name: str) -> SentFile:
    return SentFile(name, len(content), hashlib.sha256(content).hexdigest())


def run_of(job_hash: str) -> dict[str, bytes]:
    return {"plan.json": json.dumps({"job_hash": job_hash}).encode(), "artifacts/a/model.onnx": b"x" * 3000}


def bring(files: dict[str, bytes], target: Path, overwrite: bool = False, **lies: bytes) -> None:
    def download(name: str) -> Iterator[bytes]:
        content = lies.get(name.partition(".")[0], files[name])
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    fetch(download, [sent(content, name) for name, content in files.items()], target, "a-1", overwrite)


def found(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_comes_home_whole_and_again(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "a"
    bring(run_of("1"), target)
    assert found(target) == run_of("1")
    newer = {**run_of("1"), "summary.json": b"{}"}
    bring(newer, target)
    assert found(target) == newer
    assert [path.name for path in target.parent.iterdir()] == ["a"]


@pytest.mark.parametrize("lie", [b"y" * 3000, b"x" * 2999, b"x" * 4001, b""])
def test_one_wrong_byte_and_nothing_is_put_in_place(tmp_path: Path, lie: bytes) -> None:
    target = tmp_path / "a"
    bring(run_of("1"), target)
    with pytest.raises(WorkError, match="has changed"):
        bring({**run_of("1"), "new.txt": b"n"}, target, artifacts=lie, **{"artifacts/a/model": lie})
    assert found(target) == run_of("1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_not_this_run_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    bring(run_of("1"), tmp_path / "other")
    with pytest.raises(InputError, match="not a run's"):
        bring(run_of("2"), tmp_path / "mine")
    with pytest.raises(InputError, match="another job"):
        bring(run_of("2"), tmp_path / "other")
    with pytest.raises(InputError, match="has no run to fetch yet"):
        bring({"log.txt": b""}, tmp_path / "new")
    bring(run_of("2"), tmp_path / "other", overwrite=True)
    assert found(tmp_path / "other") == run_of("2")
    assert (tmp_path / "mine" / "thesis.tex").is_file()


def test_a_head_offers_plain_files_and_takes_them_back(tmp_path: Path) -> None:
    logs, run = tmp_path / "logs", tmp_path / "run"
    logs.mkdir()
    (run / "artifacts").mkdir(parents=True)
    (run / "artifacts" / "model.onnx").write_bytes(b"m")
    (run / "outcomes.jsonl").write_bytes(b"{}\n")
    (run / ".lock").touch()
    (run / "link").symlink_to("/etc/passwd")
    words = [sys.executable, "-m", "rayopt.cluster.sending", str(logs), str(run)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder, files = manifest(process.stdout.readline())  # type: ignore[misc]
    assert files == [sent(b"m", "artifacts/model.onnx"), sent(b"{}\n", "outcomes.jsonl")]
    (run / "outcomes.jsonl").write_bytes(b"{}\n{}\n")  # goes on meanwhile
    assert [(logs / folder / file.path).read_bytes() for file in files] == [b"m", b"{}\n"]
    assert (logs / folder).stat().st_mode & 0o077 == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    process.stdout.close()
    assert list(logs.iterdir()) == []
    missing = subprocess.run([*words[:-1], str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert missing.returncode == 3


def test_two_that_are_submitted_at_once_choose_the_same_id_and_the_next_another() -> None:
    first = next_id("mine", [])
    second = next_id("mine", [first])
    assert first == next_id("mine", [second, "mine", "other-1"])
    assert len({first, second, next_id("mine", [first, second]), next_id("other", [])}) == 4
    assert all(one.startswith("mine-") and len(one) == 13 for one in (first, second))


@pytest.mark.parametrize("out", [None, "/nfs/runs", "~/runs", "s3://bucket/mine", "gs://bucket/mine"])
def test_what_lasts_on_the_cluster_takes_results(out: str | None) -> None:
    assert out_fault(out) == ""


@pytest.mark.parametrize("out", ["results", "./results", "../results", "", "~other/runs", "s4://bucket/mine"])
def test_results_do_not_go_where_they_are_lost(out: str) -> None:
    assert "no place that lasts on the cluster" in out_fault(out)
