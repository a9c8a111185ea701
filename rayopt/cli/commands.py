"""The commands, each a thin face of a function elsewhere; and what the exit codes mean.

0 done; 1 the work failed; 2 the command, the job file, or what it names is wrong; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

import click

from rayopt.cli.cluster import cluster
from rayopt.cli.doctor import doctor
from rayopt.cli.exits import exit_codes as _exit_codes
from rayopt.cli.jobs import jobs
from rayopt.cli.submit import submit
from rayopt.errors import input_error

HELP = {"help_option_names": ["-h", "--help"]}


def main() -> None:
    """The console script."""
    _SIGNALS.update({signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt)})
    cli(prog_name="rayopt")


@click.group(context_settings=HELP)
@click.version_option(package_name="rayopt")
def cli() -> None:
    """Makes models smaller and faster, on this machine or a Ray cluster; measured and proven."""


for _command in (submit, jobs, cluster, doctor):
    cli.add_command(_command)


@cli.command()
@click.argument("job", type=click.Path(path_type=Path), metavar="JOB.yaml|MODEL.onnx|FOLDER")
@click.option(
    "--kind",
    type=click.Choice(["optimize", "graph"]),
    help="For a model or a folder of them: `graph` makes graphs smaller.",
)
@click.option("--data", help="For a model: rows to compare on, FILE.npz|npy|csv|parquet or package.module:function.")
@click.option("--target", help="For a model: the column or array of the data with the labels, if it has some.")
@click.option("--max-drop", type=float, help="For a model: how much worse the metric may get.  [default: 0.01]")
@click.option("--out", help="The run folder, or s3://..., gs://... to keep it there.  [default: runs/NAME]")
@click.option("--address", help="A running Ray cluster, or `inprocess`.  [default: a Ray of its own on this machine]")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Replace a field of the job: a.b=value.")
@click.option("--overwrite", is_flag=True, help="Replace the results of another job in the run folder.")
@click.option("--resume", is_flag=True, help="Refuse to begin anew: go on with what is in the run folder.")
@click.option("--track", multiple=True, metavar="TRACKER", help="`tensorboard[:FOLDER]` or `mlflow[:URI]`.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def run(
    job: Path,
    kind: str | None,
    data: str | None,
    target: str | None,
    max_drop: float | None,
    out: str | None,
    address: str | None,
    assignments: tuple[str, ...],
    overwrite: bool,
    resume: bool,
    track: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run a job file to its end, or make a model smaller and faster without one.

    What was finished before is not done again: an interrupted run goes on where it was.
    """
    with _exit_codes(as_json):
        _take_secrets()
        from rayopt import api
        from rayopt.cli.progress import progress
        from rayopt.cli.show import show_summary

        given = _job(job, kind, {"--data": data, "--target": target, "--max-drop": max_drop})
        # stdout is for results: what a user's code or Ray prints meanwhile is progress.
        with progress() as watcher, contextlib.redirect_stdout(sys.stderr):
            more: dict[str, Any] = {
                "assignments": assignments,
                "overwrite": overwrite,
                "track": track,
                "resume": resume,
            }
            summary = api.run(given, out, address=address, watcher=watcher, **more)
        folder = api.run_folder(out, summary["name"])
        show_summary(summary, folder, as_json)
        if out is not None and folder != Path(out) and not as_json:
            click.echo(f"kept at: {out}")


@cli.command()
@click.argument("job", type=click.Path(path_type=Path))
@click.option("--budget", help="What a step may take on one device, such as 8GiB.  [default: the job's]")
@click.option("--out", type=click.Path(path_type=Path), help="The run folder.  [default: runs/NAME-memory]")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Replace a field of the job: a.b=value.")
@click.option("--overwrite", is_flag=True, help="Replace the results of another job in the run folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def memory(
    job: Path, budget: str | None, out: Path | None, assignments: tuple[str, ...], overwrite: bool, as_json: bool
) -> None:
    """Plan how the steps of a job that trains fit a memory budget; trains nothing."""
    with _exit_codes(as_json):
        from rayopt import api, loading
        from rayopt.cli.show import show_summary

        loading.check_plannable(job)
        budgets = () if budget is None else (f"memory.budget={budget}",)
        given = (*assignments, "kind=memory", *budgets)
        name = loading.load(job, given).job.name
        folder = out or Path("runs") / f"{name}-memory"
        with contextlib.redirect_stdout(sys.stderr):
            summary = api.run(job, folder, address=api.IN_PROCESS, assignments=given, overwrite=overwrite)
        show_summary(summary, folder, as_json)


@cli.command()
@click.argument("job", type=click.Path(path_type=Path))
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Replace a field of the job: a.b=value.")
@click.option("--json", "as_json", is_flag=True, help="Print the job with every default filled in as JSON.")
def validate(job: Path, assignments: tuple[str, ...], as_json: bool) -> None:
    """Check a job file without running it; loads no model and no data."""
    with _exit_codes(as_json):
        from rayopt import loading

        loaded = loading.load(job, assignments)
        if as_json:
            click.echo(json.dumps(loaded.job.model_dump(mode="json"), indent=2))
        else:
            click.echo(f"{job}: a valid job of kind {loaded.job.kind!r}, named {loaded.job.name!r}")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def methods(as_json: bool) -> None:
    """List the methods that steps can use, with their parameters and defaults."""
    with _exit_codes(as_json):
        from rayopt.cli.show import show_methods

        show_methods(as_json)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Write the report of a run folder again."""
    with _exit_codes(False):
        from rayopt import api
        from rayopt.runs.folder import RunFolder

        click.echo(api.write_report(RunFolder(folder)))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(folder: Path, as_json: bool) -> None:
    """Check that every model of a run folder is the one that was measured, and still gives the same outputs."""
    with _exit_codes(as_json):
        from rayopt.certificates import verify_folder
        from rayopt.cli.show import show_findings

        findings = verify_folder(folder)
        show_findings(findings, as_json)
        if any(finding.problem for finding in findings):
            sys.exit(1)


@cli.group()
def runs() -> None:
    """Look at runs that have ended."""


@runs.command("list")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def runs_list(folder: Path, as_json: bool) -> None:
    """List the runs below a folder, newest first."""
    with _exit_codes(as_json):
        from rayopt.cli.show import show_runs

        show_runs(folder, as_json)


@runs.command("show")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def runs_show(folder: Path, as_json: bool) -> None:
    """Show the summary of a run folder."""
    with _exit_codes(as_json):
        from rayopt.cli.show import show_summary
        from rayopt.runs.folder import RunFolder

        show_summary(RunFolder(folder).read_summary(), folder, as_json)


@runs.command("compare")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def runs_compare(folders: tuple[Path, ...], as_json: bool) -> None:
    """Compare what several runs recommend."""
    with _exit_codes(as_json):
        from rayopt.cli.show import show_comparison

        show_comparison(folders, as_json)


@cli.group()
def cache() -> None:
    """Look at the cache of finished work, or make it smaller."""


@cache.command("info")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def cache_info(as_json: bool) -> None:
    """Show where the cache is and what it holds."""
    with _exit_codes(as_json):
        from rayopt.cli.cache import show_info

        show_info(as_json)


@cache.command("prune")
@click.option("--to", "size", metavar="SIZE", help="Until the rest is no larger, such as 800MB.  [default: the limit]")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option(
    "--older-than", "days", type=click.FloatRange(min=0), metavar="DAYS", help="What was not used for so long."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was freed as JSON.")
def cache_prune(size: str | None, everything: bool, days: float | None, as_json: bool) -> None:
    """Drop the results that were not used for the longest time; those of runs under way stay."""
    with _exit_codes(as_json):
        from rayopt.cli.cache import prune

        prune(size, everything, days, as_json)


def _take_secrets() -> None:
    """A job that was submitted with secrets reads them from its node, and says them to nobody."""
    from rayopt.cluster import secrets

    secrets.load()
    secrets.hide()


def _job(path: Path, kind: str | None, options: dict[str, Any]) -> Path | dict[str, Any]:
    """The job file, or the job that a model file stands for together with the options that only go with one."""
    if kind == "graph":
        return _graph_job(path, options)
    if path.suffix == ".onnx":
        from rayopt.loading import job_of_model

        if not path.is_file():
            raise input_error(str(path), "there is no such file", "give the path of an ONNX model or a job file")
        if options["--target"] is not None and options["--data"] is None:
            raise input_error("--target", "there is no data", "add --data FILE")
        return job_of_model(path, options["--data"], options["--target"], options["--max-drop"])
    for name, value in {"--kind": kind, **options}.items():
        if value is not None:
            raise input_error(name, "goes with a model file, and this is a job file", "write it into the job")
    return path


def _graph_job(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    from rayopt.loading import job_of_models

    if not path.exists():
        raise input_error(str(path), "there is no such file or folder", "give an ONNX model or a folder of them")
    for name, value in options.items():
        if value is not None:
            raise input_error(name, "does not go with --kind graph", "leave it out: inputs are made up")
    return job_of_models(path)


_SIGNALS: dict[int, Any] = {}


def _interrupt(number: int, frame: Any) -> None:
    """A polite end by SIGTERM is an interruption like Ctrl-C."""
    raise KeyboardInterrupt
