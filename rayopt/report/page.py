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

from rayopt.report import formats, rows, search
from rayopt.report.figure import views

INSIDE = re.compile(r"(?!.*\.\.)\w[\w./-]*")  # a path below the run folder, and no `javascript:`


def render(summary: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """The page for a summary and the plan it came from; both may lack any part."""
    if summary.get("kind") == "search":
        return _search_page(summary, plan)
    found = rows.sheet(summary)
    figures = views(found)
    template = _environment().get_template("page.html")
    return template.render(
        summary=summary,
        plan=plan,
        sheet=found,
        headline=rows.headline(summary),
        cards=rows.cards(found),
        choices=[(name, row, rows.gains(found, row)) for name, row in rows.choices(summary, found)],
        endings=rows.endings(summary),
        views=figures,
        plotly=_plotly() if figures else None,
        job=yaml.safe_dump(plan["job"], sort_keys=False, allow_unicode=True) if plan.get("job") else "",
    )


def _search_page(summary: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """The page of a search: its figures have no buttons but Plotly's own."""
    found = search.sheet(summary)
    figures = search.figures(found)
    return (
        _environment()
        .get_template("search.html")
        .render(
            summary=summary,
            plan=plan,
            sheet=found,
            headline=search.headline(summary),
            figures=figures,
            plotly=_plotly() if figures else None,
            job=yaml.safe_dump(plan["job"], sort_keys=False, allow_unicode=True) if plan.get("job") else "",
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
        "drop": rows.format_drop,
        "factor": lambda ratio: rows.format_ratio(rows.Interval(ratio)),
        "inside": _inside,
        "milliseconds": formats.format_ms,
        "metric": formats.format_score,
        "ratio": rows.format_ratio,
        "seconds": formats.format_seconds,
        "source_hash": _source_hash,
        "span": rows.format_interval,
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
