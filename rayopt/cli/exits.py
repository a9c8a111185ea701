"""What every command does with the errors that are meant for the user."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator

import click

from rayopt.errors import InputError, RayoptError


@contextlib.contextmanager
def exit_codes(as_json: bool) -> Iterator[None]:
    """Turns the errors that are meant for the user into messages on stderr and exit codes."""
    try:
        yield
    except InputError as error:
        if as_json:
            faults = [{"place": one.place, "problem": one.problem, "remedy": one.remedy} for one in error.faults]
            click.echo(json.dumps({"status": "error", "faults": faults}, indent=2))
        for fault in error.faults:
            click.echo(f"error: {fault}", err=True)
        sys.exit(2)
    except RayoptError as error:
        if as_json:
            click.echo(json.dumps({"status": "failed", "reason": str(error)}, indent=2))
        click.echo(f"failed: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("interrupted: what was finished is kept; the same command goes on from there", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; there is nobody to tell
        sys.exit(1)
