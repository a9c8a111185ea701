"""Stages that prune a torch model and train it again, to the edge of the accuracy budget."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from rayopt.recipe.proposals import Known, Proposal, Steps, Tried
from rayopt.recipe.quantizing import CLEAN, best_finishers

KEEPS = (0.7, 0.5, 0.35, 0.25, 0.18, 0.125)  # shares of channels that are tried first
FIRST_KEEPS = (0.5, 0.25)
PROXY_EPOCHS, EPOCHS, LONG_EPOCHS = 3, 16, 48
HOPELESS = 12  # a short recovery this many budgets (at least this many points) below the baseline ends a branch
CLOSE = 4  # what is over the budget by up to this factor is worth another attempt
BISECTIONS = 2


def short_recoveries(known: Known) -> Iterator[Proposal]:
    """Two shares of channels first: a model that cannot be pruned need not fail at all of them."""
    able = any(_proxy(keep, known).ok for keep in FIRST_KEEPS)
    for keep in KEEPS if able else FIRST_KEEPS:
        steps = (*_pruned(keep, PROXY_EPOCHS), "export_onnx")
        yield Proposal(steps, f"a short recovery shows what {keep:.3g} of the channels can do")


def recoveries(known: Known) -> Iterator[Proposal]:
    """What was not hopeless after a short recovery, fully recovered."""
    for keep in _first_shares(known):
        if not _hopeless(keep, known):
            yield from _finished(keep, EPOCHS, known, f"{keep:.3g} of the channels, fully recovered")


def between(known: Known) -> Iterator[Proposal]:
    """Bisects between the smallest share that is within the budget and the largest below that is not."""
    shares = _first_shares(known)
    for _ in range(BISECTIONS):
        good, bad = _edge(shares, known)
        if good is None or bad is None or len(_distinct(shares, known)) < len(shares):
            return  # there is nothing between, or widths are rounded to the same
        middle = round(math.sqrt(good * bad), 3)
        shares.append(middle)
        why = f"between {bad:g} (over the budget) and {good:g} (within it)"
        yield from _finished(middle, EPOCHS, known, why)
        if _best_drop(middle, known) is None:
            return


def long_recoveries(known: Known) -> Iterator[Proposal]:
    """More training where a little is missing."""
    for keep in _distinct(_recovered(known), known):
        drop = _best_drop(keep, known)
        if drop is not None and known.max_drop < drop <= CLOSE * max(known.max_drop, 0.002):
            why = f"{keep:.3g} of the channels misses the budget by little: train longer"
            yield from _finished(keep, LONG_EPOCHS, known, why)


def given_up(known: Known) -> list[str]:
    """The branches that were given up early, as sentences."""
    return [
        f"keeping {keep:.3g} of the channels was given up after {PROXY_EPOCHS} epochs of recovery: "
        f"{_proxy(keep, known).drop:.4g} below the baseline"
        for keep in KEEPS
        if _proxy(keep, known).ok and _hopeless(keep, known)
    ]


def _pruned(keep: float, epochs: int) -> Steps:
    return {"use": "prune_channels", "keep": keep}, {"use": "recover", "epochs": epochs}


def _finished(keep: float, epochs: int, known: Known, why: str) -> Iterator[Proposal]:
    """A pruned model, recovered, then as the ONNX file of each of the best finishers."""
    for finisher in best_finishers(known):
        yield Proposal((*_pruned(keep, epochs), *finisher), why)


def _proxy(keep: float, known: Known) -> Tried:
    return known.find(*_pruned(keep, PROXY_EPOCHS), "export_onnx") or Tried(ok=False)


def _hopeless(keep: float, known: Known) -> bool:
    proxy = _proxy(keep, known)
    return not proxy.ok or proxy.drop > HOPELESS * max(known.max_drop, 0.01)


def _first_shares(known: Known) -> list[float]:
    return _distinct(KEEPS, known, PROXY_EPOCHS, ("export_onnx",))


def _recovered(known: Known) -> list[float]:
    """Every share of channels that was tried."""
    firsts = [json.loads(key)[0] for key in known.tried]
    return [one["keep"] for one in firsts if isinstance(one, dict) and one["use"] == "prune_channels"]


def _distinct(shares: Sequence[float], known: Known, epochs: int = EPOCHS, finisher: Steps = (CLEAN,)) -> list[float]:
    """Shares of channels, largest first, without those that rounding makes the same model as a larger one."""
    first: dict[tuple[float, float], float] = {}
    for keep in sorted(set(shares), reverse=True):
        found = known.find(*_pruned(keep, epochs), *finisher)
        same = (found.size_share, found.drop) if found and found.ok else (keep, math.inf)
        first.setdefault(same, keep)
    return list(first.values())


def _edge(shares: Sequence[float], known: Known) -> tuple[float | None, float | None]:
    """The smallest share within the budget, and the largest below it that is not."""
    drops = {keep: _best_drop(keep, known) for keep in shares}
    within = [keep for keep, drop in drops.items() if drop is not None and drop <= known.max_drop]
    good = min(within, default=None)
    bad = max((keep for keep in shares if keep not in within and (good is None or keep < good)), default=None)
    return good, bad


def _best_drop(keep: float, known: Known) -> float | None:
    """The least drop of a fully recovered model over the best finishers, None where there is none."""
    found = [known.find(*_pruned(keep, EPOCHS), *finisher) for finisher in best_finishers(known)]
    return min((one.drop for one in found if one is not None and one.ok), default=None)
