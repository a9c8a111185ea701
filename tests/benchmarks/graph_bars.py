"""How few nodes other tools reach on a model: alone, all in one fixed chain, two by two, and all of them searched.

Each is run and verified as ours are, on the same normalised model; results are kept beside the corpus, by content and
by the versions of the tools and of what verifies them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rayopt.graph.tools import TOOLS, Setting, installed
from rayopt.tasks import code_hash

Json = dict[str, Any]
SINGLE = ("onnxslim", "ort_basic", "onnxscript", "onnxoptimizer", "onnxsim")
FIXED = "tests.benchmarks.graph_bars:fixed_chain"
PAIRS_BYTES = 4 << 20  # in larger models two by two takes too long ...
LARGE_BYTES = 128 << 20  # ... and in those the best single tool alone is tried

# What the best verified tool or chain was seen to reach, by group and model; of other exports of encoder4 and lstm.
NAMED = {
    "silero-vad/silero_vad": 74, "silero-vad/silero_vad_16k_op15": 39, "silero-vad/silero_vad_half": 36,
    "openwakeword/silero_vad": 150, "rapidocr-onnxruntime/ch_PP-OCRv4_det_infer": 297,
    "rapidocr-onnxruntime/ch_PP-OCRv4_rec_infer": 369, "rapidocr-onnxruntime/ch_ppocr_mobile_v2.0_cls_infer": 179,
    "light/densenet121": 491, "light/shufflenet": 154, "light/inception_v1": 142, "exports/encoder4_ts": 243,
    "exports/lstm_ts": 10, "magika/standard_v3_3": 92,
}  # fmt: skip


def fixed_chain(content: bytes, setting: Setting) -> bytes:
    """All tools one after another, whatever comes of it; what fails is left out."""
    for name in SINGLE:
        if name in installed():
            try:
                content = TOOLS[name](content, setting)
            except Exception:  # noqa: BLE001, S112 - the next one gets what there is
                continue
    return content


def bar(path: Path, folder: Path) -> Json:
    """`tool` and `chain`: the fewest nodes of a single tool, and of any way; `ways`: each; `caught`: what failed."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    by = [sorted(installed().items()), code_hash()]
    known = folder / "bars" / f"{hashlib.sha256(f'{sha256} {by}'.encode()).hexdigest()}.json"
    if not known.is_file():
        known.parent.mkdir(exist_ok=True)
        known.write_text(json.dumps(_measured(path)))
    return dict(json.loads(known.read_text()))


def _measured(path: Path) -> Json:
    from rayopt.graph.order import Order
    from rayopt.graph.run_model import optimize_file

    ways: dict[str, Json] = {}
    caught: dict[tuple[str, ...], Json] = {}
    for tools in _ways(path.stat().st_size):
        found = optimize_file(path, Order("", "", tuple(tools), timing_s=0))
        told = found.told
        ways[" + ".join(tools)] = {"nodes": told.get("nodes_after"), "chain": told.get("chain", []),
                                   "verdict": found.verdict}  # fmt: skip
        for line in told.get("record", ()):
            if line["what"] != "left":
                caught[line["tool"], line["what"], line["reason"]] = line
    single = {name: ways[name]["nodes"] for name in SINGLE if name in ways and ways[name]["nodes"] is not None}
    every = [way["nodes"] for way in ways.values() if way["nodes"] is not None]
    return {"ways": ways, "single": single, "caught": list(caught.values()),
            "tool": min(single.values(), default=None), "chain": min(every, default=None)}  # fmt: skip


def _ways(size: int) -> Iterator[Sequence[str]]:
    tools = [name for name in SINGLE if name in installed()]
    if size > LARGE_BYTES:
        yield tools[:1]
        return
    yield from ([name] for name in tools)
    yield [FIXED]
    if size <= PAIRS_BYTES:
        yield from itertools.combinations(tools, 2)
    yield tools
