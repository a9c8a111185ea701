"""The run of `graph`: a task a model, small ones in chunks; what kills its worker is tried once more alone."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from rayopt.engine import Desk, Ended, Engine, Task
from rayopt.graph.batch import Batch, Item
from rayopt.graph.child import Limits, warm
from rayopt.graph.order import Order
from rayopt.graph.remembered import Codec, holds, outcome_of
from rayopt.graph.run_model import FUSED, MODEL, Outcome, optimize_file
from rayopt.graph.tools import installed
from rayopt.measure.machine import machine
from rayopt.models.onnx_model import CERTIFICATE
from rayopt.plan import Node
from rayopt.records import Need, digest
from rayopt.runs import journal
from rayopt.runs.files import copy_file, file_sha256, write_json
from rayopt.tasks import code_hash, versions

SMALL_BYTES = 256 << 10  # models up to this go in chunks ...
CHUNK = 8  # ... of so many
MODEL_S = 1800.0


def optimize_chunk(items: Sequence[tuple[str, str, Limits]], order: Order) -> list[tuple[str, Outcome]]:
    """On a worker: the outcome of each file, one after another, under the key that the cache knows it by."""
    if len(items) >= CHUNK:
        warm()
    return [(key, optimize_file(Path(path), order, limits)) for key, path, limits in items]


@dataclass
class Graphing:
    """One run of a batch; `run` may be called once. `work` is what workers call, for tests to replace."""

    batch: Batch
    desk: Desk
    work: Callable[..., list[tuple[str, Outcome]]] = optimize_chunk
    _rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    _in_task: dict[str, tuple[Item, ...]] = field(default_factory=dict)
    _again: list[Item] = field(default_factory=list)
    _cached: set[str] = field(default_factory=set)

    def run(self) -> dict[str, Any]:
        """Everything; the summary is written however the run ends."""
        start = time.perf_counter()
        self.desk.cache.hold()
        self._journaled = {line["id"] for line in journal.read(self.desk.folder.outcomes) if "id" in line}
        missing = [one for one in self.batch.items if not self._remembered(one)]
        engine = Engine(self.desk.open_backend, self.desk.cache, Codec(self.desk.cache), self.desk.watcher)
        try:
            if missing:
                engine.run(self._tasks(missing), self._on_end, self._grow)
        except KeyboardInterrupt:
            self._write("interrupted", time.perf_counter() - start)
            raise
        finally:
            engine.close()
        return self._write("done", time.perf_counter() - start)

    def _remembered(self, item: Item) -> bool:
        outcome = outcome_of(self.desk.cache.get(self._key(item)))
        if outcome is None or not holds(item.path, outcome):
            return False
        self._cached.add(item.id)
        self._ended(item, outcome)
        return True

    def _key(self, item: Item) -> str:
        return digest(["graph", item.sha256, asdict(self.batch.limits(item)), self._same_for_all])

    @cached_property
    def _same_for_all(self) -> str:
        """What the results of all models depend on; the versions of so many packages are slow to find out."""
        order = {name: value for name, value in asdict(self.batch.order).items() if name not in ("path", "folder")}
        timed_on = machine() if self.batch.order.timing_s else {}
        return digest([order, timed_on, versions(), dict(installed()), code_hash()])

    def _tasks(self, items: Sequence[Item]) -> list[Task]:
        """Large models one by one, the largest first; small ones in chunks."""
        large = sorted((one for one in items if one.all_bytes > SMALL_BYTES), key=lambda one: -one.all_bytes)
        small = [one for one in items if one.all_bytes <= SMALL_BYTES]
        chunks = [tuple(small[at : at + CHUNK]) for at in range(0, len(small), CHUNK)]
        return [self._task(chunk) for chunk in [*((one,) for one in large), *chunks]]

    def _task(self, items: tuple[Item, ...], alone: bool = False) -> Task:
        id = items[0].id if len(items) == 1 else digest([one.id for one in items])[:12]
        id += ":alone" if alone else ""
        self._in_task[id] = items
        keys = [self._key(one) for one in items]
        name = items[0].name + (f" and {len(items) - 1} more" if len(items) > 1 else "") + (" alone" if alone else "")
        told = [(self._key(one), str(one.path.absolute()), self.batch.limits(one)) for one in items]
        need = Need(memory_bytes=max(one.memory_bytes for one in items), limit_s=MODEL_S * len(items))
        return Task(Node(id, attempts=1), name, self.work, (told, self.batch.order), lambda _: digest(keys), need=need)

    def _on_end(self, ended: Ended) -> None:
        items = self._in_task[ended.id]
        if ended.status == "done":
            found = dict(ended.value)
            for one in items:
                outcome = found[self._key(one)]
                if outcome is None or (ended.cached and not holds(one.path, outcome)):
                    # the cache has dropped it since, or its external data has changed
                    self._again.append(one)
                else:
                    self._ended(one, outcome)
        elif ended.id.endswith(":alone"):
            self._ended(items[0], Outcome("killed_worker", f"twice: {ended.reason}", {}))
        else:
            self._again += items

    def _grow(self) -> list[Task]:
        """What has not come back is tried once more, each with nobody beside it."""
        return [self._task((self._again.pop(0),), alone=True)] if self._again else []

    def _ended(self, item: Item, outcome: Outcome) -> None:
        self._rows[item.id] = self._row(item, outcome)
        if outcome.files:
            copied = self._copy(item, outcome)
            certificate = self._certificate(item, outcome)
            certificate["files"].update(copied)
            self.desk.folder.write_artifact(item.id, self._files(item, outcome), certificate)
            self._rows[item.id]["certificate_sha256"] = file_sha256(self.desk.folder.artifacts / item.id / CERTIFICATE)
        self.desk.watcher.candidate(item.id, "done", {})
        if item.id not in self._journaled:
            self._journaled.add(item.id)
            journal.append(self.desk.folder.outcomes, {"status": "done", **self._rows[item.id]})

    def _copy(self, item: Item, outcome: Outcome) -> dict[str, str]:
        """Streams the data of a large model beside it, and gives the hashes of what was copied."""
        folder = self.desk.folder.artifacts / item.id
        return {name: copy_file(item.path.parent / name, folder / name) for name in outcome.told.get("copied", ())}

    def _files(self, item: Item, outcome: Outcome) -> dict[str, bytes]:
        return {_called(item)[name]: content for name, content in outcome.files.items()}

    def _certificate(self, item: Item, outcome: Outcome) -> dict[str, Any]:
        files = self._files(item, outcome)
        order = {name: value for name, value in asdict(self.batch.order).items() if name not in ("path", "folder")}
        names = ("chain", "versions", "proof", "conditions", "max_error", "nodes_before", "nodes_after", "latency")
        return {
            "id": item.id,
            "kind": "graph",
            "source": {"path": str(item.path.absolute()), "sha256": item.sha256, "size_bytes": item.size_bytes},
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            "order": order,
            **{name: outcome.told[name] for name in names},
            **self._about_fused(item, outcome),
        }

    def _about_fused(self, item: Item, outcome: Outcome) -> dict[str, Any]:
        """What a certificate says of the model that is for one kind of machine alone, where there is one."""
        if FUSED not in outcome.files:
            return {}
        return {"fused": {**outcome.told["fused"], "file": _called(item)[FUSED], "machine": machine()}}

    def _row(self, item: Item, outcome: Outcome) -> dict[str, Any]:
        told = outcome.told
        latency, fused = told.get("latency") or {}, told.get("fused") or {}
        return {
            "id": item.id,
            "name": item.name,
            "verdict": outcome.verdict,
            "reason": outcome.reason,
            "nodes_before": told.get("nodes_before"),
            "nodes_after": told.get("nodes_after"),
            "size_before": told.get("size_before", item.size_bytes),
            "size_after": told.get("size_after", item.size_bytes),
            "chain": told.get("chain", []),
            "max_error": told.get("max_error"),
            "latency_ratio": latency.get("ratio"),
            "session_ratio": latency.get("session_ratio"),
            "one_size": told.get("proof", {}).get("one_size", False),
            "unreached": [one for one in told.get("conditions", []) if set(one["seen"]) != {"then", "else"}],
            "caught": [one for one in told.get("record", []) if one["what"] != "left"],
            "left": [one for one in told.get("record", []) if one["what"] == "left"],
            "path": f"artifacts/{item.id}/{_called(item)[MODEL]}" if outcome.files else None,
            "sha256": told.get("sha256"),
            "fused": self._fused_row(item, fused) if fused else None,
            "seconds": round(outcome.seconds, 3),
            "cpu_s": round(outcome.cpu_s, 3),
            "peak_bytes": outcome.peak_bytes,
        }

    def _fused_row(self, item: Item, fused: Mapping[str, Any]) -> dict[str, Any]:
        told = {name: fused[name] for name in ("nodes", "size_bytes", "ratio", "way", "sha256")}
        return {**told, "path": f"artifacts/{item.id}/{_called(item)[FUSED]}"}

    def _write(self, status: str, seconds: float) -> dict[str, Any]:
        rows = [self._rows[one.id] for one in self.batch.items if one.id in self._rows]
        nodes = [row["nodes_after"] / row["nodes_before"] for row in rows if row["nodes_before"]]
        ratios = [row["latency_ratio"] for row in rows if row["latency_ratio"]]
        summary = {
            "kind": "graph",
            "name": self.batch.job["name"],
            "status": status,
            "seconds": round(seconds, 2),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "job_hash": self.batch.hash,
            "models": rows,
            "verdicts": dict(Counter(row["verdict"] for row in rows)),
            "nodes_ratio": _mean(nodes),
            "latency_ratio": _mean(ratios),
            "cached_count": len(self._cached),
            "environment": {**machine(), "timed_on": self.desk.where, "versions": versions()},
        }
        folder = self.desk.folder
        write_json(folder.summary, summary)
        folder.keep_artifacts([row["id"] for row in rows if row["path"]])
        return summary


def _called(item: Item) -> dict[str, str]:
    """How the files that the work has made are called beside each other in the run's folder."""
    return {MODEL: Path(item.name).name, FUSED: f"{Path(item.name).stem}.fused.onnx"}


def _mean(ratios: Sequence[float]) -> float | None:
    """The geometric mean."""
    return math.exp(statistics.fmean(math.log(one) for one in ratios)) if ratios else None
