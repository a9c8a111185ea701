"""`rayopt cluster` and `rayopt doctor` as a person types them, where no host is needed; the rest is in tests/hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rayopt.cli.commands import cli
from rayopt.cluster import on_host
from tests.cli.test_commands import HEAVY, imported

LOCAL = str(Path(__file__).parent.parent.parent / "cluster" / "local.yaml")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, list(words))
    return done.exit_code, done.stdout, done.stderr


def test_a_valid_file_is_said() -> None:
    code, out, _ = run("cluster", "validate", LOCAL)
    assert (code, out) == (0, f"{LOCAL}: a valid cluster of provider 'local', named 'rayopt-local'\n")


def test_a_wrong_file_is_exit_code_2_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("cluster_name: a\nprovider: {type: local, head_ip: 127.0.0.1}\nauht: {}\n")
    for command in ("validate", "up", "status", "down", "dashboard", "sync"):
        code, out, err = run("cluster", command, str(path))
        assert (code, out) == (2, "")
        assert f"{path}:3: auht: is no key of a cluster file here; did you mean 'auth'?" in err


def test_what_is_not_up_is_said() -> None:
    for command in ("status", "dashboard"):
        code, _, err = run("cluster", command, LOCAL)
        assert code == 2
        assert f"'rayopt-local' was not started from here; start it with `rayopt cluster up {LOCAL}`" in err
    assert run("cluster", "down", LOCAL) == (
        0,
        "rayopt-local: was not started from here; there is nothing to end\n",
        "",
    )


def test_a_cloud_is_not_synced(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("cluster_name: a\nprovider: {type: aws, region: eu-central-1}\n")
    code, _, err = run("cluster", "sync", str(path))
    assert code == 2
    assert "its `setup_commands:` install what it needs at `up`" in err


@pytest.mark.parametrize("words", [("cluster", "validate", LOCAL), ("cluster", "up", "--help"), ("doctor", "--help")])
def test_nothing_heavy_is_imported(words: tuple[str, ...]) -> None:
    assert imported(*words) & (HEAVY | {"pydantic", "jsonschema"}) == set()


def test_the_doctor_reports_versions_and_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_host, "_lets_in", lambda address, port: False)  # whatever else runs on this machine
    code, out, _ = run("doctor", "--json")
    assert code == 0
    assert json.loads(out)["versions"]["Python"].startswith("3.")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a" * 64)
    (tmp_path / ".ray" / "auth_token").chmod(0o640)
    code, out, _ = run("doctor")
    assert code == 1
    assert f"fault: {tmp_path}/.ray/auth_token is open to others (mode 640): chmod 600" in out


DASHBOARD = """
import http.server, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[1]) if self.path == "/api/jobs/" else 404)
        self.end_headers()

server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ports are read from Linux's tables")
@pytest.mark.parametrize(("answer", "lets_in"), [(200, True), (401, False)])
def test_the_doctor_names_a_dashboard_that_lets_everybody_in(tmp_path: Path, answer: int, lets_in: bool) -> None:
    script = tmp_path / "dashboard.py"
    script.write_text(DASHBOARD)
    with subprocess.Popen([sys.executable, script, str(answer)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        _, out, _ = run("doctor")
        server.kill()
    assert f" {port}  127.0.0.1" in out
    assert (f"fault: here: the dashboard at port {port} lets everybody in who reaches it: start that" in out) == lets_in
