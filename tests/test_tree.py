"""From `steps:` to chains: forks, shared beginnings, exports put in between, and every fault with its place."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml

from rayopt.errors import Fault
from rayopt.spec import parse_document
from rayopt.tree import MAX_CHAINS, Chain, TreeReader

HERE = Path("folder")
ONNX = Chain(format="onnx")


def read(steps: str, start: Chain | None = None) -> tuple[list[Chain], list[Fault]]:
    document = parse_document(f"steps:\n{steps}", "job.yaml", HERE)
    reader = TreeReader(document)
    return reader.chains(document.data["steps"], ("steps",), start or Chain()), reader.faults


def labels(steps: str, start: Chain | None = None) -> list[str]:
    chains, faults = read(steps, start)
    assert faults == []
    return [" > ".join(chain.labels) for chain in chains]


def messages(steps: str, start: Chain | None = None) -> list[str]:
    chains, faults = read(steps, start)
    assert chains == []
    return [str(fault) for fault in faults]


# Chains


def test_a_list_is_one_chain_and_the_export_is_put_in_where_it_is_needed() -> None:
    assert labels("  [prune_channels, recover, quantize_dynamic]") == [
        "prune_channels > recover > export_onnx > quantize_dynamic"
    ]


def test_a_chain_that_ends_in_torch_is_exported() -> None:
    assert labels("  [prune_channels]") == ["prune_channels > export_onnx"]


def test_an_export_of_ones_own_is_not_doubled() -> None:
    assert labels("  [{use: export_onnx, opset: 18}, quantize_dynamic]") == ["export_onnx(opset=18) > quantize_dynamic"]


def test_an_onnx_model_needs_no_export() -> None:
    assert labels("  [quantize_dynamic]", ONNX) == ["quantize_dynamic"]


def test_forks_multiply_and_nested_forks_add() -> None:
    steps = """
  - any: [nothing, {any: [prune_channels, {use: prune_channels, keep: 0.25}]}]
  - any: [nothing, quantize_dynamic]
"""
    assert labels(steps) == [
        "export_onnx",
        "export_onnx > quantize_dynamic",
        "prune_channels > export_onnx",
        "prune_channels > export_onnx > quantize_dynamic",
        "prune_channels(keep=0.25) > export_onnx",
        "prune_channels(keep=0.25) > export_onnx > quantize_dynamic",
    ]


def test_an_alternative_may_be_a_list_with_forks_of_its_own() -> None:
    assert labels("  [any: [[prune_channels, any: [nothing, recover]], nothing]]") == [
        "prune_channels > export_onnx", "prune_channels > recover > export_onnx", "export_onnx"
    ]  # fmt: skip


def test_an_empty_item_is_nothing() -> None:
    assert labels("  [~, [], quantize_dynamic]") == ["export_onnx > quantize_dynamic"]


def test_chains_share_their_beginnings() -> None:
    chains, _ = read("  [prune_channels, any: [nothing, quantize_dynamic, quantize_static]]")
    assert len({chain.steps[0].id for chain in chains}) == 1
    assert len({chain.steps[1].id for chain in chains}) == 1
    assert len({chain.last for chain in chains}) == 3
    assert [step.parent for step in chains[1].steps] == [None, chains[0].steps[0].id, chains[0].steps[1].id]


def test_the_same_step_written_in_two_ways_is_one() -> None:
    assert labels("  [any: [quantize_static, {use: quantize_static}, {use: quantize_static, per_channel: true}]]") == [
        "export_onnx > quantize_static"
    ]


def test_an_integer_for_a_number_is_the_same_step() -> None:
    one, _ = read("  [{use: recover, temperature: 2}]")
    other, _ = read("  [{use: recover, temperature: 2.0}]")
    assert one[0].last == other[0].last


def test_other_parameters_are_another_step() -> None:
    chains, _ = read("  [any: [quantize_static, {use: quantize_static, per_channel: false}]]")
    assert len({chain.last for chain in chains}) == 2
    assert chains[1].labels[-1] == "quantize_static(per_channel=False)"


def test_a_chain_is_extended_by_one_step() -> None:
    reader = TreeReader(parse_document("train: {epochs: 3}", "job.yaml", HERE))
    chain = reader.extend(Chain(), "train", {"epochs": 3}, ("train",))
    assert chain.labels == ("train(epochs=3)",)
    assert chain.format == "torch"


# Faults


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("  - recover\n  - quantise_static", "3: steps[1]: unknown method 'quantise_static'; did you mean 'quantize_"),
        ("  - any:\n     - nothing\n     - recuver", "4: steps[0].any[1]: unknown method 'recuver'; did you mean 're"),
        ("  - {use: recuver}", "2: steps[0].use: unknown method 'recuver'; did you mean 'recover'?"),
        ("  - use: prune_channels\n    kepe: 1", "3: steps[0].kepe: unknown key 'kepe'; did you mean 'keep'?"),
        ("  - use: prune_channels\n    keep: 1.5", "3: steps[0].keep: input should be less than 1; got 1.5"),
        ("  - any: []", "2: steps[0].any: holds no alternatives; give a list of steps"),
        ("  - any: nothing", "2: steps[0].any: holds no alternatives; give a list of steps"),
        ("  - {any: [nothing], ann: 1}", "2: steps[0].ann: unknown key 'ann'; did you mean 'any'?"),
        ("  - {uses: recover}", "2: steps[0]: {'uses': 'recover'} is no step; write a method's name, {use: NAME"),
        ("  - 3", "2: steps[0]: 3 is no step; write a method's name"),
        ("  - {use: 3}", "2: steps[0]: {'use': 3} is no step; write a method's name"),
        ("  - no.such.module", "2: steps[0]: there is no method 'no.such.module'; put it into"),
        ("  - pathlib.", "2: steps[0]: "),
        ("  - os.path", "2: steps[0]: 'os.path' is no method: it lacks accepts, gives, version, Params, apply; "),
        ("  - quantize_dynamic\n  - recover", "3: steps[1]: recover takes a torch model, but the chain "),
    ],
)  # fmt: skip
def test_a_fault_has_its_line_and_a_remedy(steps: str, message: str) -> None:
    (found,) = messages(steps)
    assert found.startswith(f"job.yaml:{message}")
    assert "; " in found


def test_a_torch_method_on_an_onnx_model_is_told() -> None:
    (found,) = messages("  - prune_channels", ONNX)
    assert found == (
        "job.yaml:2: steps[0]: prune_channels takes a torch model, but the chain holds an onnx model there; "
        "put it before the export, or start from a `factory:` model"
    )


def test_all_faults_are_told_at_once() -> None:
    found = messages("  - any: [recuver, {use: prune_channels, kep: 1, round_to: 0}]\n  - quantise\n  - any: 3")
    assert [message.split(": ")[1] for message in found] == [
        "steps[0].any[0]", "steps[0].any[1].round_to", "steps[0].any[1].kep", "steps[1]", "steps[2].any"
    ]  # fmt: skip


def test_a_fault_that_many_chains_meet_is_told_once() -> None:
    assert len(messages("  - any: [nothing, optimize_graph, quantize_dynamic]\n  - export_onnx\n  - export_onnx")) == 2


def test_a_long_item_is_cut() -> None:
    (found,) = messages(f"  - {{uses: {'x' * 500}}}")
    assert len(found) < 250


def fork(count: int) -> dict[str, list[object]]:
    return {"any": [{"use": "recover", "epochs": number + 1} for number in range(count)]}


def test_the_most_chains_that_are_allowed_are_read() -> None:
    chains, faults = read(as_text([fork(100), fork(100)]))
    assert faults == []
    assert len(chains) == MAX_CHAINS


def as_text(steps: list[object]) -> str:
    return textwrap.indent(yaml.safe_dump(steps), "  ")


@pytest.mark.parametrize(
    ("steps", "place"),
    [
        pytest.param([fork(101), fork(100)], "steps[1]", id="side by side"),
        pytest.param([{"any": [[fork(100), fork(100)], "nothing", "recover"]}], "steps[0].any[1]", id="one in another"),
        pytest.param([fork(10)] * 40, "steps[4]", id="by far"),
    ],
)
def test_more_are_refused_at_the_first_that_is_too_many(steps: list[object], place: str) -> None:
    (found,) = messages(as_text(steps))
    assert found.endswith(f": {place}: the forks make more than 10,000 chains; name fewer alternatives")
