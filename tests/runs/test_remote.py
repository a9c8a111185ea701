"""Runs that are kept on a real S3 server: whole or not there, through failures, and taken up again from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner

from rayopt import api
from rayopt.cli.commands import cli
from rayopt.cluster.submission import out_of
from rayopt.errors import InputError, WorkError
from rayopt.runs import remote
from rayopt.runs.remote import RemoteFolder, is_address
from tests.store import Fault, Store

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    store = Store()
    yield store
    store.stop()


@pytest.fixture
def store(server: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The server with an empty bucket `results`, and what a user sets to reach it."""
    import boto3

    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "WAIT_S", 0.01)
    monkeypatch.setattr(remote, "BETWEEN_S", 0.02)
    server.breaks = lambda method, path: False
    bucket = boto3.resource("s3", endpoint_url=server.url).create_bucket(Bucket="results")
    yield server
    server.breaks, server.fault = lambda method, path: False, "400"
    bucket.objects.all().delete()
    bucket.delete()


def kept(server: Store, prefix: str = "mine/") -> dict[str, bytes]:
    import boto3

    bucket = boto3.resource("s3", endpoint_url=server.url).Bucket("results")
    found = {one.key: one.get()["Body"].read() for one in bucket.objects.filter(Prefix=prefix)}
    return {key[len(prefix) :]: content for key, content in found.items() if not key.endswith("/")}


def local(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != ".lock"}


URI = "s3://results/mine"


def run(job: Path, **options: Any) -> dict[str, Any]:
    return api.run(job, URI, address="inprocess", **options)


def test_all_of_a_run_is_kept_and_the_summary_comes_last(store: Store, small_job: Callable[..., Path]) -> None:
    job = small_job()
    result = CliRunner().invoke(cli, ["run", str(job), "--out", URI, "--address", "inprocess"])
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"kept at: {URI}\n")
    there = kept(store)
    owner = json.loads(there.pop(".owner.json"))
    assert owner["pid"]
    assert there == local(RemoteFolder(URI).work)
    assert {"summary.json", "report.html", "outcomes.jsonl", "job.yaml", "plan.json", "log.txt"} <= set(there)
    assert any(name.startswith("artifacts/") for name in there)
    moved = [path for method, path in store.asked if method == "PUT" and path[-1] != "/" and ".aside-" not in path]
    assert moved[-1] == "/results/mine/summary.json"


def test_another_machine_takes_a_run_up(
    store: Store, bowl_search: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bowl_search(n_trials=4)
    first = run(job)
    monkeypatch.setenv("RAYOPT_CACHE", str(tmp_path / "another machine"))
    assert run(job)["best_params"] == first["best_params"]
    lines = [json.loads(line) for line in kept(store)["observations.jsonl"].splitlines()]
    assert len([line for line in lines if line["event"] == "asked"]) == 4  # no trial was made twice


def test_a_store_that_fails_in_the_middle_costs_nothing_that_was_finished(
    store: Store, small_job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small_job()
    store.breaks = lambda method, path: method == "PUT" and "model.onnx" in path
    with pytest.raises(WorkError, match=r"does not take the results .* the same command goes on from there"):
        run(job)
    there = kept(store)
    assert "summary.json" not in there
    assert "report.html" not in there
    assert not any(name.endswith("model.onnx") and ".aside" not in name for name in there)
    work = RemoteFolder(URI).work
    assert (work / "summary.json").is_file()
    store.breaks = lambda method, path: False
    summary = run(job)
    there = kept(store)
    del there[".owner.json"]
    assert there == local(work)
    assert summary == json.loads(there["summary.json"])


@pytest.mark.parametrize(("fault", "seed"), [("400", 0), ("400", 1), ("400", 2), ("503", 3), ("reset", 4), ("half", 5)])
def test_whatever_request_fails_nothing_is_half_there(store: Store, tmp_path: Path, fault: Fault, seed: int) -> None:
    import random

    chance = random.Random(seed)
    store.fault = fault
    store.breaks = lambda method, path: method != "GET" and chance.random() < 0.15
    content = {"plan.json": b"p" * 10, "artifacts/a/model.onnx": bytes(6 << 20), "summary.json": b"{}"}
    for _ in range(8):
        try:
            folder = RemoteFolder(URI)
            with folder.kept(), folder.mirrored():
                for name, text in content.items():
                    path = folder.work / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(text)
        except (WorkError, InputError):
            pass
        there = {name: text for name, text in kept(store).items() if ".aside-" not in name}
        there.pop(".owner.json", None)
        assert all(content[name] == text for name, text in there.items())
        if "summary.json" in there:
            assert there == content


@pytest.mark.parametrize("fault", get_args(Fault))
def test_what_does_not_come_whole_is_not_taken_for_a_run(store: Store, tmp_path: Path, fault: Fault) -> None:
    model = bytes(range(256)) * (12 << 10)
    folder = RemoteFolder(URI)
    with folder.kept(), folder.mirrored():
        (folder.work / "model.onnx").write_bytes(model)
        (folder.work / "summary.json").write_text("{}")
    store.fault = fault
    store.breaks = lambda method, path: method == "GET" and path.endswith("model.onnx")
    with pytest.raises(InputError, match="cannot be used"):
        folder.bring_to(tmp_path / "home")
    store.breaks = lambda method, path: False
    folder.bring_to(tmp_path / "home")
    assert (tmp_path / "home" / "model.onnx").read_bytes() == model


def test_a_store_that_is_busy_for_a_moment_is_asked_again(store: Store, small_job: Callable[..., Path]) -> None:
    refused = iter(range(2))
    store.fault = "503"
    store.breaks = lambda method, path: method == "PUT" and "summary" in path and next(refused, None) is not None
    summary = run(small_job())
    assert json.loads(kept(store)["summary.json"]) == summary
    assert next(refused, None) is None


def test_gs_is_googles_own_filesystem_and_nfs_a_folder(small_job: Callable[..., Path], tmp_path: Path) -> None:
    fs, root = remote._opened("gs://results/mine/")
    assert (fs.type_name, root) == ("gcs", "results/mine")
    mounted = tmp_path / "nfs" / "results"
    summary = api.run(small_job(), str(mounted), address="inprocess")
    assert json.loads((mounted / "summary.json").read_text()) == summary
    assert out_of("small", str(mounted)) == str(mounted)  # a submitted job's is no other


def test_one_that_was_taken_for_dead_writes_no_more(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken() -> None:
        old = RemoteFolder(URI)
        with old.kept(), old.mirrored():
            (old.work / "plan.json").write_text("old")
            monkeypatch.setenv("RAYOPT_CACHE", str(tmp_path / "another machine"))
            new = RemoteFolder(URI)
            with new.kept(), new.mirrored():
                (new.work / "plan.json").write_text("new")
                (new.work / "summary.json").write_text("{}")

    with pytest.raises(WorkError, match="has taken this over"):
        overtaken()
    assert kept(store)["plan.json"] == b"new"


@pytest.mark.parametrize("crash", ["_put_bytes", "_move"])
def test_a_start_that_breaks_off_costs_nothing_that_lies_here(
    store: Store, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    """What was not copied any more is in the work folder alone: it is still what the next start goes on from."""
    with RemoteFolder(URI).kept():
        (RemoteFolder(URI).work / "plan.json").write_text("newer than the store's")
    kept_before = getattr(RemoteFolder, crash)

    def killed(folder: RemoteFolder, *words: Any) -> None:
        if crash == "_move":
            kept_before(folder, *words)
        raise KeyboardInterrupt

    monkeypatch.setattr(RemoteFolder, crash, killed)
    with pytest.raises(KeyboardInterrupt), RemoteFolder(URI).kept():
        pass
    monkeypatch.setattr(RemoteFolder, crash, kept_before)
    with RemoteFolder(URI).kept():
        assert (RemoteFolder(URI).work / "plan.json").read_text() == "newer than the store's"


@pytest.mark.parametrize("name", ["/{tmp}/evil", "../evil", "a/../../evil", "./evil", "a\\..\\evil"])
def test_no_name_at_the_address_leads_out_of_the_folder(store: Store, tmp_path: Path, name: str) -> None:
    import boto3

    folder = RemoteFolder(URI)
    with folder.kept(), folder.mirrored():
        (folder.work / "plan.json").write_text("{}")
    bucket = boto3.resource("s3", endpoint_url=store.url).Bucket("results")
    bucket.put_object(Key=f"mine/{name.format(tmp=tmp_path)}", Body=b"evil")
    home = tmp_path / "home" / "run"
    RemoteFolder(URI).bring_to(home)
    assert list(local(home)) == ["plan.json"]
    assert not list(tmp_path.rglob("*evil*"))


def test_two_runs_on_one_machine_are_one_too_many(store: Store) -> None:
    with RemoteFolder(URI).kept(), pytest.raises(InputError, match="in use by another run"), RemoteFolder(URI).kept():
        pass


def test_another_job_is_not_replaced_unless_asked(store: Store, small_job: Callable[..., Path]) -> None:
    first = run(small_job())
    with pytest.raises(InputError, match="another job"):
        run(small_job(seed=5))
    assert json.loads(kept(store)["summary.json"]) == first
    second = run(small_job(seed=5), overwrite=True)
    there = kept(store)
    del there[".owner.json"]
    assert json.loads(there["summary.json"]) == second
    assert there == local(RemoteFolder(URI).work)


def test_what_is_no_runs_is_left_alone(store: Store, small_job: Callable[..., Path]) -> None:
    import boto3

    boto3.resource("s3", endpoint_url=store.url).Bucket("results").put_object(Key="mine/thesis.tex", Body=b"x")
    with pytest.raises(InputError, match="not a run's"):
        run(small_job())
    assert kept(store) == {"thesis.tex": b"x"}


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://nobucket/mine", "cannot be used"),
        ("s3://results", "is a whole bucket"),
        ("s4://results/mine", "known: gs, s3"),
        ("s3://key:hunter22@results/mine", "holds a password"),
    ],
)
def test_an_address_that_will_not_do_is_told_before_any_work(
    store: Store, small_job: Callable[..., Path], uri: str, said: str
) -> None:
    result = CliRunner().invoke(cli, ["run", str(small_job()), "--out", uri, "--address", "inprocess"])
    assert result.exit_code == 2
    assert said in result.stderr
    assert "hunter22" not in result.output
    assert re.search(r"\d+/\d+ done", result.stderr) is None


def test_addresses_and_paths() -> None:
    assert is_address("s3://a/b")
    assert not is_address("runs/mine")
    assert not is_address(Path("s3://a/b"))
    assert not is_address("/nfs/runs")
