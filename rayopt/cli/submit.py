"""`rayopt submit`: a job and the folder that it lies in go to a cluster, and its log comes back until it ends."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rayopt.cli.exits import exit_codes
from rayopt.cli.reach import PATH, Line, reached, reaching
from rayopt.errors import InputError, input_error

if TYPE_CHECKING:
    from rayopt.cluster.packing import Package
    from rayopt.cluster.submission import Order, Submission
    from rayopt.loading import Loaded


@dataclass(frozen=True)
class Wish:
    """What was asked for, beside the job and the cluster."""

    out: str | None
    working_dir: Path | None
    runtime_env: Path | None
    assignments: tuple[str, ...]
    secrets: tuple[str, ...]
    overwrite: bool


@click.command()
@click.argument("job", type=PATH)
@reaching
@click.option("--name", help="The run's name; the same name goes on with the same run.  [default: the job's]")
@click.option("--out", help="Where results go: on the head, s3:// or gs://.  [default: ~/.rayopt/runs/NAME]")
@click.option("--working-dir", type=PATH, help="The folder that travels.  [default: the job file's]")
@click.option("--runtime-env", type=PATH, metavar="FILE", help="What Ray sets up for the job: pip, env_vars, ...")
@click.option("--secret", "secrets", multiple=True, metavar="NAME[=PATH]", help="A variable, or file, of the nodes.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Replace a field of the job: a.b=value.")
@click.option("--overwrite", is_flag=True, help="Replace the results of another job in the run folder.")
@click.option("--follow/--no-follow", default=True, help="Show the log and end as the job ends, or only submit.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of it as JSON; the log goes to stderr.")
def submit(
    job: Path,
    cluster: Path | None,
    address: str | None,
    token_file: Path | None,
    name: str | None,
    follow: bool,
    as_json: bool,
    **wish: Any,
) -> None:
    """Run a job file on a cluster; ends with the job's own exit code.

    What the same name has finished before is not done again. Files that .gitignore or .rayignore name stay here, and so
    do secrets.
    """
    with exit_codes(as_json):
        from rayopt.loading import load

        wished = Wish(**wish)
        _refuse_out(wished.out)
        assignments = (*wished.assignments, *((f"name={name}",) if name else ()))
        wished = Wish(**{**wish, "assignments": assignments})
        loaded = load(job, assignments)
        _refuse_leaks(loaded, wished)
        environment = _environment(wished)
        package = _package(job, loaded, wished)
        with reached(cluster, address, token_file) as line, tempfile.TemporaryDirectory() as aside:
            _refuse_the_impossible(loaded, line)
            order = _submitted(loaded, wished, environment, package, line, Path(aside) / "package.zip")
            code = follow_to_end(line, order.id, as_json) if follow else _told(order, as_json)
    sys.exit(code)


def follow_to_end(line: Line, id: str, as_json: bool) -> int:
    """Shows the log of a job until it ends and gives its exit code; Ctrl-C asks what is to become of it."""
    from rayopt.cluster.following import Following, UnknownError

    def write(text: str) -> None:
        click.echo(text, nl=False, err=as_json)

    following = Following(lambda: line.jobs.status(id), lambda: line.jobs.log(id), line.reopen, write, _say)
    try:
        ended = following.run()
    except KeyboardInterrupt:
        ended_after_all = _interrupted(line, id)
        if ended_after_all is None:
            return 130
        ended = ended_after_all
    except UnknownError as error:
        if following.was_lost:  # a head that was started anew has forgotten its jobs
            raise input_error(id, "the cluster knows it no longer", "submit it again: it goes on from there") from error
        raise
    if as_json:
        click.echo(json.dumps(ended.as_json(), indent=2))
    elif ended.exit_code is None and ended.status != "STOPPED":
        _say(f"{id}: {ended.status.lower()}: {ended.message}")
    _say(f"{id}: {ended.status.lower()}" + (f", exit code {ended.exit_code}" if ended.exit_code is not None else ""))
    return ended.code


def _interrupted(line: Line, id: str) -> Submission | None:
    """Asks whether to stop the job; it goes on where nobody can be asked."""
    answer = "detach"
    if sys.stdin.isatty():
        try:
            choice = click.Choice(["detach", "stop"])
            answer = click.prompt("\nthe job goes on; detach, or stop it?", type=choice, default=answer, err=True)
        except click.Abort:
            answer = "detach"
    if answer == "stop":
        from rayopt.cluster.submission import STOP_WAIT_S

        return line.jobs.stop(id, 2 * STOP_WAIT_S)
    _say(f"{id} goes on; `rayopt jobs logs {id} --follow` shows it again, `rayopt jobs stop {id}` ends it")
    return None


def _refuse_out(out: str | None) -> None:
    from rayopt.cluster.submission import out_fault

    if problem := out_fault(out):
        remedy = "give an absolute path on the head, ~/..., s3://... or gs://...; `rayopt jobs fetch` brings it here"
        raise input_error("--out", problem, remedy)


def _refuse_leaks(loaded: Loaded, wished: Wish) -> None:
    """Everybody on the cluster can read what is submitted."""
    from rayopt.cluster.secrets import leaks, leaks_in

    texts = {str(loaded.document.source): loaded.text, "--out": wished.out or ""}
    faults = leaks(texts | {f"--set {text.partition('=')[0]}": text for text in wished.assignments})
    faults += leaks_in(loaded.document.data, loaded.document.place)
    if faults:
        raise InputError(faults)


def _refuse_leaks_of(paths: Iterable[Path]) -> None:
    """The job files that a job names travel with it, and everybody on the cluster can read them as well."""
    from rayopt.cluster.packing import plain
    from rayopt.cluster.secrets import leaks, leaks_in
    from rayopt.yamltext import place_of

    faults = []
    for path in paths:
        if path.suffix in (".yaml", ".yml") and path.is_file():
            faults += leaks({str(path): path.read_text(encoding="utf-8", errors="replace")})
            faults += leaks_in(plain(path), partial(place_of, str(path), None))
    if faults:
        raise InputError(faults)


def _package(job: Path, loaded: Loaded, wished: Wish) -> Package:
    from rayopt.cluster.packing import collect, named_in

    root = (wished.working_dir or job.resolve().parent).resolve()
    if not root.is_dir() or not job.resolve().is_relative_to(root):
        raise input_error(f"--working-dir {root}", f"does not hold {job}", "give a folder that the job file lies in")
    named = named_in(loaded.document.data, loaded.document.folder, root, str(job))
    _refuse_leaks_of([root / name for name in named])
    package = collect(root, [*named, str(job.resolve().relative_to(root))])
    for secret in package.secrets:
        _say(f"{secret} stays here: it looks like a secret")
    return package


def _refuse_the_impossible(loaded: Loaded, line: Line) -> None:
    from rayopt.cluster.demand import asks, faults_of, types_of, unknown_types

    wanted = asks(loaded.job, loaded.document)
    raw = line.cluster.raw if line.cluster is not None else {}
    if wanted and not unknown_types(raw):
        faults = faults_of(wanted, [*line.jobs.machines(), *types_of(raw)], loaded.document)
        if faults:
            raise InputError(faults)


def _submitted(
    loaded: Loaded, wished: Wish, environment: dict[str, Any], package: Package, line: Line, target: Path
) -> Order:
    """Submits the job, or gives the same one that is under way already; raises InputError for another of that name."""
    from rayopt.cluster import submission
    from rayopt.cluster.packing import pack
    from rayopt.cluster.runtime import brings_python
    from rayopt.records import digest

    name, out = loaded.job.name, submission.out_of(loaded.job.name, wished.out)
    python = "python" if brings_python(environment) else line.jobs.head()["python"]
    job = Path(loaded.document.source).resolve().relative_to(package.root).as_posix()
    words = submission.command(python, job, out, wished.assignments, wished.overwrite)
    mark = digest([pack(package, target), list(words), environment])
    while True:
        known = line.jobs.all()
        running = next((one for one in known if one.name == name and not one.is_over), None)
        if running is not None and running.metadata.get("rayopt_digest") != mark:
            remedy = f"follow it with `rayopt jobs logs {running.id} --follow`, stop it, or give another --name"
            raise input_error(name, f"{running.id} is under way with that name", remedy)
        id = running.id if running is not None else submission.next_id(name, [one.id for one in known])
        order = submission.Order(id, name, loaded.job.kind, out, words, mark)
        if running is not None:
            _say(f"{running.id} is the same job, and under way: nothing new is submitted")
            return order
        if line.jobs.submit(order, environment, target):
            size = f"{len(package.files):,} files, {package.size_bytes / (1 << 20):.1f} MiB"
            _say(f"submitted {order.id} ({size}); results go to {out}")
            return order


def _environment(wished: Wish) -> dict[str, Any]:
    from rayopt.cluster import secrets, submission
    from rayopt.cluster.runtime import read_runtime_env, with_variables
    from rayopt.runs.hidden import VARIABLE

    given = read_runtime_env(wished.runtime_env) if wished.runtime_env else {}
    if given:
        from rayopt.onray.environments import check_environment

        check_environment(given, str(wished.runtime_env))
    environment = with_variables(given, {"RAY_JOB_STOP_WAIT_TIME_S": str(submission.STOP_WAIT_S)})
    if not wished.secrets:
        return environment
    if "worker_process_setup_hook" in given:
        raise input_error("worker_process_setup_hook", "does not go with --secret", "leave one of them out")
    told = secrets.written([secrets.parse(text) for text in wished.secrets])
    return {**with_variables(environment, {VARIABLE: told}), "worker_process_setup_hook": secrets.SETUP}


def _told(order: Order, as_json: bool) -> int:
    click.echo(json.dumps({"id": order.id, "name": order.name, "out": order.out}, indent=2) if as_json else order.id)
    return 0


def _say(text: str) -> None:
    click.echo(text, err=True)
