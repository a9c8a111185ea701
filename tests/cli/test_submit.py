"""Jobs of a real Ray with a token, from the command line: exact codes, lost lines, secrets, results brought home."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from rayopt.cli.commands import cli
from tests.head import Head, free_ports
from tests.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WAIT_S = 90
CODE = """
import os, sys, time
from pathlib import Path
import numpy as np

def rows():
    {body}
    generator = np.random.default_rng(7)
    x = generator.normal(size=(120, 4)).astype(np.float32)
    return x, (x[:, 0] > x[:, 1]).astype(np.int64)
"""


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A folder by which a job and its test tell each other things."""
    (tmp_path / "told").mkdir()
    return tmp_path / "told"


@pytest.fixture
def job_doing(small_job: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a quick job whose data does something first."""

    def write(body: str, **fields: Any) -> Path:
        job = small_job(data={"source": "code_of_job:rows"}, **fields)
        (job.parent / "code_of_job.py").write_text(CODE.format(body=body))
        return job

    return write


def rayopt(*words: str | Path, code: int = 0) -> Any:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def client(*words: str | Path, **options: Any) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, "-m", "rayopt", *map(str, words)], **pipes)


def until(question: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + WAIT_S
    while not (found := question()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


def waiting_for(path: Path) -> str:
    """Code that says it is there, and waits to be let go."""
    return f"p = Path({str(path)!r}); (p / 'there').touch()\n    while not (p / 'go').exists(): time.sleep(0.05)"


def test_a_job_goes_there_and_its_results_come_home(
    ray_head: Head, small_job: Callable[..., Path], tmp_path: Path
) -> None:
    job = small_job(name="there-and-back")
    (job.parent / ".env").write_text("PASSWORD=x")
    there = rayopt("submit", job, *ray_head.options)
    assert "recommended" in there.stdout or "nothing" in there.stdout
    assert "1/" in there.stdout
    assert ".env stays here" in there.stderr
    home = tmp_path / "home"
    assert rayopt("jobs", "fetch", "there-and-back", "--out", home, *ray_head.options).stdout == f"{home}\n"
    local = tmp_path / "local"
    rayopt("run", job, "--out", local, "--address", "inprocess")
    models = {path.relative_to(home): path.read_bytes() for path in home.rglob("*.onnx")}
    assert models
    for name, content in models.items():
        if (local / name).is_file():  # which are on the front is decided by timings
            assert (local / name).read_bytes() == content
    baseline = json.loads((home / "summary.json").read_text())["baseline"]
    assert baseline["sha256"] == json.loads((local / "summary.json").read_text())["baseline"]["sha256"]
    rayopt("verify", home)

    again = rayopt("submit", job, *ray_head.options)
    assert " done: " not in again.stdout  # all of it was there
    rayopt("jobs", "fetch", "there-and-back", "--out", home, *ray_head.options)
    listed = json.loads(rayopt("jobs", "list", "--json", *ray_head.options).stdout)
    mine = [one for one in listed if one["name"] == "there-and-back"]
    assert [one["status"] for one in mine] == ["SUCCEEDED", "SUCCEEDED"]
    assert not any(one["id"].startswith("rayopt-fetch") for one in listed)
    assert list((ray_head.temp / "session_latest" / "logs").glob("rayopt-*")) == []


@pytest.mark.parametrize(("body", "code"), [("os._exit(7)", 7), ("os._exit(0)", 0), ("os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_the_drivers_own(ray_head: Head, job_doing: Callable[..., Path], body: str, code: int) -> None:
    name = f"code-{code}"
    followed = rayopt("submit", job_doing(body, name=name), "--json", *ray_head.options, code=code)
    assert json.loads(followed.stdout)["name"] == name
    rayopt("jobs", "logs", name, "--follow", *ray_head.options, code=code)


def test_a_job_that_cannot_be_read_there_ends_with_two(ray_head: Head, job_doing: Callable[..., Path]) -> None:
    ended = rayopt("submit", job_doing("raise ValueError('no rows')", name="two"), *ray_head.options, code=2)
    assert "no rows" in ended.stdout
    missing = rayopt("jobs", "fetch", "two", *ray_head.options, code=2)
    assert "has no run folder ~/.rayopt/runs/two on the head" in missing.stderr


def test_what_the_cluster_can_never_give_is_refused_at_once(ray_head: Head, small_job: Callable[..., Path]) -> None:
    refused = rayopt("submit", small_job(name="never", target={"resource": "pi4"}), *ray_head.options, code=2)
    assert "target: asks for 1 CPUs, the resource 'pi4', and the cluster can never give that" in refused.stderr
    assert "never" not in [
        one["name"] for one in json.loads(rayopt("jobs", "list", "--json", *ray_head.options).stdout)
    ]


@pytest.mark.parametrize("words", [["status"], ["logs"], ["logs", "--follow"], ["stop"], ["fetch"]])
def test_an_unknown_id_is_one_line_and_two(ray_head: Head, words: list[str]) -> None:
    refused = rayopt("jobs", words[0], "nobody-1", *words[1:], *ray_head.options, code=2)
    assert refused.stderr.startswith("error: nobody-1: the cluster knows no job of that id")
    assert refused.stderr.count("\n") == 1


def test_wrong_tokens_and_addresses_are_one_line_and_two(ray_head: Head, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("f" * 64)
    wrong.chmod(0o600)
    (port,) = free_ports(1)
    cases = {
        "asks for another token: this one is wrong or no longer good": [*ray_head.options[:3], wrong],
        "no Ray answers there (connection refused)": ["--address", f"http://127.0.0.1:{port}", "--token-file", wrong],
        "is no address of a dashboard": ["--address", "ray://a:1", "--token-file", wrong],
        "there is no file": [*ray_head.options[:3], tmp_path / "none"],
        "give one of them": [],
    }
    for said, options in cases.items():
        refused = rayopt("jobs", "list", *options, code=2)
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    wrong.chmod(0o644)
    assert "others can read this token" in rayopt("jobs", "list", *ray_head.options[:3], wrong, code=2).stderr


def test_without_a_token_it_is_asked_for(ray_head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    assert "asks for a token" in rayopt("jobs", "list", "--address", ray_head.address, code=2).stderr
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(ray_head.token_file))
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # Ray would take it for more than what it is asked for
    rayopt("jobs", "list", "--address", ray_head.address)


def test_the_client_goes_and_the_job_does_not(ray_head: Head, job_doing: Callable[..., Path], told: Path) -> None:
    job = job_doing(waiting_for(told), name="alone")
    process = client("submit", job, *ray_head.options)
    until((told / "there").exists, "the job has not begun")
    process.kill()
    process.communicate()
    other = rayopt("submit", job, "--set", "seed=1", *ray_head.options, code=2)
    assert "is under way with that name" in other.stderr
    same = client("submit", job, *ray_head.options)  # takes up where the first was left
    assert same.stderr is not None
    assert "is the same job, and under way" in same.stderr.readline()
    (told / "go").touch()
    out, _ = same.communicate(timeout=WAIT_S)
    assert same.returncode == 0
    assert "1/" in out
    assert (
        len(
            [
                one
                for one in json.loads(rayopt("jobs", "list", "--json", *ray_head.options).stdout)
                if one["name"] == "alone"
            ]
        )
        == 1
    )


def test_a_line_that_is_cut_is_taken_up_again(ray_head: Head, job_doing: Callable[..., Path], told: Path) -> None:
    job = job_doing("print('first', flush=True); " + waiting_for(told), name="cut")
    with relay(ray_head) as line:
        options = ["--address", line.address, "--token-file", str(ray_head.token_file)]
        process = client("submit", job, *options)
        until((told / "there").exists, "the job has not begun")
        assert process.stderr is not None
        line.cut()
        said = [process.stderr.readline()]
        while "connection is lost" not in said[-1]:
            said.append(process.stderr.readline())
            assert said[-1], said
        (told / "go").touch()
        line.mend()
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    assert "the connection is back" in err
    assert out.count("first") == 1
    assert "candidates measured" in out


def test_a_token_that_is_changed_is_said_and_the_job_goes_on(
    ray_head: Head, job_doing: Callable[..., Path], told: Path
) -> None:
    job = job_doing(waiting_for(told), name="changed")
    with relay(ray_head) as line:
        process = client("submit", job, "--address", line.address, "--token-file", ray_head.token_file)
        until((told / "there").exists, "the job has not begun")
        line.replaces = ray_head.token.encode(), b"f" * len(ray_head.token)
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 2
    assert "asks for another token: this one is wrong or no longer good" in err
    assert re.search(r"^changed-\w+: running$", rayopt("jobs", "status", "changed", *ray_head.options).stdout, re.M)
    (told / "go").touch()
    rayopt("jobs", "logs", "changed", "--follow", *ray_head.options)


def test_interrupts_leave_the_job_and_stop_ends_it(ray_head: Head, job_doing: Callable[..., Path], told: Path) -> None:
    job = job_doing(waiting_for(told), name="stopped")
    process = client("submit", job, *ray_head.options)
    until((told / "there").exists, "the job has not begun")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert "goes on; `rayopt jobs logs stopped-" in err
    assert rayopt("jobs", "stop", "stopped", *ray_head.options).stdout.endswith(": stopped\n")
    assert "has ended already: STOPPED" in rayopt("jobs", "stop", "stopped", *ray_head.options, code=2).stderr
    rayopt("jobs", "logs", "stopped", "--follow", *ray_head.options, code=130)
    (told / "go").touch()
    rayopt("submit", job, *ray_head.options)


def test_who_is_there_is_asked_whether_to_stop_it(ray_head: Head, job_doing: Callable[..., Path], told: Path) -> None:
    job = job_doing(waiting_for(told), name="asked")
    ours, theirs = pty.openpty()
    process = client("submit", job, *ray_head.options, stdin=theirs)
    until((told / "there").exists, "the job has not begun")
    process.send_signal(signal.SIGINT)
    os.write(ours, b"stop\n")
    _, err = process.communicate(timeout=WAIT_S)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 130
    assert "detach, or stop it?" in err
    assert "stopped" in rayopt("jobs", "status", "asked", *ray_head.options).stdout


SECRETIVE = """
secret, filed = os.environ["NODE_TOKEN"], os.environ["FILE_TOKEN"]
    assert len(secret) == 24 and filed == {filed!r}
    print("the token is", secret, filed, file=sys.stderr)
    import logging; logging.getLogger("rayopt").warning("it is %s", secret)
"""
METHOD = '''"""Says what it should not."""
import os
from rayopt.spec import Settings
accepts, gives, version = "onnx", "onnx", 1
class Params(Settings):
    pass
def apply(model, params, context):
    print("the worker has", os.environ["NODE_TOKEN"], flush=True)
    raise RuntimeError("cannot log in with " + os.environ["NODE_TOKEN"] + os.environ["FILE_TOKEN"])
'''


def test_a_secret_is_nowhere_but_where_it_is_used(
    ray_head: Head, job_doing: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, filed = ray_head.variables["NODE_TOKEN"], "f1led-" + os.urandom(8).hex()
    kept = ray_head.home / "kept-token"
    kept.write_text(filed + "\n")
    kept.chmod(0o600)
    job = job_doing(
        SECRETIVE.strip().format(filed=filed).replace(repr(filed), f"open({str(kept)!r}).read().strip()"),
        name="secretive",
        steps=[{"any": ["quantize_dynamic", "indiscreet.method"]}],
    )
    (job.parent / "indiscreet").mkdir()
    (job.parent / "indiscreet" / "__init__.py").touch()
    (job.parent / "indiscreet" / "method.py").write_text(METHOD)
    words = ["--secret", "NODE_TOKEN", "--secret", f"FILE_TOKEN={kept}"]
    seen = rayopt("submit", job, *words, *ray_head.options)
    assert "the token is *** ***" in seen.stdout
    rayopt("jobs", "fetch", "secretive", "--out", tmp_path / "home", *ray_head.options)
    reason = json.loads((tmp_path / "home" / "summary.json").read_text())["failed"][0]["reason"]
    assert "cannot log in with ******" in reason
    told = {"output": seen.output.encode()}
    headers = {"Authorization": f"Bearer {ray_head.token}"}
    for path in ("/api/jobs/", "/api/v0/tasks?detail=1", "/api/v0/runtime_envs?detail=1", "/api/v0/workers?detail=1"):
        told[path] = requests.get(ray_head.address + path, headers=headers, timeout=30).content
    assert b"kept-token" in told["/api/jobs/"]  # the name of the file is no secret
    logs = (ray_head.temp / "session_latest").rglob("*")
    folders = [
        path for place in (tmp_path / "home", ray_head.home / ".rayopt", tmp_path / "job") for path in place.rglob("*")
    ]
    told |= {str(path): path.read_bytes() for path in (*logs, *folders) if path.is_file() and not path.is_socket()}
    holding = [place for place, content in told.items() if value.encode() in content or filed.encode() in content]
    assert holding == []
    assert any(b"the worker has ***" in content for content in told.values())

    lacking = rayopt("submit", job, "--secret", "NOBODYS_TOKEN", "--name", "lacking", *ray_head.options, code=2)
    assert "the secret NOBODYS_TOKEN on" in lacking.stdout
    monkeypatch.setenv("MY_PASSWORD", "correct-horse-battery")
    leaking = rayopt("submit", job, "--set", "name=correct-horse-battery", *ray_head.options, code=2)
    assert "$MY_PASSWORD" in leaking.stderr


def test_results_that_are_kept_at_an_address_come_home_too(
    ray_head: Head, small_job: Callable[..., Path], tmp_path: Path
) -> None:
    import boto3

    store = Store()
    try:
        keys = {"aws_access_key_id": "a-key-id", "aws_secret_access_key": "a-secret-key", "region_name": "us-east-1"}
        bucket = boto3.resource("s3", endpoint_url=store.url, **keys).create_bucket(Bucket="results")
        words: list[str | Path] = []
        for name in ("aws_access_key_id", "aws_secret_access_key"):
            path = ray_head.home / name
            path.write_text(keys[name])
            path.chmod(0o600)
            words += ["--secret", f"{name.upper()}={path}"]
        environment = tmp_path / "environment.yaml"
        environment.write_text(f"env_vars: {{AWS_ENDPOINT_URL: '{store.url}', AWS_DEFAULT_REGION: us-east-1}}")
        words += ["--runtime-env", environment, "--out", "s3://results/mine", *ray_head.options]
        done = rayopt("submit", small_job(name="far"), *words)
        assert "kept at: s3://results/mine" in done.stdout
        rayopt("jobs", "fetch", "far", "--out", tmp_path / "home", *ray_head.options)
        there = {one.key.removeprefix("mine/"): one.get()["Body"].read() for one in bucket.objects.all()}
        home = {str(path.relative_to(tmp_path / "home")): path for path in (tmp_path / "home").rglob("*")}
        assert {"summary.json", "report.html", "plan.json"} <= set(there)
        for name, path in home.items():
            assert path.is_dir() or path.read_bytes() == there[name]
    finally:
        store.stop()


def test_prometheus_sees_candidates_the_best_and_cache_hits(
    ray_head: Head, small_job: Callable[..., Path], told: Path
) -> None:
    waits = (
        "import time\nfrom pathlib import Path\n"
        + METHOD.partition("def apply")[0].replace("import os\n", "")
        + (
            "def apply(model, params, context):\n"
            f"    while not Path({str(told / 'seen')!r}).exists(): time.sleep(0.05)\n    return model\n"
        )
    )
    job = small_job(name="metered", steps=[{"any": ["quantize_dynamic", "patient.method"]}])
    (job.parent / "patient").mkdir()
    (job.parent / "patient" / "__init__.py").touch()
    (job.parent / "patient" / "method.py").write_text(waits)
    process = client("submit", job, *ray_head.options)

    def exported() -> dict[str, float]:
        text = requests.get(f"http://127.0.0.1:{ray_head.metrics_port}/metrics", timeout=10).text
        mine = [line for line in text.splitlines() if line.startswith("ray_rayopt_") and 'run="metered"' in line]
        return {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in mine}

    wanted = {"ray_rayopt_candidates_total", "ray_rayopt_best", "ray_rayopt_tasks_total", "ray_rayopt_tasks_planned"}
    until(lambda: wanted <= set(exported()), "the metrics are not there")
    # the baseline and the one that does not wait
    until(lambda: exported()["ray_rayopt_candidates_total"] == 2, "the candidates are not counted")
    assert exported()["ray_rayopt_best"] > 1000
    names = requests.get(
        f"{ray_head.address}/api/v0/tasks?limit=1000", headers={"Authorization": f"Bearer {ray_head.token}"}, timeout=30
    ).text
    assert "export_onnx > quantize_dynamic" in names
    (told / "seen").touch()
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, out + err
    (told / "seen").unlink()


def test_twenty_at_once_none_lost_none_doubled(ray_head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rayopt.cluster.packing import collect, pack
    from rayopt.cluster.submission import Order
    from rayopt.onray import submit
    from rayopt.onray.submit import Submissions

    (tmp_path / "tree").mkdir()
    package, trace = tmp_path / "package.zip", tmp_path / "trace"
    pack(collect(tmp_path / "tree"), package)
    jobs = Submissions(ray_head.address, ray_head.token)
    ask, deaf = submit._Client._do_request, {"many-3", "many-4"}

    def ask_once_without_hearing(self: Any, method: str, endpoint: str, **options: Any) -> Any:
        answer = ask(self, method, endpoint, **options)
        id = (options.get("json_data") or {}).get("submission_id")
        if id in deaf:
            deaf.discard(id)
            raise requests.ConnectionError("[Errno 104] Connection reset by peer")
        return answer

    monkeypatch.setattr(submit._Client, "_do_request", ask_once_without_hearing)
    orders = [
        Order(f"many-{number}", f"many-{number}", "x", "x", ("sh", "-c", f"echo {number} >> {trace}"), "")
        for number in range(20)
    ]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda order: jobs.submit(order, {}, package), orders))
    assert deaf == set()
    until(lambda: all(jobs.status(order.id).is_over for order in orders), "not all have ended")
    assert sorted(map(int, trace.read_text().split())) == list(range(20))
    assert {jobs.status(order.id).code for order in orders} == {0}


class Relay:
    """A port of its own that passes everything on to the head's dashboard, until it is cut.

    replaces: what is passed on otherwise than it came, as long as it was.
    """

    def __init__(self, to: str) -> None:
        self._to = ("127.0.0.1", int(to.rpartition(":")[2]))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self.replaces = (b"", b"")
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        self._is_cut = True
        for one in list(self._open):
            one.close()

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if self._is_cut:
                near.close()
                continue
            far = socket.create_connection(self._to)
            self._open |= {near, far}
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while block := source.recv(1 << 16):
                target.sendall(block.replace(*self.replaces) if self.replaces[0] else block)
        except OSError:
            pass
        for one in (source, target):
            self._open.discard(one)
            one.close()


@contextmanager
def relay(head: Head) -> Iterator[Relay]:
    line = Relay(head.address)
    try:
        yield line
    finally:
        line.close()
