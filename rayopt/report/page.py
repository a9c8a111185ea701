"""The report of a run as one HTML page that needs nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rayopt.report import formats
from rayopt.report.kinds import face
from rayopt.report.optimize import words
from rayopt.report.optimize.rows import Interval

INSIDE = re.compile(r"(?!.*\.\.)\w[\w./-]*")  # a path below the run folder, and no `javascript:`


def render(summary: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """The page for a summary and the plan it came from; both may lack any part."""
    shown = face(summary)
    given = shown.context(summary)
    return (
        _environment()
        .get_template(shown.TEMPLATE)
        .render(
            summary=summary,
            plan=plan,
            headline=shown.headline(summary),
            plotly=_plotly() if given["figures"] else None,
            job=yaml.safe_dump(plan["job"], sort_keys=False, allow_unicode=True) if plan.get("job") else "",
            **given,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rayopt.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": formats.format_size,
        "drop": words.format_drop,
        "factor": lambda ratio: words.format_ratio(Interval(ratio)),
        "inside": _inside,
        "milliseconds": formats.format_ms,
        "metric": formats.format_score,
        "ratio": words.format_ratio,
        "seconds": formats.format_seconds,
        "source_hash": _source_hash,
        "span": words.format_interval,
    }
    return environment


def _plotly() -> Markup:
    """Plotly's own script; its text ends no script element."""
    from plotly.offline import get_plotlyjs

    return Markup(str(get_plotlyjs()).replace("</script", r"<\/script"))  # noqa: S704 (a fixed text of plotly's)


def _source_hash(script: str) -> str:
    """A script as the content security policy names it: only the page's own scripts may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _inside(path: str | None) -> bool:
    """Whether a path may be linked to: relative, and below the run folder."""
    return path is not None and INSIDE.fullmatch(path) is not None
