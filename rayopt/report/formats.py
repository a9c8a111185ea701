"""Figures as text for people: sizes, times, factors and scores."""

from __future__ import annotations


def format_size(size_bytes: float) -> str:
    """A number of bytes in the unit that suits it: 512 B, 101 KiB, 9.89 MiB."""
    if size_bytes < 1024:
        return f"{size_bytes:.0f} B"
    value = size_bytes / 1024
    for unit in ("KiB", "MiB"):
        if value < 1023.5:
            return f"{format_digits(value, 3) if value < 1000 else f'{value:.0f}'} {unit}"
        value /= 1024
    return f"{format_digits(value, 3)} GiB"


def format_ms(milliseconds: float) -> str:
    """A latency with three significant digits."""
    return f"{format_digits(milliseconds, 3)} ms"


def format_factor(factor: float) -> str:
    """A factor, its small gains in full: two decimals below 2, one below 100, none above: 1.09x, 4.2x, 26.7x, 120x."""
    decimals = 2 if factor < 1.995 else 1 if factor < 99.95 else 0
    return f"{factor:.{decimals}f}x"


def format_share(share: float) -> str:
    """A part of a whole, or a multiple of it, in little room: 0.56, 7.90, 0.0021."""
    return f"{share:.2f}" if share >= 0.1 else format_digits(share, 2)


def format_score(value: float, metric: str) -> str:
    """A score: accuracy as a percentage, anything else as a number with four significant digits."""
    return f"{value * 100:.1f} %" if metric == "accuracy" else format_digits(value, 4)


def format_seconds(seconds: float) -> str:
    """A duration: 12.7 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def format_count(count: int, noun: str) -> str:
    """A number of things: 1 model, 3 models."""
    return f"{count} {noun if count == 1 else noun + 's'}"


def format_digits(value: float, count: int) -> str:
    """A number with so many significant digits and no exponent where people would not write one."""
    rounded = float(f"{value:.{count}g}")
    if 10**count <= abs(rounded) < 1e6:
        return f"{rounded:.0f}"
    return f"{rounded:#.{count}g}".rstrip(".")
