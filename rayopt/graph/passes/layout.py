"""Chains of Reshape, Transpose, Squeeze and Unsqueeze as what they are: a new order of the atoms of the axes.

An axis of 64 that a Reshape cuts into 4 heads of 16 is two atoms. What a chain does is said by the atoms of its source,
in their order, and those of its result: `plan` writes it anew in as few as possible of Reshape, Transpose, Reshape.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite, symbolic

LAYOUTS = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
Axes = list[list[int]]


@dataclass
class Atoms:
    """Sizes of atoms, and into which two an atom was cut."""

    sizes: list[symbolic.Size] = field(default_factory=list)
    cuts: dict[int, tuple[int, int]] = field(default_factory=dict)

    def new(self, size: symbolic.Size) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def of(self, sizes: Sequence[facts.Dim]) -> Axes:
        return [[] if one == 1 else [self.new(symbolic.size(one))] for one in sizes]

    def whole(self, axes: Axes) -> Axes:
        """The axes in atoms that are not cut any more."""
        return [[atom for one in axis for atom in self._parts(one)] for axis in axes]

    def _parts(self, atom: int) -> list[int]:
        if atom not in self.cuts:
            return [atom]
        outer, inner = self.cuts[atom]
        return self._parts(outer) + self._parts(inner)

    def regrouped(self, axes: Axes, sizes: Sequence[facts.Dim]) -> Axes | None:
        """The same atoms in the same order as axes of other sizes, cut where an axis ends inside one."""
        queue = deque(atom for axis in self.whole(axes) for atom in axis)
        found: Axes = []
        for one in sizes:
            need, axis = symbolic.size(one), []
            while need != (1, ()):
                if not queue:
                    return None
                atom = queue.popleft()
                rest = symbolic.quotient(need, self.sizes[atom])
                if rest is None:
                    inner = symbolic.quotient(self.sizes[atom], need)
                    if inner is None:
                        return None
                    outer_atom, inner_atom = self.cuts[atom] = (self.new(need), self.new(inner))
                    queue.appendleft(inner_atom)
                    atom, rest = outer_atom, (1, ())
                axis.append(atom)
                need = rest
            found.append(axis)
        return None if queue else found


def chain(node: ir.Node) -> list[ir.Node]:
    """The layouts that end in a node, each result used by the next alone, from the first to the last."""
    found = [node]
    while (inner := facts.made_by(found[0].inputs[0], *LAYOUTS)) is not None:
        if not facts.used_once(inner.outputs[0]) or inner.graph is not node.graph:
            break
        found.insert(0, inner)
    return found


def traced(nodes: list[ir.Node]) -> tuple[Atoms, Axes, Axes] | None:
    """The atoms of a chain's source and of its result; None where a size is not known well enough."""
    sizes = facts.dims(nodes[0].inputs[0])
    if sizes is None or 0 in sizes:
        return None
    atoms = Atoms()
    source = atoms.of(sizes)
    result = carried(atoms, source, nodes)
    return None if result is None else (atoms, atoms.whole(source), atoms.whole(result))


def carried(atoms: Atoms, axes: Axes, nodes: Sequence[ir.Node]) -> Axes | None:
    """Where a chain takes the atoms of axes."""
    for node in nodes:
        after = facts.dims(node.outputs[0])
        if node.op_type == "Transpose":
            perm = facts.attribute(node, "perm", list(range(len(axes)))[::-1])
            if len(perm) != len(axes):
                return None
            axes = [axes[axis] for axis in perm]
        else:
            found = None if after is None or 0 in after else atoms.regrouped(axes, after)
            if found is None:
                return None
            axes = found
    return atoms.whole(axes)


def following(value: ir.Value) -> list[ir.Node]:
    """The layouts that a value goes through, each the only user of what is before it."""
    found: list[ir.Node] = []
    while (user := facts.only_user(value, *LAYOUTS)) is not None and user.inputs[0] is value:
        found.append(user)
        value = user.outputs[0]
    return found


@dataclass(frozen=True)
class Plan:
    """Reshape to `before`, Transpose by `perm`, Reshape to `after`; each may be missing."""

    before: tuple[facts.Dim, ...] | None
    perm: list[int] | None
    after: tuple[facts.Dim, ...] | None

    @property
    def count(self) -> int:
        return sum(one is not None for one in (self.before, self.perm, self.after))


def plan(atoms: Atoms, source: Axes, result: Axes) -> Plan:
    """The shortest way from one order of atoms to another."""
    starts, ends = ([_dim(atoms, axis) for axis in axes] for axes in (source, result))
    if [a for axis in source for a in axis] == [a for axis in result for a in axis]:
        return Plan(None, None, None if starts == ends else tuple(ends))
    found = [
        _cut(atoms, source, result, at_source, at_result) for at_source in (False, True) for at_result in (False, True)
    ]
    return min(found, key=lambda one: one.count)


def _dim(atoms: Atoms, axis: list[int]) -> facts.Dim:
    size: symbolic.Size | None = (1, ())
    for atom in axis:
        size = symbolic.times(size, atoms.sizes[atom])
    return symbolic.dim(size or (1, ()))


def _cut(atoms: Atoms, source: Axes, result: Axes, at_source: bool, at_result: bool) -> Plan:
    """The plan whose Transpose moves blocks of atoms, cut where an axis of the source or of the result ends."""
    order = {atom: place for place, atom in enumerate(atom for axis in source for atom in axis)}
    firsts = {axis[0] for axis in source if axis} if at_source else set()
    firsts |= {axis[0] for axis in result if axis} if at_result else set()
    blocks: Axes = []
    for atom in (atom for axis in result for atom in axis):
        if blocks and order[atom] == order[blocks[-1][-1]] + 1 and atom not in firsts:
            blocks[-1].append(atom)
        else:
            blocks.append([atom])
    inside = sorted(blocks, key=lambda block: order[block[0]])
    keeps = [axis for axis in source if axis] == inside
    gives = [axis for axis in result if axis] == blocks
    units = [place for place, axis in enumerate(source) if not axis] if keeps else []
    wanted = sum(not axis for axis in result)
    if gives and keeps and len(units) != wanted:
        gives = False
    pre = list(source) if keeps else [*inside, *[[] for _ in range(wanted if gives else 0)]]
    free = iter(place for place, axis in enumerate(pre) if not axis)
    if gives:
        perm = [pre.index(axis) if axis else next(free) for axis in result]
    else:
        perm = [*free, *(pre.index(block) for block in blocks)]
    return Plan(
        None if keeps else tuple(_dim(atoms, axis) for axis in pre),
        perm,
        None if gives else tuple(_dim(atoms, axis) for axis in result),
    )


def told(sizes: Sequence[facts.Dim], found: Plan, old: Sequence[ir.Node]) -> tuple[list[int], list[int]] | None:
    """What the Reshapes of a plan must be told; None where that cannot be said. It replaces `old`."""
    empty = {one for node in old for one in symbolic.never_empty(node)}
    middle = found.before or tuple(sizes)
    moved = tuple(middle[axis] for axis in found.perm) if found.perm is not None else middle
    first = symbolic.target(sizes, found.before, empty) if found.before is not None else []
    last = symbolic.target(moved, found.after, empty) if found.after is not None else []
    return None if first is None or last is None else (first, last)


def write(
    before: ir.Node, source: ir.Value, sizes: Sequence[facts.Dim], found: Plan, old: Sequence[ir.Node]
) -> ir.Value | None:
    """The nodes of a plan in front of another node, and their result; None where a Reshape cannot be said."""
    numbers = told(sizes, found, old)
    if numbers is None:
        return None
    first, last = numbers
    middle = found.before or tuple(sizes)
    moved = tuple(middle[axis] for axis in found.perm) if found.perm is not None else middle
    value = source
    if found.before is not None:
        value = _made(before, "Reshape", [value, rewrite.store_ints(before, first)], {}, found.before)
    if found.perm is not None:
        value = _made(before, "Transpose", [value], {"perm": found.perm}, moved)
    if found.after is not None:
        value = _made(before, "Reshape", [value, rewrite.store_ints(before, last)], {}, found.after)
    return value


def _made(
    before: ir.Node,
    operator: str,
    inputs: list[ir.Value | None],
    attributes: dict[str, Any],
    sizes: Sequence[facts.Dim],
) -> ir.Value:
    value = rewrite.insert(before, operator, inputs, attributes).outputs[0]
    value.meta[facts.DIMS] = tuple(sizes)
    return value
