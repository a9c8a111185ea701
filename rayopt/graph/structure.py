"""The structure of a model that somebody else wrote: names, order, operators and how many inputs each has.

`onnx.checker` finds most of this too, but in words; here each fault has a verdict of its own, in linear time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rayopt.graph.verdicts import Refused

STANDARD = ("", "ai.onnx", "ai.onnx.ml")
KNOWN_DOMAINS = (*STANDARD, "com.microsoft")  # those that the runtime has kernels for
MAX_NODES = 1_000_000
MAX_DEPTH = 31  # of nested graphs; protobuf reads a hundred messages deep, three for each graph


def check_versions(model: Any) -> None:
    """Whether the file's format and operator sets are known; raises Refused."""
    from rayopt.graph.newest import newest_ir, newest_opset

    if not 1 <= model.ir_version <= newest_ir():
        raise Refused("unsupported_ir", f"IR version {model.ir_version}; known are 1 to {newest_ir()}")
    own = {function.domain for function in model.functions}
    newest = {"": newest_opset(), "ai.onnx": newest_opset(), "ai.onnx.ml": 5}
    if not any(one.domain in ("", "ai.onnx") for one in model.opset_import):
        raise Refused("unsupported_opset", "the model names no version of the standard operators")
    used = {node.domain for graph in graphs_of(model) for node in graph.node}
    for one in model.opset_import:
        if one.domain not in KNOWN_DOMAINS and one.domain not in own:
            if one.domain in used:
                raise Refused("unknown_domain", f"operators of the domain {one.domain!r}")
            continue
        if one.domain in newest and not 1 <= one.version <= newest[one.domain]:
            name = one.domain or "ai.onnx"
            raise Refused("unsupported_opset", f"opset {one.version} of {name}; known are 1 to {newest[one.domain]}")
    unknown = used - own - set(KNOWN_DOMAINS)
    if unknown:
        raise Refused("unknown_domain", f"operators of the domain {min(unknown)!r}")


def check_structure(model: Any) -> None:
    """Whether names, order and operators are in order, in every graph and function; raises Refused."""
    _check_calls(model)
    versions = {one.domain: one.version for one in model.opset_import}
    own = {(one.domain, one.name) for one in model.functions}
    check = _Checker(versions, own)
    check.graph(model.graph, frozenset(), 1)
    for function in model.functions:
        own_versions = {one.domain: one.version for one in function.opset_import} or versions
        _Checker(own_versions, own).function(function)
    if not model.graph.output:
        raise Refused("no_outputs", "the graph has no outputs")


def graphs_of(model: Any) -> Iterator[Any]:
    """Every graph and function body of a model, outer ones first."""
    stack: list[Any] = [*model.functions, model.graph]
    while stack:
        holder = stack.pop()
        yield holder
        stack += [graph for node in holder.node if node.attribute for graph in nested(node)]


def attributes_of(node: Any) -> Sequence[Any]:
    """A node's attributes. Most nodes have none, and to go through protobuf's lists of none takes ten times as long."""
    return node.attribute[:] if node.attribute else ()


def nested(node: Any) -> list[Any]:
    """The graphs that a node holds."""
    found: list[Any] = []
    for attribute in attributes_of(node):
        if attribute.HasField("g"):
            found.append(attribute.g)
        if attribute.graphs:
            found.extend(attribute.graphs)
    return found


class _Checker:
    def __init__(self, versions: Mapping[str, int], own: set[tuple[str, str]]) -> None:
        self._versions, self._own = versions, own

    def graph(self, graph: Any, outer: frozenset[str], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Refused("too_deep", f"graphs are nested more than {MAX_DEPTH} deep")
        initializers = [one.name for one in graph.initializer]
        initializers += [one.values.name for one in graph.sparse_initializer]
        inputs = [one.name for one in graph.input]
        _distinct(inputs, "input")
        _distinct(initializers, "initialiser")
        known = self._nodes(graph.node, {*inputs, *initializers}, outer, depth)
        for one in graph.output:
            if one.name not in known and (depth == 1 or one.name not in outer):
                raise Refused("missing_output", f"nothing gives the output {one.name!r}")

    def function(self, function: Any) -> None:
        known = self._nodes(function.node, set(function.input), frozenset(), 1)
        for name in function.output:
            if name not in known:
                raise Refused("missing_output", f"nothing gives the output {name!r} of the function {function.name!r}")

    def _nodes(self, nodes: Any, known: set[str], outer: frozenset[str], depth: int) -> set[str]:
        for node in nodes:
            self._node(node)
            for name in node.input[:]:
                if name and name not in known and name not in outer:
                    raise _undefined(name, nodes)
            inner = nested(node)
            if inner:
                visible = outer | known
                for graph in inner:
                    self.graph(graph, visible, depth + 1)
            for name in node.output[:]:
                if name and name in known:
                    raise Refused("duplicate_name", f"{name!r} is given twice")
                known.add(name)
        return known

    def _node(self, node: Any) -> None:
        """Whether there is such an operator, with so many inputs and outputs."""
        if (node.domain, node.op_type) in self._own or node.domain not in STANDARD:
            return
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = self._versions.get(domain) or self._versions.get("ai.onnx" if domain == "" else domain)
        if version is None:
            raise Refused("unsupported_opset", f"the model names no version of {domain or 'ai.onnx'}")
        arity = _arity(node.op_type, version, domain)
        if arity is None:
            raise Refused("unknown_operator", f"there is no operator {node.op_type!r} in opset {version}")
        least, most, least_out, most_out = arity
        if not least <= len(node.input) <= most:
            raise Refused("wrong_arity", f"{node.op_type} with {len(node.input)} inputs; it takes {least} to {most}")
        if not least_out <= len(node.output) <= most_out:
            raise Refused("wrong_arity", f"{node.op_type} with {len(node.output)} outputs")


@lru_cache(maxsize=4096)
def _arity(op_type: str, version: int, domain: str) -> tuple[int, int, int, int] | None:
    from onnx import defs

    try:
        schema = defs.get_schema(op_type, version, domain)
    except defs.SchemaError:
        return None
    return schema.min_input, schema.max_input, schema.min_output, schema.max_output


def _distinct(names: list[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Refused("duplicate_name", f"two {what}s are named {name!r}")
        seen.add(name)


def _undefined(name: str, nodes: Any) -> Refused:
    """Why a name is not known where it is used: nobody gives it, a cycle, or only the wrong order."""
    makers = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    if name not in makers:
        return Refused("undefined_input", f"nothing gives {name!r}")
    waiting = [{makers[one] for one in node.input if one in makers} for node in nodes]
    users: dict[int, list[int]] = {}
    for index, needs in enumerate(waiting):
        for need in needs:
            users.setdefault(need, []).append(index)
    ready = [index for index, needs in enumerate(waiting) if not needs]
    done = 0
    while ready:
        index = ready.pop()
        done += 1
        for user in users.get(index, ()):
            waiting[user].discard(index)
            if not waiting[user]:
                ready.append(user)
    if done < len(nodes):
        return Refused("cycle", f"{name!r} depends on itself")
    return Refused("unsorted", f"{name!r} is used before it is given")


def _check_calls(model: Any) -> None:
    """Whether functions end: none calls itself, and all of them inlined are not too many nodes."""
    bodies = {(one.domain, one.name): one for one in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    under_way: set[tuple[str, str]] = set()

    def size(key: tuple[str, str]) -> int:
        if key in under_way:
            raise Refused("recursive_function", f"the function {key[1]!r} calls itself")
        if len(under_way) > MAX_DEPTH:
            raise Refused("too_deep", f"functions call each other more than {MAX_DEPTH} deep")
        if key not in sizes:
            under_way.add(key)
            sizes[key] = total(bodies[key])
            under_way.discard(key)
        return sizes[key]

    def total(holder: Any) -> int:
        count, stack = 0, [holder]
        while stack:
            for node in stack.pop().node:
                key = (node.domain, node.op_type)
                count += size(key) if key in bodies else 1
                stack += nested(node)
        return count

    if max(total(model.graph), *(size(key) for key in bodies), 0) > MAX_NODES:
        raise Refused("too_many_nodes", f"more than {MAX_NODES:,} nodes once its functions are written out")
