"""Chains of layouts."""

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from rayopt.graph.passes import layout
from tests.graph.passes.proof import Example, checks

HEADS = """(float[12,n,64] x) => (float[n,4,12,16] y) <int64[3] s = {12, -1, 16}, int64[4] t = {-1, 4, 12, 16}>
{ a = Reshape(x, s)  b = Transpose<perm = [1, 0, 2]>(a)  y = Reshape(b, t) }"""
CUT = """(float[12,n,192] x) => (float[3,12,n,64] y) <int64[5] s = {1, 12, -1, 3, 64}, int64[1] t = {-2}>
{ a = Reshape(x, s)  b = Transpose<perm = [3, 1, 2, 0, 4]>(a)  y = Squeeze(b, t) }"""

FIRES = {
    "heads through a flat batch": Example(HEADS, {"Reshape": 1, "Transpose": 1}),
    "three parts in front": Example(CUT, {"Reshape": 1, "Transpose": 1}),
    "there and back": Example(
        """(float[n,2,6] x) => (float[n,2,6] y) <int64[3] s = {0, 0, 0}, int64[2] t = {6, -1}, int64[3] u = {6, -1, 2}>
        { a = Transpose<perm = [2, 0, 1]>(x)  b = Reshape(a, t)  c = Reshape(b, u)  d = Transpose<perm = [1, 2, 0]>(c)  y = Neg(d) }""",
        {"Neg": 1},
    ),
}  # fmt: skip
STAYS = {
    "a batch that may be empty beside what is left over": Example(
        "(float[n,m] x) => (float[n,1,m] y) <int64[1] a = {2}> { b = Unsqueeze(x, a)  y = Transpose<perm = [0, 2, 1]>(b) }",
        sizes=(0, 1, 3),
    ),
    "as short as can be": Example(
        "(float[n,4,6] x) => (float[n,2,4,3] y) <int64[4] s = {0, 4, 2, 3}> { a = Reshape(x, s)  y = Transpose<perm = [0, 2, 1, 3]>(a) }"
    ),
    "used in between": Example(HEADS.replace("(float[n,4,12,16] y)", "(float[n,4,12,16] y, float[k,12,16] z)").replace(" }", "  z = Neg(b) }")),
}  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_plan_moves_every_number_where_the_chain_does(data: st.DataObject) -> None:
    """Random chains over random sizes against numpy, number by number."""
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    wanted = np.arange(np.prod(shape)).reshape(shape)
    atoms = layout.Atoms()
    source = axes = atoms.of(shape)
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            perm = data.draw(st.permutations(range(wanted.ndim)))
            wanted, axes = wanted.transpose(perm), [axes[axis] for axis in perm]
            continue
        new = _shape(data, wanted.size)
        regrouped = atoms.regrouped(axes, new)
        if regrouped is None:  # 4 x 6 as 8 x 3: an atom ends inside another
            return
        wanted, axes = wanted.reshape(new), regrouped
    plan = layout.plan(atoms, atoms.whole(source), atoms.whole(axes))
    got = np.arange(np.prod(shape)).reshape(shape)
    got = got.reshape(plan.before) if plan.before is not None else got
    got = got.transpose(plan.perm) if plan.perm is not None else got
    got = got.reshape(plan.after) if plan.after is not None else got
    np.testing.assert_array_equal(got, wanted)


def _shape(data: st.DataObject, size: int) -> tuple[int, ...]:
    found: list[int] = []
    while size > 1 and len(found) < 4:
        found.append(data.draw(st.sampled_from([one for one in range(1, size + 1) if size % one == 0])))
        size //= found[-1]
    return (*found, size)


def test_an_unknown_size_stays_unknown() -> None:
    text = "(float[a,b,6] x, int64[3] s) => (float[k,l,m] y) { c = Reshape(x, s)  y = Transpose<perm = [2, 0, 1]>(c) }"
    model = ir.from_proto(Example(text).model())
    assert layout.traced(layout.chain(model.graph[1])) is None


test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("merge_layout", FIRES, STAYS)
