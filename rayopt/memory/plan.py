"""The cheapest way to take a step within a budget: micro-batch, accumulation, checkpointing, precision, optimizer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rayopt.errors import input_error
from rayopt.memory.clock import Costs, counted_costs, measured_costs
from rayopt.memory.predict import LEAST_ROWS, Predictor
from rayopt.memory.rehearsal import Foreach, Variant
from rayopt.training.precision import PLAIN, Numerics

SLACK_BYTES = 64  # numbers that operators over lists make tensors of
CHEAPER_SHARE = 0.03  # something more complicated has to be this much cheaper: less is noise


@dataclass(frozen=True)
class Space:
    """What a plan may choose among. `rows`: a worker's share of the rows of an optimizer's step."""

    rows: int
    numerics: tuple[Numerics, ...] = (PLAIN,)
    checkpointing: tuple[bool, ...] = (False, True)
    foreach: tuple[Foreach, ...] = (True, False, None)  # those that take most first
    micro_batch: int | None = None  # asked for: not to be chosen


@dataclass(frozen=True)
class Candidate:
    """One way to take a step, with its predicted peak and cost."""

    micro_batch: int
    variant: Variant
    predicted_bytes: int
    step_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What was chosen, and what else would fit, the cheapest first."""

    chosen: Candidate
    budget_bytes: int
    fitting: tuple[Candidate, ...]
    measured: bool


def find_plan(
    predictor: Predictor,
    space: Space,
    budget_bytes: int,
    place: str,
    limit_s: float | None = 20.0,
) -> Plan:
    """The cheapest candidate that fits; raises InputError at `place` with the floor where none does.

    limit_s: how long candidates may be timed; None only counts their work.
    """
    fitting = list(_fitting(predictor, space, budget_bytes - SLACK_BYTES))
    while fitting:
        ranked = _ranked(predictor, fitting, limit_s)
        chosen = _simplest(ranked)
        confirmed = predictor.confirmed_bytes(chosen.micro_batch, chosen.variant)
        if confirmed <= budget_bytes - SLACK_BYTES:
            chosen = replace(chosen, predicted_bytes=confirmed)
            return Plan(chosen, budget_bytes, tuple(ranked), limit_s is not None)
        fitting = [one for one in fitting if (one.micro_batch, one.variant) != (chosen.micro_batch, chosen.variant)]
    floor = _floor(predictor, space)
    raise input_error(
        place,
        *_too_small(budget_bytes, replace(floor, predicted_bytes=floor.predicted_bytes + SLACK_BYTES)),
    )


def _fitting(predictor: Predictor, space: Space, budget_bytes: int) -> Iterator[Candidate]:
    """Micro-batches by halves of the rows, each with every variant that fits and may be the cheapest.

    Computing activations again only costs where they fit as they are. What fits with lists of parameters fits one by
    one and in one kernel, so these are not traced for themselves: the bytes are then an upper bound.
    """
    for numerics, count in itertools.product(space.numerics, _counts(space)):
        micro = -(-space.rows // count)
        for checkpointing in sorted(space.checkpointing):
            variants = [
                Variant(count, checkpointing, numerics.precision, one, numerics.layout) for one in space.foreach
            ]
            sizes = [predictor.peak_bytes(micro, variants[0])]
            if sizes[0] > budget_bytes:
                variants, sizes = variants[1:], [predictor.peak_bytes(micro, one) for one in variants[1:]]
            found = [
                Candidate(micro, one, sizes[min(index, len(sizes) - 1)])
                for index, one in enumerate(variants)
                if sizes[min(index, len(sizes) - 1)] <= budget_bytes
            ]
            yield from found
            if found:
                break


def _floor(predictor: Predictor, space: Space) -> Candidate:
    """The smallest that there is."""
    counts = {_counts(space)[0], _counts(space)[-1]}
    return min(
        (
            Candidate(micro, variant, predictor.peak_bytes(micro, variant))
            for count in counts
            for micro in [-(-space.rows // count)]
            for variant in (
                Variant(count, checkpointing, numerics.precision, foreach, numerics.layout)
                for numerics in space.numerics
                for checkpointing in space.checkpointing
                for foreach in space.foreach
            )
        ),
        key=lambda one: one.predicted_bytes,
    )


def _counts(space: Space) -> list[int]:
    """How many micro-batches a step may have: powers of two, down to the least rows of one."""
    if space.micro_batch is not None:
        return [max(1, -(-space.rows // space.micro_batch))]
    counts = [1]
    while -(-space.rows // (2 * counts[-1])) >= LEAST_ROWS:
        counts.append(2 * counts[-1])
    return counts


def _ranked(predictor: Predictor, fitting: list[Candidate], limit_s: float | None) -> list[Candidate]:
    """The cheapest first, without what ran out of memory; by their work alone where all of it did."""
    for limit in (limit_s, None):
        costs = _costs(predictor, fitting, limit)
        known = [replace(one, step_s=costs.step_s(one.micro_batch, one.variant)) for one in fitting]
        ranked = sorted((one for one in known if one.step_s < math.inf), key=_order)
        if ranked:
            break
    return ranked


def _costs(predictor: Predictor, fitting: list[Candidate], limit_s: float | None) -> Costs:
    points = [(one.micro_batch, one.variant) for one in fitting]
    if limit_s is None:
        return counted_costs(predictor, points)
    return measured_costs(predictor.rehearsal, points, predictor.device, limit_s)


def _order(one: Candidate) -> tuple[float, int]:
    return one.step_s, one.predicted_bytes


def _simplest(ranked: list[Candidate]) -> Candidate:
    """Of those that cost about as little as the cheapest, the one with the fewest micro-batches."""
    near = [one for one in ranked if one.step_s <= ranked[0].step_s * (1 + CHEAPER_SHARE)]
    return min(near, key=lambda one: (one.variant.checkpointing, one.variant.accumulation, _order(one)))


def _too_small(budget_bytes: int, floor: Candidate) -> tuple[str, str]:
    how = f"micro-batches of {floor.micro_batch} rows"
    how += " with activation checkpointing" if floor.variant.checkpointing else ""
    how += f" in {floor.variant.precision}"
    problem = (
        f"{budget_bytes:,} bytes are too few: the least that a step takes is {floor.predicted_bytes:,} bytes ({how})"
    )
    return problem, "give a larger budget, or make the model or the batch smaller"
