"""Reading job files: what a line of YAML means, and that whatever is wrong is said with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field

from rayopt.errors import Fault, InputError
from rayopt.spec import MAX_FILE_BYTES, Document, Settings, override, parse_document, read_document, validate
from rayopt.yamltext import MAX_DEPTH, dotted_name, dump

HERE = Path("folder")


class Split(Settings):
    test: float = Field(0.2, gt=0, lt=1)
    selection: float = 0.2


class Data(Settings):
    source: str
    split: Split = Split()
    columns: list[int] = Field([])


class Job(Settings):
    name: str
    data: Data
    parts: list[Split] = Field([])
    maybe: Split | None = None


def parse(text: str) -> Document:
    return parse_document(text, "job.yaml", HERE)


def faults_of(text: str) -> tuple[Fault, ...]:
    with pytest.raises(InputError) as caught:
        parse(text)
    return caught.value.faults


def outcome(function: Callable[[], Document]) -> Document | InputError:
    """What comes out, be it the one or the other; anything else is raised."""
    try:
        return function()
    except InputError as error:
        return error


def checked(text: str, *assignments: str) -> list[Fault]:
    document = override(parse(text), assignments)
    return validate(Job, document.data, document)[1]


SPLIT_KEYS = "did you mean 'test'? known: selection, test"
GOOD = """\
name: one
data:
  source: digits
"""


# What values mean


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E5", 1e5), ("-1.5", -1.5), (".5", 0.5), ("+3", 3), ("0x1F", 31), ("0", 0), ("-0", 0),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("y", "y"),
        ("1:30", "1:30"), ("010", "010"), ("1_000", "1_000"), ("2024-01-01", "2024-01-01"), ("=", "="), ("1e", "1e"),
        ("'1'", "1"), ('"true"', "true"),
    ],
)  # fmt: skip
def test_a_value_is_what_yaml_1_2_says(text: str, value: Any) -> None:
    found = parse(f"key: {text}").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_on_is_a_key_like_any_other() -> None:
    assert parse("on: 1").data == {"on": 1}


def test_aliases_and_merges_are_expanded() -> None:
    text = "base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}\nsame: *base\n"
    assert parse(text).data == {"base": {"a": 1, "b": 2}, "other": {"a": 1, "b": 3}, "same": {"a": 1, "b": 2}}


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\r\nseed: 3\r\n")
    document = read_document(path)
    assert document.data == {"name": "a", "seed": 3}
    assert document.lines[("seed",)] == 2


# Places


def test_places_are_the_lines_of_keys_and_items() -> None:
    document = parse("name: x\nsteps:\n  - any:\n      - nothing\n      - {use: prune,\n         keep: 2}\n")
    assert document.place(("name",)) == "job.yaml:1: name"
    assert document.place(("steps", 0)) == "job.yaml:3: steps[0]"
    assert document.place(("steps", 0, "any", 1)) == "job.yaml:5: steps[0].any[1]"
    assert document.place(("steps", 0, "any", 1, "keep")) == "job.yaml:6: steps[0].any[1].keep"


def test_what_is_not_there_is_placed_at_what_should_hold_it() -> None:
    document = parse("name: x\ndata:\n  split: {}\n")
    assert document.place(("data", "split", "test")) == "job.yaml:3: data.split.test"
    assert document.place(("model", "factory")) == "job.yaml:1: model.factory"
    assert document.place(()) == "job.yaml:1"


def test_a_document_without_lines_names_the_key_alone() -> None:
    assert Document({}, "job", HERE).place(("a", 0, "b")) == "job: a[0].b"
    assert Document({}, "job", HERE).place(()) == "job"


@pytest.mark.parametrize(
    ("location", "name"), [((), ""), (("a",), "a"), (("a", 2, "b"), "a[2].b"), ((0, 1), "[0][1]")]
)  # fmt: skip
def test_dotted_names(location: tuple[str | int, ...], name: str) -> None:
    assert dotted_name(location) == name


# Texts that are refused


@pytest.mark.parametrize(
    ("text", "place", "problem", "remedy"),
    [
        pytest.param("", "job.yaml", "is empty", "kind", id="empty"),
        pytest.param("# only\n# comments\n", "job.yaml", "is empty", "kind", id="comments"),
        pytest.param("\n- a\n- b\n", "job.yaml:2", "is not a mapping", "key: value", id="list at top"),
        pytest.param("just words", "job.yaml:1", "is not a mapping", "key: value", id="text at top"),
        pytest.param("a: 1\nb:\n\tc: 2\n", "job.yaml:3", "'\\t'", "spaces", id="tab"),
        pytest.param("a: 1\nb: c: d\n", "job.yaml:2", "mapping values", "mend the line", id="two colons"),
        pytest.param("a: 1\nb: [1,\n", "job.yaml:3", "is not YAML", "mend the line", id="open bracket"),
        pytest.param("a: 1\nb: *x\n", "job.yaml:2", "undefined alias 'x'", "mend the line", id="unknown alias"),
        pytest.param("a: 1\n---\nb: 1\n", "job.yaml:2", "another document", "mend the line", id="two documents"),
        pytest.param("a: \x00", "job.yaml", "#x0000", "plain UTF-8", id="binary"),
        pytest.param("a: 1\nb: &x [1, *x]", "job.yaml:2", "contains itself", "write the value out", id="alias cycle"),
        pytest.param("a: " + "[" * 100_000, "job.yaml", "nested too deeply", "a few levels", id="very deep"),
        pytest.param("a: " + "[" * 90 + "]" * 90, "job.yaml:1", "more than 50 deep", "a few levels", id="deep"),
        pytest.param("a: 1\nb: .nan", "job.yaml:2", ".nan is no finite number", "mend", id="not a number"),
        pytest.param("a: 1\nb: 1e999", "job.yaml:2", "1e999 is no finite number", "mend", id="infinite"),
        pytest.param("a: 1\n<<: 5", "job.yaml:2", "for merging", "mend", id="merge of a scalar"),
        pytest.param("a: " + "9" * 5000, "job.yaml", "cannot be read", "numbers short", id="endless number"),
        pytest.param("a: 1\nb: !!set {c}", "job.yaml:2: b", "has the tag !!set", "without tags", id="set"),
        pytest.param("!!str {a: 1}", "job.yaml:1", "has the tag !!str", "without tags", id="tag at top"),
        pytest.param("a: !!bool maybe", "job.yaml", "cannot be read", "leave tags out", id="ill-tagged"),
        pytest.param("a: !!int ''", "job.yaml", "cannot be read", "leave tags out", id="ill-tagged number"),
        pytest.param("a: 1\nb: {1: x}", "job.yaml:2: b.1", "not text", "quotes", id="number as key"),
        pytest.param("? [a]\n: b", "job.yaml:1: ?", "not text", "quotes", id="list as key"),
    ],
)
def test_a_text_is_refused_with_its_place(text: str, place: str, problem: str, remedy: str) -> None:
    (fault,) = faults_of(text)
    assert fault.place == place
    assert problem in fault.problem
    assert remedy in fault.remedy
    assert "\n" not in str(fault)


def test_a_tag_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (fault,) = faults_of(f"a: !!python/object/apply:pathlib.Path.touch [{marker}]")
    assert "python/object/apply" in fault.problem
    assert not marker.exists()


def test_every_double_key_is_told_with_both_lines() -> None:
    faults = faults_of("a: 1\nb: {c: 1,\n  c: 2}\na: 3\n")
    assert [str(fault) for fault in faults] == [
        "job.yaml:3: b.c: is given twice; it is also on line 2; keep one of them",
        "job.yaml:4: a: is given twice; it is also on line 1; keep one of them",
    ]


def laughs(lines: int) -> str:
    """Each line stands for ten times the values of the line before."""
    first = "a0: &a0 [" + ", ".join(["lol"] * 10) + "]"
    return "\n".join([first, *(f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, lines))])


@pytest.mark.parametrize("lines", [9, 30, 3000])
def test_a_billion_laughs_are_refused_without_being_told(lines: int) -> None:
    (fault,) = faults_of(laughs(lines))
    assert fault.place == "job.yaml:5"  # 111 111 values, the first line that is too much
    assert "more than 20,000 values" in fault.problem
    assert "fewer aliases" in fault.remedy


def test_a_few_aliases_are_welcome() -> None:
    assert len(parse(laughs(3)).data["a2"][9][9]) == 10


def test_the_deepest_that_is_allowed_is_read() -> None:
    levels = MAX_DEPTH - 2  # the mapping at the top, and the scalar at the bottom
    value: Any = parse("a: " + "[" * levels + "x" + "]" * levels).data["a"]
    for _ in range(levels):
        (value,) = value
    assert value == "x"


PIECES = st.sampled_from(
    [
        "a", "b:", " ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&x", "*x", "<<: ", "!!", "!!int", "!!bool ",
        "!!float ", "!!null ", "!!map ", "!!seq ", "!!str ", "? ", ": ", "'", '"', "#", "|", ">", "1", "0x", ".", "1e5",
        "=", "~", "%", "---", "\t", "\ufeff", "\\", "@", "9" * 20,
    ]
)  # fmt: skip


@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=25).map("".join)))
@example("!!str {=: 5}")
@example("a: !!float ''")
def test_any_text_gives_a_document_or_an_input_error(text: str) -> None:
    found = outcome(lambda: parse(text))
    if isinstance(found, InputError):
        assert found.faults
        assert all(fault.place.startswith("job.yaml") and fault.problem and fault.remedy for fault in found.faults)
    else:
        assert isinstance(found.data, dict)
        assert yaml.safe_load(yaml.safe_dump(found.data)) == found.data


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6) | PIECES, PLAIN, min_size=1, max_size=4))
@example({"1e5": "1e5", "on": "on", "0x1": "010", "=": "<<", "~": "", "2024-01-01": ".inf"})
def test_what_is_dumped_is_read_back(data: dict[str, Any]) -> None:
    assert parse(dump(data)).data == data


# Files


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: there is no such file; give the path of a job file"):
        read_document(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a folder"):
        read_document(tmp_path)


def test_a_name_that_no_file_can_have_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        read_document(tmp_path / ("x" * 300))


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: x\n".ljust(MAX_FILE_BYTES, "#"))
    assert read_document(path).data == {"name": "x"}
    path.write_text("name: x\n".ljust(MAX_FILE_BYTES + 1, "#"))
    with pytest.raises(InputError, match=r"is 1,048,577 bytes long; a job file has at most 1,048,576 bytes"):
        read_document(path)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    with pytest.raises(InputError, match=r"job\.yaml: is not UTF-8 text \(byte 0\); save the file as UTF-8"):
        read_document(path)


def test_paths_are_relative_to_the_real_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "job.yaml").write_text("name: x")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "real" / "job.yaml")
    assert read_document(tmp_path / "link.yaml").folder == tmp_path / "real"


# Checking against a model


def test_a_good_document_gives_the_settings() -> None:
    document = parse(GOOD)
    job, faults = validate(Job, document.data, document)
    assert faults == []
    assert job == Job(name="one", data=Data(source="digits"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam: one\n" + GOOD, "1: nam: unknown key 'nam'; did you mean 'name'? known: data, maybe, name, parts"),
        (
            GOOD + "  sourc: x",
            "4: data.sourc: unknown key 'sourc'; did you mean 'source'? known: columns, source, split",
        ),
        (GOOD + "  split:\n    tets: 0.1", f"5: data.split.tets: unknown key 'tets'; {SPLIT_KEYS}"),
        (GOOD + "parts:\n  - test: 0.1\n  - {tset: 0.1}", f"6: parts[1].tset: unknown key 'tset'; {SPLIT_KEYS}"),
        (GOOD + "maybe: {tset: 0.1}", f"4: maybe.tset: unknown key 'tset'; {SPLIT_KEYS}"),
        ("name: one", "1: data: is missing; add `data:`"),
        ("name: one\ndata: {}", "2: data.source: is missing; add `source:`"),
        (GOOD + "  split: {test: 1.5}", "4: data.split.test: input should be less than 1; got 1.5"),
        (
            GOOD + "  columns: [1, x]",
            "4: data.columns[1]: input should be a valid integer, unable to parse string as an integer; got 'x'",
        ),
    ],
)
def test_a_fault_has_its_line_what_is_wrong_and_what_to_do(text: str, message: str) -> None:
    assert [str(fault) for fault in checked(text)] == [f"job.yaml:{message}"]


def test_all_faults_come_at_once() -> None:
    faults = checked("name: 3\ndata:\n  source: x\n  split: {test: 0, selction: 1}\nextra: 1\n")
    assert [fault.place for fault in faults] == [
        "job.yaml:1: name",
        "job.yaml:4: data.split.test",
        "job.yaml:4: data.split.selction",
        "job.yaml:5: extra",
    ]


def test_a_long_value_is_cut_in_the_message() -> None:
    (fault,) = checked(GOOD.replace("one", "[" + "x, " * 200 + "]"))
    assert len(fault.remedy) < 100


# --set


def test_assignments_replace_add_and_reach_into_lists() -> None:
    document = parse(GOOD + "parts:\n  - {test: 0.1}\n  - {test: 0.2}\n")
    changed = override(document, ["name=two", "data.split.test=3e-1", "parts[1].test=0.4", "parts.0.selection=0.5"])
    assert changed.data == {
        "name": "two",
        "data": {"source": "digits", "split": {"test": 0.3}},
        "parts": [{"test": 0.1, "selection": 0.5}, {"test": 0.4}],
    }
    assert document.data["name"] == "one"
    assert "split" not in document.data["data"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("[a, 1]", ["a", 1]), ("{a: 1}", {"a": 1}), ("a: 1", {"a": 1}), ("'1'", "1"), ("a=b", "a=b"),
        ("on", "on"),
    ],
)  # fmt: skip
def test_an_assigned_value_is_read_as_yaml(text: str, value: Any) -> None:
    assert override(parse(GOOD), [f"x={text}"]).data["x"] == value


def test_an_empty_key_is_filled() -> None:
    assert override(parse("train:\n"), ["train.epochs=3"]).data == {"train": {"epochs": 3}}


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("name", "is not an assignment"),
        ("=3", "is not an assignment"),
        (".=3", "names no key"),
        ("name.x=1", "name holds the plain value 'one', which has no 'x'"),
        ("parts[1].test=1", "parts is a list of 1, which has no '1'"),
        ("parts[²]=1", "parts is a list of 1, which has no '²'"),
        ("parts.x=1", "parts is a list of 1, which has no 'x'"),
        ("name=[1", "the value:1 is not YAML"),
        ("name=b: c: d", "the value:1 is not YAML"),
        ("name=.inf", "the value:1 holds a value that cannot be read: .inf is no finite number"),
    ],
)
def test_an_assignment_that_cannot_be_applied_is_placed_at_itself(assignment: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        override(parse(GOOD + "parts: [{test: 0.1}]"), [assignment])
    (fault,) = caught.value.faults
    assert fault.place == f"--set {assignment}"
    assert problem in fault.problem
    assert fault.remedy


def test_every_bad_assignment_is_told() -> None:
    with pytest.raises(InputError) as caught:
        override(parse(GOOD), ["name", "seed=1", "name.x=1"])
    assert [fault.place for fault in caught.value.faults] == ["--set name", "--set name.x=1"]


def test_a_fault_in_an_assigned_value_is_placed_at_the_assignment() -> None:
    (fault,) = checked(GOOD, "data.split.test=7")
    assert fault.place == "--set data.split.test=7 (data.split.test)"
    (fault,) = checked(GOOD + "parts: [{test: 0.1}]", "parts=[{test: 0.1}, {tset: 3}]")
    assert fault.place == "--set parts=[{test: 0.1}, {tset: 3}] (parts[1].tset)"


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_assignment_gives_a_document_or_an_input_error(key: str, value: str) -> None:
    found = outcome(lambda: override(parse(GOOD + "parts: [{test: 0.1}]"), [f"{key}={value}"]))
    if isinstance(found, InputError):
        assert all(fault.place.startswith("--set ") and fault.remedy for fault in found.faults)
