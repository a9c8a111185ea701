"""How a model ends: one word of a fixed list, and for people why. Refusals say what is wrong with the file."""

from __future__ import annotations

from typing import Literal, get_args

from rayopt.errors import StepError

Refusal = Literal[
    "not_a_file", "empty_file", "too_large", "unreadable", "too_deep", "empty_graph", "no_outputs",
    "unsupported_ir", "unsupported_opset", "unknown_domain", "unknown_operator", "wrong_arity",
    "duplicate_name", "undefined_input", "cycle", "unsorted", "missing_output", "recursive_function", "too_many_nodes",
    "bad_dimension", "bad_tensor", "short_data",
    "external_absolute", "external_outside", "external_link", "external_missing", "external_short", "external_bad",
    "fold_bomb", "invalid_model", "does_not_load", "does_not_run", "not_comparable",
    "crashed", "out_of_time", "out_of_memory", "killed_worker",
]  # fmt: skip
Verdict = Literal["optimized", "unchanged"] | Refusal
REFUSALS: tuple[str, ...] = get_args(Refusal)


class Refused(StepError):  # noqa: N818 - what it says is no error of ours
    """The model is not worked on; `verdict` is the word, the message the reason."""

    def __init__(self, verdict: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.verdict: Refusal = verdict

    def __reduce__(self) -> tuple[type[Refused], tuple[Refusal, str]]:
        return Refused, (self.verdict, str(self))
