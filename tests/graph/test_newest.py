"""What onnx or the runtime does not know is refused by its version."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest

from rayopt.graph import newest
from rayopt.graph.structure import check_versions
from rayopt.graph.verdicts import Refused
from tests.graph.hostile import good


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    yield
    newest.newest_ir.cache_clear()
    newest.newest_opset.cache_clear()


def older(ir_version: int, opset: int) -> bool:
    return ir_version <= 9 and opset <= 19


def test_the_limit_is_the_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    newest.newest_ir.cache_clear()
    newest.newest_opset.cache_clear()
    monkeypatch.setattr(newest, "takes", older)
    assert (newest.newest_ir(), newest.newest_opset()) == (9, 19)
    made = good()
    made.ir_version = 9
    made.opset_import[0].version = 19
    check_versions(made)
    made.opset_import[0].version = 20
    with pytest.raises(Refused, match="opset 20"):
        check_versions(made)
    made.ir_version = 10
    with pytest.raises(Refused, match="IR version 10"):
        check_versions(made)


def test_this_runtime_is_asked() -> None:
    assert 8 < newest.newest_ir() <= onnx.IR_VERSION
    assert 20 < newest.newest_opset() <= onnx.defs.onnx_opset_version()
    assert not newest.takes(99, 13)
