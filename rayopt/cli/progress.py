"""Progress on stderr: a live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from rayopt.watch import Silent, Watcher

SHOWN = 6


@contextlib.contextmanager
def progress() -> Iterator[Watcher]:
    """A watcher that shows what happens for as long as the context lasts."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    display = Display(Console(stderr=True))
    with Live(display, console=display.console, refresh_per_second=8, transient=True):
        yield display


class Lines(Silent):
    """One line for everything that takes time; what comes from the cache is only counted."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._count = self._ended = 0

    def planned(self, count: int) -> None:
        self._count = count

    def backend_started(self, name: str, dashboard: str | None, seconds: float) -> None:
        self._say(f"{name} is ready ({seconds:.1f} s)" + (f"; dashboard: {dashboard}" if dashboard else ""))

    def ended(self, id: str, name: str, status: str, reason: str, cached: bool) -> None:
        self._ended += 1
        if not cached:
            self._say(f"{self._ended}/{self._count} {status}: {name}" + (f": {reason}" if reason else ""))

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        if "selection_loss" in metrics:  # once an epoch
            self._say(told(metrics, training))
        return False

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:6.1f} s] {text}", file=sys.stderr, flush=True)  # noqa: T201


class Display(Silent):
    """A bar over all tasks, and the ones that run now."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._running: dict[str, str] = {}
        self._cached = 0
        self._last = self._best = ""
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._task = self._bar.add_task("loading", total=None)

    def planned(self, count: int) -> None:
        described = "starting" if self._bar.tasks[0].description == "loading" else self._bar.tasks[0].description
        self._bar.update(self._task, description=described, total=count)

    def backend_started(self, name: str, dashboard: str | None, seconds: float) -> None:
        self._bar.update(self._task, description="working")
        where = f"; dashboard: {dashboard}" if dashboard else ""
        self.console.print(f"{name} is ready ({seconds:.1f} s){where}", highlight=False)

    def started(self, id: str, name: str) -> None:
        self._running[id] = name

    def ended(self, id: str, name: str, status: str, reason: str, cached: bool) -> None:
        self._running.pop(id, None)
        self._cached += cached
        self._bar.update(self._task, advance=1, description="working")
        self._last = f"{status}: {name}"
        if status == "failed":
            self.console.print(Text(f"failed: {name}: {reason}", style="red"))

    def candidate(self, id: str, status: str, best: Mapping[str, float]) -> None:
        self._best = ", ".join(f"{name} {value:.4g}" for name, value in best.items())

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        self._bar.update(self._task, description="training", completed=step)
        self._running["training"] = told(metrics, training)
        return False

    def __rich__(self) -> RenderableType:
        names = list(self._running.values())
        lines = [Text(f"  {name}", style="dim", overflow="ellipsis", no_wrap=True) for name in names[:SHOWN]]
        if self._best:
            lines.insert(0, Text(f"  best so far: {self._best}"))
        if self._last:
            lines.append(Text(f"  {self._last}", style="dim", overflow="ellipsis", no_wrap=True))
        if len(names) > SHOWN:
            lines.append(Text(f"  and {len(names) - SHOWN} more", style="dim"))
        if self._cached:
            lines.append(Text(f"  {self._cached} results were there already", style="dim"))
        return Group(self._bar, *lines)


def told(metrics: Mapping[str, float], training: str = "") -> str:
    """How a training goes, in a line."""
    at = f"epoch {metrics['epoch']:g}, step {metrics['step']:g} of {metrics['steps']:g}"
    parts = [f"{training}: {at}" if training else at]
    known = ("epoch", "step", "steps", "samples_per_s", "left_s", "lr")
    parts += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items() if name not in known]
    parts += [f"lr {metrics['lr']:.3g}"] if "lr" in metrics else []
    parts += [f"{metrics['samples_per_s']:,.0f} samples/s"] if metrics.get("samples_per_s") else []
    parts += [f"about {metrics['left_s']:,.0f} s left"] if metrics.get("left_s") else []
    return ", ".join(parts)
