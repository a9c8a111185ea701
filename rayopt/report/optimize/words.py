"""How a run ended, in words; light to import: the terminal prints `headline` too."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from rayopt.report.formats import (
    format_count,
    format_digits,
    format_factor,
    format_ms,
    format_score,
    format_seconds,
    format_size,
)
from rayopt.report.optimize.rows import Interval, Row, Sheet, sheet

Json = Mapping[str, Any]


def headline(summary: Json) -> str:
    """How the run ended, in one sentence of plain text."""
    status = str(summary.get("status", "done"))
    if status == "failed":
        return f"failed{_after(summary)}{_cause(summary)}"
    if "candidates" not in summary:
        return f"{summary.get('name', 'run')}: {status}{_after(summary)}"
    found = sheet(summary)
    if found.recommended is not None:
        sentence = f"recommended {_gains(found, found.recommended)}"
        return sentence if status == "done" else f"{status}{_after(summary)}; so far {sentence}"
    if status == "done":
        return _nothing(summary, found)
    return f"{status}{_after(summary)}, before a model was chosen; {format_count(len(found.rows), 'model')} measured"


def gains(found: Sheet, row: Row) -> str:
    """What a model gains over the baseline, as a list: `10.0x smaller, 1.8x faster at batch 1, accuracy 98.1 %`."""
    return _gains(found, row).partition(": ")[2]


def format_ratio(ratio: Interval) -> str:
    """A ratio to the baseline, with its interval where that is known: 0.562x (0.553–0.575)."""
    if ratio.low is None or ratio.high is None:
        return f"{format_digits(ratio.value, 3)}x"
    return f"{format_digits(ratio.value, 3)}x ({format_digits(ratio.low, 3)}–{format_digits(ratio.high, 3)})"


def format_score_interval(score: Interval | None, metric: str) -> str:
    """A score with its interval; empty for none."""
    if score is None:
        return ""
    span = format_interval(score, metric)
    return format_score(score.value, metric) + (f" ({span})" if span else "")


def format_interval(score: Interval, metric: str) -> str:
    """The interval of a score, empty where it is not known: 96.0–99.1 %."""
    if score.low is None or score.high is None:
        return ""
    return f"{format_score(score.low, metric).removesuffix(' %')}–{format_score(score.high, metric)}"


def format_drop(found: Sheet) -> str:
    """How much worse than the baseline the metric may be: `accuracy at most 1 point lower`."""
    way = "lower" if found.higher_is_better else "higher"
    if found.metric != "accuracy":
        return f"{found.metric} at most {found.max_drop:g} {way}"
    points = round(found.max_drop * 100, 6)
    return f"accuracy at most {points:g} {'point' if points == 1 else 'points'} {way}"


def _gains(found: Sheet, best: Row) -> str:
    """`ID: 10.0x smaller, 1.8x faster at batch 1, accuracy 98.1 % (baseline 98.1 %, n=359)`."""
    parts = [] if best.size_ratio is None else [size_change(best.size_ratio)]
    for speed in best.speeds:
        if speed.ratio:
            parts.append(f"{_speed_words(speed.ratio)} at batch {speed.batch_size}")
    if best.shown:
        base = found.baseline.shown if found.baseline else None
        notes = [f"baseline {format_score(base.value, found.metric)}"] if base else []
        notes += [f"n={best.shown.n}"] if best.shown.n else []
        notes += [] if best.test else ["selection split"]
        parts.append(f"{found.metric} {format_score(best.shown.value, found.metric)} ({', '.join(notes)})")
    return f"{best.id}: {', '.join(parts)}"


def _nothing(summary: Json, found: Sheet) -> str:
    """That the baseline is best, and what it is."""
    failed, tried = len(summary.get("failed", ())), len(found.rows) - (found.baseline is not None)
    if not failed and not tried:
        sentence = "nothing was tried besides the baseline"
    elif not tried:
        sentence = f"nothing tried gave a model that could be measured: {failed} failed"
    else:
        sentence = f"nothing tried is better than the baseline within the budget ({format_drop(found)})"
    base = found.baseline
    if base is None:
        return sentence
    parts = [format_size(base.size_bytes)]
    parts += [f"{format_ms(speed.latency_ms)} at batch {speed.batch_size}" for speed in base.speeds]
    if base.shown:
        n = f" (n={base.shown.n})" if base.shown.n else ""
        parts.append(f"{found.metric} {format_score(base.shown.value, found.metric)}{n}")
    return f"{sentence}; baseline {base.id}: {', '.join(parts)}"


def _cause(summary: Json) -> str:
    """Why a run failed: what became of the baseline, which the summary lists first."""
    base, failed = (summary.get("baseline") or {}).get("id"), list(summary.get("failed", ()))
    cause = next((one for one in failed if one.get("id") == base), failed[0] if failed else None)
    if cause is None:
        return ""
    first = (str(cause.get("reason", "")).strip().splitlines() or ["no reason is known"])[0]
    reason = textwrap.shorten(first, 160, placeholder=" …")
    return f": the baseline cannot be made or measured: {cause.get('step', '')}: {reason}"


def size_change(ratio: float) -> str:
    return _change(ratio, "smaller", "larger", "the same size")


def speed_change(ratio: float) -> str:
    return _change(ratio, "faster", "slower", "as fast")


def _speed_words(ratio: Interval) -> str:
    """The change of latency, unless the interval says that there may be none."""
    spans = ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high
    return "as fast" if spans else speed_change(ratio.value)


def _change(ratio: float, better: str, worse: str, same: str) -> str:
    """A ratio of which less is better, in words."""
    text = format_factor(1 / ratio if ratio < 1 else ratio)
    return same if text == "1.00x" else f"{text} {better if ratio < 1 else worse}"


def _after(summary: Json) -> str:
    seconds = summary.get("seconds")
    return f" after {format_seconds(seconds)}" if seconds is not None else ""
