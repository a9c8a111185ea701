"""The journal as it grows."""

from __future__ import annotations

from pathlib import Path

from rayopt.runs import journal


def test_only_what_is_new_and_whole_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert journal.read_on(path, 0) == ([], 0)
    journal.append(path, {"n": 1})
    lines, offset = journal.read_on(path, 0)
    assert lines == [{"n": 1}]
    with path.open("a") as file:
        file.write('{"n": 2}')
    assert journal.read_on(path, offset) == ([], offset), "a line that has not ended may be torn"
    with path.open("a") as file:
        file.write('\n{"n": 3}\n')
    lines, offset = journal.read_on(path, offset)
    assert lines == [{"n": 2}, {"n": 3}]
    assert journal.read_on(path, offset) == ([], path.stat().st_size)
