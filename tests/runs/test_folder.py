"""A run's folder belongs to one job and to one process at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rayopt.errors import InputError
from rayopt.runs.folder import RunFolder

SUMMARY = {"kind": "optimize", "name": "mine", "status": "done"}


def claimed(path: Path, job: str = "job-1", overwrite: bool = False) -> RunFolder:
    """The folder as a finished run leaves it."""
    folder = RunFolder(path)
    folder.claim(job, "mine", overwrite)
    folder.write_plan("name: mine", {"job_hash": job})
    return folder


def finished(path: Path) -> RunFolder:
    folder = claimed(path)
    folder.write_artifact("abc", {"model.onnx": b"1", "weights/w.bin": b"2"}, {"id": "abc"})
    folder.summary.write_text(json.dumps(SUMMARY))
    folder.outcomes.write_text('{"id": "abc"}\n')
    folder.report.write_text("<html>")
    folder.log.write_text("log")
    folder.release()
    return folder


def refused(path: Path, job: str = "job-1", overwrite: bool = False) -> str:
    before = contents(path)
    with pytest.raises(InputError) as caught:
        RunFolder(path).claim(job, "mine", overwrite)
    (fault,) = caught.value.faults
    assert fault.place == str(path)
    assert fault.remedy
    assert contents(path) == before
    return f"{fault.problem}; {fault.remedy}"


def contents(path: Path) -> dict[str, bytes] | bytes | None:
    if path.is_file():
        return path.read_bytes()
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}


def test_a_new_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    folder = claimed(tmp_path / "a" / "b")
    assert folder.owner() == "job-1"
    assert folder.job.read_text() == "name: mine"
    folder.release()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    claimed(tmp_path).release()


def test_the_same_job_goes_on_in_its_folder(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    before = contents(tmp_path)
    folder.claim("job-1", "mine", overwrite=False)
    folder.release()
    assert contents(tmp_path) == before


def test_another_job_is_refused(tmp_path: Path) -> None:
    finished(tmp_path)
    assert refused(tmp_path, "job-2") == (
        "holds the results of another job or another version of 'mine'; "
        "give another --out, or --overwrite to replace them"
    )


def test_overwrite_replaces_everything_of_another_job(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / ".summary.json.x1y2").touch()
    folder = RunFolder(tmp_path)
    folder.claim("job-2", "mine", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    folder.release()


def test_overwrite_leaves_what_a_user_put_there(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    claimed(tmp_path, "job-2", overwrite=True).release()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_overwrite_removes_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    finished(tmp_path / "out")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").touch()
    (tmp_path / "out" / "artifacts" / "link").symlink_to(tmp_path / "far")
    claimed(tmp_path / "out", "job-2", overwrite=True).release()
    assert (tmp_path / "far" / "file").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert refused(tmp_path, overwrite=overwrite) == (
        "holds files that are not a run's; give an empty or new folder with --out"
    )


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "out").write_text("a file")
    assert refused(tmp_path / "out", overwrite=overwrite) == "is a file; give a folder with --out"


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused(tmp_path / "file" / "out").startswith("cannot be written: ")


def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: File name too long; give an --out"):
        RunFolder(tmp_path / ("x" * 300)).claim("job-1", "mine", False)


@pytest.mark.parametrize("plan", ["", "{", "[]", "{}", "\xff"])
def test_what_a_run_left_that_was_killed_at_once_is_taken(tmp_path: Path, plan: str) -> None:
    (tmp_path / "job.yaml").touch()
    (tmp_path / "plan.json").write_bytes(plan.encode("latin-1"))
    (tmp_path / ".plan.json.a1b2").touch()
    (tmp_path / ".lock").touch()
    folder = claimed(tmp_path, "job-2")
    assert folder.owner() == "job-2"
    folder.release()


def test_a_folder_in_use_by_another_process_is_refused(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from rayopt.runs.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.claim("job-1", "mine", False)
folder.write_plan("", {"job_hash": "job-1"})
print("claimed", flush=True)
sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == b"claimed\n"
        in_use = "is in use by another run; wait for it, or give another --out"
        assert refused(tmp_path / "out") == in_use
        assert refused(tmp_path / "out", "job-2", overwrite=True) == in_use
        other.communicate()
    claimed(tmp_path / "out").release()


def test_two_runs_in_one_process_are_kept_apart_too(tmp_path: Path) -> None:
    folder = claimed(tmp_path)
    assert refused(tmp_path).startswith("is in use by another run")
    folder.release()
    folder.release()
    claimed(tmp_path).release()


def test_artifacts_of_earlier_runs_that_are_not_kept_go(tmp_path: Path) -> None:
    folder = claimed(tmp_path)
    for id in ("a", "b", "c"):
        folder.write_artifact(id, {"weights/w.bin": b"2"}, {"id": id})
    folder.keep_artifacts(["a", "c", "d"])
    assert sorted(path.name for path in folder.artifacts.iterdir()) == ["a", "c"]
    folder.release()


def test_a_folder_without_artifacts_has_none_to_keep(tmp_path: Path) -> None:
    RunFolder(tmp_path).keep_artifacts(["a"])


def test_a_summary_is_read(tmp_path: Path) -> None:
    assert finished(tmp_path).read_summary() == SUMMARY


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"kind": "optimize"}', "\xff"])
def test_no_summary_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "summary.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="holds no summary of a run; give the folder of a run that has ended"):
        RunFolder(tmp_path).read_summary()


def test_no_plan_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no plan of a run; give the folder of a run"):
        RunFolder(tmp_path).read_plan()


def test_a_folder_of_another_job_is_refused_with_the_difference(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    plan = {"job": {"epochs": 3, "optimizer": {"lr": 0.1}}, "data": {"sha256": "a"}}
    folder.write_plan("", {"job_hash": "first", **plan})
    cases = (
        (
            {"job": {"epochs": 4, "optimizer": {"lr": 0.2}}, "data": {"sha256": "a"}},
            "epochs was 3, is 4; optimizer.lr was 0.1",
        ),
        ({"job": plan["job"], "data": {"sha256": "b"}}, 'data.sha256 was "a", is "b"'),
        (plan, "code that it uses was changed"),
    )
    for other, message in cases:
        with pytest.raises(InputError, match=message):
            folder.claim("second", "mine", False, other)
