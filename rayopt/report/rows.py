"""A summary as rows, figures and the one sentence that says how a run ended.

Pure, and light to import: the terminal prints `headline` too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rayopt.report import search
from rayopt.report.formats import (
    format_count,
    format_digits,
    format_factor,
    format_ms,
    format_score,
    format_seconds,
    format_size,
)

Json = Mapping[str, Any]

GROUPS = {  # verdicts that are not listed here are shown as they are, in the group "other"
    "recommended": "recommended",
    "on the front": "front",
    "baseline": "baseline",
    "beaten by another": "beaten",
    "not measurably faster than the baseline": "slower",
    "slower than the baseline": "slower",
    "larger than the baseline": "larger",
    "over the accuracy budget": "budget",
    "perhaps over the accuracy budget": "budget",
    "not timed": "untimed",
}
OVER_BUDGET = next(verdict for verdict, group in GROUPS.items() if group == "budget")
ORDER = (*dict.fromkeys(GROUPS.values()), "other", "same")


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval, where one is known, over `n` rows of data (None for a latency)."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Speed:
    """A model's latency at one batch size; `ratio` is to the baseline, None where it was not compared."""

    batch_size: str
    latency_ms: float
    ratio: Interval | None


@dataclass(frozen=True)
class Row:
    """One model. `group` is what its verdict amounts to, `twins` the chains that gave the very same file.

    `lags` are the batch sizes, as words, at which it is slower than the baseline or may be.
    """

    id: str
    steps: tuple[str, ...]
    verdict: str
    group: str
    size_bytes: int
    size_ratio: float | None
    selection: Interval | None
    test: Interval | None
    speeds: tuple[Speed, ...]
    path: str | None
    sha256: str
    others: Mapping[str, float]
    twins: tuple[tuple[str, ...], ...] = ()
    lags: str = ""
    why: str = ""

    @property
    def told(self) -> str:
        """The verdict, and for a model that is not faster at which batch size: one view shows only one of them."""
        return f"{self.verdict} {self.lags}" if self.group == "slower" and self.lags else self.verdict

    @property
    def shown(self) -> Interval | None:
        """The score to quote: of the test split where it was read, else of the selection split."""
        return self.test or self.selection

    def speed(self, batch_size: str) -> Speed | None:
        return next((speed for speed in self.speeds if speed.batch_size == batch_size), None)

    def ratio(self, batch_size: str) -> Interval | None:
        speed = self.speed(batch_size)
        return speed.ratio if speed else None


@dataclass(frozen=True)
class Sheet:
    """All that a page shows about the models of a run; rows are sorted best first, twins last."""

    metric: str
    higher_is_better: bool
    max_drop: float
    batch_sizes: tuple[str, ...]
    baseline: Row | None
    recommended: Row | None
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """The metric's name at the start of a line; other names than rayopt's own are left as they are."""
        return "Accuracy" if self.metric == "accuracy" else self.metric


@dataclass(frozen=True)
class Ending:
    """A step that gave no model for a reason, and the chains, as id and steps, that all ended there."""

    step: str
    reason: str
    chains: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Bar:
    """From where to where a bar goes, in shares (0..1) of its width, and where on it to make a mark."""

    start: float
    end: float
    mark: float | None = None


@dataclass(frozen=True)
class Card:
    """One comparison in big figures, with what it compares and a bar for each."""

    title: str
    figure: str
    word: str
    baseline: str
    recommended: str
    baseline_bar: Bar
    recommended_bar: Bar


def headline(summary: Json) -> str:
    """How the run ended, in one sentence of plain text."""
    status = str(summary.get("status", "done"))
    if summary.get("kind") == "search":
        return search.headline(summary)
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


def sheet(summary: Json) -> Sheet:
    """The models of a summary; whatever it lacks is left out."""
    baseline = summary.get("baseline")
    best = (summary.get("recommended") or {}).get("id")
    models = {one["id"]: one for one in (baseline, *summary.get("candidates", ())) if one}
    metric = str(summary.get("metric", "accuracy"))
    rows = [_row(one, best, metric, baseline, models) for one in models.values()]
    by_id = {row.id: row for row in rows}
    batch_sizes = {speed.batch_size for row in rows for speed in row.speeds}
    return Sheet(
        metric=metric,
        higher_is_better=bool(summary.get("higher_is_better", True)),
        max_drop=float(summary.get("max_accuracy_drop", 0)),
        batch_sizes=tuple(sorted(batch_sizes, key=lambda size: (len(size), size))),
        baseline=by_id.get(baseline["id"]) if baseline else None,
        recommended=by_id.get(best) if best else None,
        rows=tuple(sorted(rows, key=lambda row: (ORDER.index(row.group), row.size_bytes))),
    )


def cards(found: Sheet) -> list[Card]:
    """The recommended model against the baseline: size, latency by batch size, and the metric."""
    base, best = found.baseline, found.recommended
    if base is None or best is None:
        return []
    speeds = [_speed_card(base, best, batch_size) for batch_size in found.batch_sizes]
    made = [_size_card(base, best), *speeds, _score_card(found, base, best)]
    return [card for card in made if card]


def choices(summary: Json, found: Sheet) -> list[tuple[str, Row]]:
    """The smallest, the fastest and the best balanced model, each with its name; none where all are the same one."""
    by_id = {row.id: row for row in found.rows}
    named = [(name, by_id[id]) for name, id in (summary.get("choices") or {}).items() if id in by_id]
    return named if len({row.id for _, row in named}) > 1 else []


def gains(found: Sheet, row: Row) -> str:
    """What a model gains over the baseline, as a list: `10.0x smaller, 1.8x faster at batch 1, accuracy 98.1 %`."""
    return _gains(found, row).partition(": ")[2]


def endings(summary: Json) -> list[Ending]:
    """Why chains gave no model: those that ended at the same step for the same reason are told of once."""
    found: dict[tuple[str, str], list[tuple[str, tuple[str, ...]]]] = {}
    for one in summary.get("failed") or ():
        why = str(one.get("step", "")), str(one.get("reason", ""))
        found.setdefault(why, []).append((str(one.get("id", "")), tuple(one.get("steps") or ())))
    return [Ending(step, reason, tuple(chains)) for (step, reason), chains in found.items()]


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


def _size_card(base: Row, best: Row) -> Card:
    figure, _, word = _size_change(best.size_bytes / base.size_bytes).partition(" ")
    sizes = format_size(base.size_bytes), format_size(best.size_bytes)
    return Card("Size", figure, word, *sizes, *_bars(base.size_bytes, best.size_bytes))


def _speed_card(base: Row, best: Row, batch_size: str) -> Card | None:
    """None where one of the two was not timed. The bars show the ratio, which is timed in turns, not the medians."""
    before, after = base.speed(batch_size), best.speed(batch_size)
    if before is None or after is None or after.ratio is None:
        return None
    figure, _, word = _speed_change(after.ratio.value).partition(" ")
    times = format_ms(before.latency_ms), format_ms(after.latency_ms)
    return Card(f"Latency, batch {batch_size}", figure, word, *times, *_bars(1, after.ratio.value))


def _score_card(found: Sheet, base: Row, best: Row) -> Card | None:
    """The scores with their intervals as bars on one scale."""
    if base.shown is None or best.shown is None:
        return None
    ends = [end for score in (base.shown, best.shown) for end in _ends(score)]
    low, width = min(ends), (max(ends) - min(ends)) or 1
    before, after = (Bar(*((end - low) / width for end in _ends(score))) for score in (base.shown, best.shown))
    return Card(
        title=f"{found.title}, {'test' if best.test else 'selection'} split",
        figure=format_score(best.shown.value, found.metric),
        word=f"n={best.shown.n}" if best.shown.n else "",
        baseline=format_score_interval(base.shown, found.metric).replace(" %)", ")"),
        recommended=format_score_interval(best.shown, found.metric).replace(" %)", ")"),
        baseline_bar=before,
        recommended_bar=after,
    )


def _ends(score: Interval) -> tuple[float, float, float]:
    """Low, high and the value itself."""
    low, high = (score.value if end is None else end for end in (score.low, score.high))
    return low, high, score.value


def _row(model: Json, best: str | None, metric: str, baseline: Json | None, models: Mapping[str, Json]) -> Row:
    id = model["id"]
    verdict = "recommended" if id == best else str(model.get("verdict") or "no verdict")
    return Row(
        id=id,
        steps=tuple(model.get("steps", ())),
        verdict=f"over the {metric} budget" if verdict == OVER_BUDGET else verdict,
        group="same" if model.get("twin_of") else GROUPS.get(verdict, "other"),
        size_bytes=model["size_bytes"],
        size_ratio=model["size_bytes"] / baseline["size_bytes"] if baseline else None,
        selection=_selection(model),
        test=_interval(model, "accuracy") if model.get("accuracy_split") == "test" else None,
        speeds=tuple(_speed(model, size) for size in model.get("latency_ms") or ()),
        path=model.get("path"),
        sha256=str(model.get("sha256", "")),
        others=model.get("others") or {},
        twins=tuple(tuple(one.get("steps", ())) for one in models.values() if one.get("twin_of") == id),
        lags=_lags(model, baseline) if baseline and id != baseline["id"] else "",
        why=str(model.get("why") or ""),
    )


def _lags(model: Json, baseline: Json) -> str:
    """Where a model is not measurably faster: `at batch 1 and 32`; empty where it is faster everywhere."""
    lows, highs = baseline.get("latency_ratio_low") or {}, model.get("latency_ratio_high") or {}
    ratios = model.get("latency_ratio") or {}
    slow = [size for size, ratio in ratios.items() if (highs.get(size) or ratio or 0) >= min(1, lows.get(size) or 1)]
    if len(slow) == len(ratios) > 1:
        return "at every batch size"
    *most, last = slow or [""]
    return f"at batch {', '.join(most)} and {last}" if most else f"at batch {last}" if last else ""


def _selection(model: Json) -> Interval | None:
    """The score of the selection split; its interval is under names of its own where the test split was read too."""
    if model.get("accuracy_split") != "test":
        return _interval(model, "accuracy")
    return _interval(model, "selection_accuracy")


def _interval(model: Json, name: str) -> Interval | None:
    value = model.get(name)
    if value is None:
        return None
    return Interval(value, model.get(f"{name}_low"), model.get(f"{name}_high"), model.get(f"{name}_n"))


def _speed(model: Json, size: str) -> Speed:
    ratio, low, high = (
        (model.get(name) or {}).get(size) for name in ("latency_ratio", "latency_ratio_low", "latency_ratio_high")
    )
    return Speed(size, model["latency_ms"][size], None if ratio is None else Interval(ratio, low, high))


def _gains(found: Sheet, best: Row) -> str:
    """`ID: 10.0x smaller, 1.8x faster at batch 1, accuracy 98.1 % (baseline 98.1 %, n=359)`."""
    parts = [] if best.size_ratio is None else [_size_change(best.size_ratio)]
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


def _size_change(ratio: float) -> str:
    return _change(ratio, "smaller", "larger", "the same size")


def _speed_change(ratio: float) -> str:
    return _change(ratio, "faster", "slower", "as fast")


def _speed_words(ratio: Interval) -> str:
    """The change of latency, unless the interval says that there may be none."""
    spans = ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high
    return "as fast" if spans else _speed_change(ratio.value)


def _change(ratio: float, better: str, worse: str, same: str) -> str:
    """A ratio of which less is better, in words."""
    text = format_factor(1 / ratio if ratio < 1 else ratio)
    return same if text == "1.00x" else f"{text} {better if ratio < 1 else worse}"


def _bars(base: float, best: float) -> tuple[Bar, Bar]:
    return Bar(0, base / max(base, best)), Bar(0, best / max(base, best))


def _after(summary: Json) -> str:
    seconds = summary.get("seconds")
    return f" after {format_seconds(seconds)}" if seconds is not None else ""
