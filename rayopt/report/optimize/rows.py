"""The models of a summary as rows, sorted best first; whatever a summary lacks is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


def choices(summary: Json, found: Sheet) -> list[tuple[str, Row]]:
    """The smallest, the fastest and the best balanced model, each with its name; none where all are the same one."""
    by_id = {row.id: row for row in found.rows}
    named = [(name, by_id[id]) for name, id in (summary.get("choices") or {}).items() if id in by_id]
    return named if len({row.id for _, row in named}) > 1 else []


def endings(summary: Json) -> list[Ending]:
    """Why chains gave no model: those that ended at the same step for the same reason are told of once."""
    found: dict[tuple[str, str], list[tuple[str, tuple[str, ...]]]] = {}
    for one in summary.get("failed") or ():
        why = str(one.get("step", "")), str(one.get("reason", ""))
        found.setdefault(why, []).append((str(one.get("id", "")), tuple(one.get("steps") or ())))
    return [Ending(step, reason, tuple(chains)) for (step, reason), chains in found.items()]


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
