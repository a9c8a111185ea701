"""The recommended model against the baseline in big figures, each with a bar."""

from __future__ import annotations

from dataclasses import dataclass

from rayopt.report.formats import format_ms, format_score, format_size
from rayopt.report.optimize.rows import Interval, Row, Sheet
from rayopt.report.optimize.words import format_score_interval, size_change, speed_change


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


def cards(found: Sheet) -> list[Card]:
    """The recommended model against the baseline: size, latency by batch size, and the metric."""
    base, best = found.baseline, found.recommended
    if base is None or best is None:
        return []
    speeds = [_speed_card(base, best, batch_size) for batch_size in found.batch_sizes]
    made = [_size_card(base, best), *speeds, _score_card(found, base, best)]
    return [card for card in made if card]


def _size_card(base: Row, best: Row) -> Card:
    figure, _, word = size_change(best.size_bytes / base.size_bytes).partition(" ")
    sizes = format_size(base.size_bytes), format_size(best.size_bytes)
    return Card("Size", figure, word, *sizes, *_bars(base.size_bytes, best.size_bytes))


def _speed_card(base: Row, best: Row, batch_size: str) -> Card | None:
    """None where one of the two was not timed. The bars show the ratio, which is timed in turns, not the medians."""
    before, after = base.speed(batch_size), best.speed(batch_size)
    if before is None or after is None or after.ratio is None:
        return None
    figure, _, word = speed_change(after.ratio.value).partition(" ")
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


def _bars(base: float, best: float) -> tuple[Bar, Bar]:
    return Bar(0, base / max(base, best)), Bar(0, best / max(base, best))
