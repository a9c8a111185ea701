"""`rayopt jobs`: what was submitted to a cluster, what it says, and its results brought home."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rayopt.cli.exits import exit_codes
from rayopt.cli.reach import PATH, Line, reached, reaching
from rayopt.errors import WorkError, input_error

if TYPE_CHECKING:
    from rayopt.cluster.submission import SentFile, Submission

FETCH_WAIT_S = 120
ID = click.argument("id", metavar="ID|NAME")


@click.group()
def jobs() -> None:
    """Look at the jobs of a cluster, stop them, or bring their results home."""


@jobs.command("list")
@reaching
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def jobs_list(cluster: Path | None, address: str | None, token_file: Path | None, as_json: bool) -> None:
    """List what was submitted, newest first."""
    with exit_codes(as_json), reached(cluster, address, token_file) as line:
        from rayopt.cli.tables import show_table

        found = line.jobs.all()
        if as_json:
            click.echo(json.dumps([one.as_json() for one in found], indent=2))
            return
        rows = [(one.id, one.name or "-", one.status.lower(), _when(one.began), _taken(one)) for one in found]
        show_table(("id", "name", "status", "began", "seconds"), rows)


@jobs.command("status")
@ID
@reaching
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def jobs_status(id: str, cluster: Path | None, address: str | None, token_file: Path | None, as_json: bool) -> None:
    """Show what became of a job."""
    with exit_codes(as_json), reached(cluster, address, token_file) as line:
        found = line.jobs.find(id)
        if as_json:
            click.echo(json.dumps(found.as_json(), indent=2))
            return
        code = "" if found.exit_code is None else f", exit code {found.code}"
        click.echo(f"{found.id}: {found.status.lower()}{code}")
        click.echo(f"began {_when(found.began)}, {_taken(found)} s; results: {found.out or 'unknown'}")
        if found.is_over and found.code and found.message:
            click.echo(found.message.rstrip())


@jobs.command("logs")
@ID
@reaching
@click.option("--follow", is_flag=True, help="Go on until the job ends, and end with its exit code.")
def jobs_logs(id: str, cluster: Path | None, address: str | None, token_file: Path | None, follow: bool) -> None:
    """Show what a job has said."""
    with exit_codes(False), reached(cluster, address, token_file) as line:
        found = line.jobs.find(id)
        if follow:
            from rayopt.cli.submit import follow_to_end

            sys.exit(follow_to_end(line, found.id, False))
        click.echo(line.jobs.log(found.id).decode(errors="replace"), nl=False)


@jobs.command("stop")
@ID
@reaching
def jobs_stop(id: str, cluster: Path | None, address: str | None, token_file: Path | None) -> None:
    """End a job; what it has finished is kept."""
    with exit_codes(False), reached(cluster, address, token_file) as line:
        from rayopt.cluster.submission import STOP_WAIT_S

        ended = line.jobs.stop(line.jobs.find(id).id, 2 * STOP_WAIT_S)
        click.echo(f"{ended.id}: {ended.status.lower()}")


@jobs.command("fetch")
@ID
@reaching
@click.option("--out", type=PATH, help="Where the run folder goes.  [default: runs/NAME]")
@click.option("--overwrite", is_flag=True, help="Replace the results of another job there.")
def jobs_fetch(
    id: str, cluster: Path | None, address: str | None, token_file: Path | None, out: Path | None, overwrite: bool
) -> None:
    """Bring the run folder of a job home."""
    with exit_codes(False), reached(cluster, address, token_file) as line:
        found = line.jobs.find(id)
        if not found.out:
            raise input_error(found.id, "was not submitted by rayopt", "see `rayopt jobs list`")
        target = out or Path("runs") / _folder_name(found)
        _from_head(line, found, target, overwrite)
        click.echo(target)


def _folder_name(found: Submission) -> str:
    """The job's name, which is what the cluster says: any folder of this machine may be named there."""
    from rayopt.cluster.submission import SAFE

    if not SAFE.fullmatch(found.name):
        problem = f"has a name that no folder is made of: {found.name!r}"
        raise input_error(found.id, problem, "say where it goes with --out")
    return found.name


def _from_head(line: Line, found: Submission, target: Path, overwrite: bool) -> None:
    """Lets the head offer the files for as long as it takes to bring them here."""
    from rayopt.cluster.fetching import fetch
    from rayopt.cluster.submission import HELPER, new_id

    head, offer = line.jobs.head(), new_id(HELPER)
    line.jobs.start(offer, (head["python"], "-m", "rayopt.cluster.sending", head["logs"], found.out))
    try:
        folder, files = _offered(line, offer, found)
        fetch(lambda name: line.jobs.download(head["node_id"], f"{folder}/{name}"), files, target, found.id, overwrite)
    finally:
        if not line.jobs.status(offer).is_over:
            line.jobs.stop(offer, FETCH_WAIT_S)


def _offered(line: Line, offer: str, found: Submission) -> tuple[str, list[SentFile]]:
    """The folder among the head's logs, and what is in it, once the head has said so."""
    from rayopt.cluster.submission import manifest

    until = time.monotonic() + FETCH_WAIT_S
    while True:
        now = line.jobs.status(offer)
        log = line.jobs.log(offer).decode(errors="replace")
        offered = manifest(log)
        if offered is not None:
            return offered
        if now.is_over and now.exit_code == 3:
            problem = f"has no run folder {found.out} on the head"
            raise input_error(found.id, problem, f"see `rayopt jobs logs {found.id}`")
        if now.is_over:
            raise WorkError(f"the head does not offer the files: {log.strip() or now.message}")
        if now.status != "RUNNING" and time.monotonic() > until:  # what runs may have much to bring, or to hash
            raise WorkError(f"the head has not begun to offer the files within {FETCH_WAIT_S} s")
        time.sleep(0.2)


def _when(seconds: float | None) -> str:
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _taken(one: Submission) -> str:
    ended = one.ended or (None if one.is_over else datetime.now(UTC).timestamp())
    return "-" if one.began is None or ended is None else f"{ended - one.began:.0f}"
