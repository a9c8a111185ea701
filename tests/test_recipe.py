"""The recipe against simulated models: it ends, keeps to its stages, finds the edge of the budget, repeats itself."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.compress.facts import Facts
from rayopt.recipe.auto import Recipe
from rayopt.recipe.proposals import Proposal, Tried
from rayopt.recipe.pruning import FIRST_KEEPS, KEEPS

CNN = Facts({"Conv": 900, "Gemm": 100}, frozenset({"Conv", "Relu", "Gemm"}), trainable=True)
TRANSFORMER = Facts({"MatMul": 700, "Gather": 300}, frozenset({"MatMul", "Softmax", "Gather"}), trainable=False)


def simulated(proposal: Proposal, edge: float, noise: float = 0.0) -> Tried:
    """A model that holds the accuracy down to `edge` of its channels, and then loses more and more."""
    keep, epochs, size = 1.0, 0, 1.0
    for step in json.loads(proposal.key):
        settings = step if isinstance(step, dict) else {"use": step}
        keep = settings.get("keep", keep)
        epochs = settings.get("epochs", epochs)
        size *= (
            settings.get("bits", 32) / 32 if "bits" in settings else {"quantize_static": 0.26}.get(settings["use"], 1)
        )
    missing = max(0.0, math.log(edge / keep)) if keep < 1 else 0.0
    drop = 0.1 * missing + (0.02 / (1 + epochs) if keep < 1 else 0) + noise
    return Tried(True, drop, keep**2 * size, keep**2 * size * 0.5)


def carried_out(facts: Facts, edge: float = 0.3, max_drop: float = 0.005) -> dict[str, Tried]:
    tried: dict[str, Tried] = {}
    recipe = Recipe(facts, max_drop)
    for _ in range(50):
        proposals = recipe.next(tried)
        if not proposals:
            return tried
        assert not {one.key for one in proposals} & set(tried), "nothing is proposed twice"
        assert all(one.why for one in proposals)
        tried |= {one.key: simulated(one, edge) for one in proposals}
    raise AssertionError("it does not end")


def keeps(tried: dict[str, Tried], epochs: int) -> set[float]:
    found = set()
    for key in tried:
        steps = [step for step in json.loads(key) if isinstance(step, dict)]
        if steps and steps[0]["use"] == "prune_channels" and steps[1]["epochs"] == epochs:
            found.add(steps[0]["keep"])
    return found


@given(st.floats(0.05, 0.95), st.sampled_from([0.0, 0.001, 0.005, 0.05]))
def test_it_ends_with_the_smallest_share_of_channels_close_to_the_edge(edge: float, max_drop: float) -> None:
    tried = carried_out(CNN, edge, max_drop)
    assert len(tried) < 100
    assert carried_out(CNN, edge, max_drop) == tried, "the same results lead to the same proposals"


def test_it_comes_close_to_the_edge() -> None:
    tried = carried_out(CNN, edge=0.3)
    within = [json.loads(key)[0]["keep"] for key, one in tried.items() if "prune" in key and one.drop <= 0.005]
    assert 0.27 <= min(within) <= 0.31


def test_hopeless_branches_are_given_up_and_told() -> None:
    tried = carried_out(CNN, edge=0.9)
    assert keeps(tried, 3) == set(KEEPS)
    assert min(keeps(tried, 16)) > min(KEEPS)
    assert any(
        "0.125 of the channels was given up after 3 epochs" in line for line in Recipe(CNN, 0.005).stopped(tried)
    )


def test_convolutions_are_quantised_statically_and_transformers_dynamically() -> None:
    first = [json.loads(one.key) for one in Recipe(CNN, 0.01).next({})]
    assert ["optimize_graph", "quantize_static"] in first
    names = json.dumps([json.loads(one.key) for one in Recipe(TRANSFORMER, 0.01).next({})])
    assert "quantize_dynamic" in names
    assert "quantize_static" not in names


def test_without_data_nothing_is_calibrated_or_gone_on_with() -> None:
    facts = Facts({"Conv": 1, "MatMul": 1}, frozenset({"Conv", "MatMul"}), trainable=False, generated=True)
    first = Recipe(facts, 0.01).next({})
    assert first[0].steps == ("optimize_graph",)
    assert "quantize_dynamic" in json.dumps([one.steps for one in first])
    assert "quantize_static" not in json.dumps([one.steps for one in first])
    assert Recipe(facts, 0.01).next({one.key: Tried(ok=True, drop=0.5) for one in first}) == []


def test_a_model_that_no_quantiser_takes_is_only_cleaned_up() -> None:
    facts = Facts({}, frozenset({"Mine"}), trainable=False, problem="it has the operator Mine")
    recipe = Recipe(facts, 0.01)
    assert [one.steps for one in recipe.next({})] == [("optimize_graph",)]
    assert recipe.stopped({}) == ["no quantiser was tried: it has the operator Mine"]


@pytest.mark.parametrize("ok", [True, False])
def test_what_cannot_be_pruned_is_not_recovered(ok: bool) -> None:
    tried: dict[str, Tried] = {}
    while proposals := Recipe(CNN, 0.005).next(tried):
        tried |= {
            one.key: simulated(one, 0.1) if "prune" not in one.key or ok else Tried(ok=False) for one in proposals
        }
    assert bool(keeps(tried, 16)) == ok
    assert keeps(tried, 3) == set(KEEPS if ok else FIRST_KEEPS)


def quantized(proposal: Proposal) -> Tried:
    """Static quantisation loses 4 points through layer b, 2 through c and a half through each other."""
    drop, size = 0.0, 1.0
    for step in json.loads(proposal.key):
        settings = step if isinstance(step, dict) else {"use": step}
        if settings["use"] == "quantize_static":
            inside = set("abcdefgh") - set(settings.get("exclude", ()))
            drop = sum({"b": 0.04, "c": 0.02}.get(name, 0.0005) for name in inside)
            size = 1 - 0.09 * len(inside)
    return Tried(True, drop, size, size, drop / 2)


def test_the_layers_that_hurt_stay_in_float_and_no_more() -> None:
    facts = Facts({"Conv": 900}, frozenset({"Conv"}), trainable=False, layers=tuple("abcdefgh"))
    tried: dict[str, Tried] = {}
    probes = []
    while proposals := Recipe(facts, 0.005).next(tried):
        probes += [one for one in proposals if one.probe]
        tried |= {one.key: quantized(one) for one in proposals}
    assert len(probes) == 8
    mixed = [
        (len(step["exclude"]), one.drop <= 0.005)
        for key, one in tried.items()
        for step in json.loads(key)
        if isinstance(step, dict) and step["use"] == "quantize_static" and "exclude" in step
        if key not in {probe.key for probe in probes}
    ]
    assert min(count for count, within in mixed if within) == 2
    assert {count for count, within in mixed if not within} == {1}


def test_what_rounding_makes_the_same_model_is_not_made_twice() -> None:
    """Widths in eighths: .35 and .25 are one model, .18 and .125 as well, and there is nothing between the two."""
    tried: dict[str, Tried] = {}
    while proposals := Recipe(CNN, 0.005).next(tried):
        for one in proposals:
            steps = json.loads(one.key)
            if isinstance(steps[0], dict) and "keep" in steps[0]:
                steps[0]["keep"] = max(0.125, steps[0]["keep"] * 8 // 1 / 8)
            tried[one.key] = simulated(Proposal(tuple(steps), ""), edge=0.2)
    assert keeps(tried, 16) == {0.7, 0.5, 0.35, 0.18, 0.251}  # the last one shows the rounding
