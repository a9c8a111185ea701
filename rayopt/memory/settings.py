"""What a user may say about memory: a budget."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from rayopt.errors import InputError, input_error
from rayopt.runs.cache import parse_size


def budget_bytes(given: int | str, place: str) -> int:
    """Bytes of `8GiB`, `500MB` or a number of them; raises InputError at `place`."""
    size = given if isinstance(given, int) else parse_size(given, place)
    if size <= 0:
        raise input_error(place, f"{given!r} is nothing", "write a size such as 500MB or 8GiB")
    return size


def _checked(given: int | str) -> int | str:
    try:
        budget_bytes(given, "budget")
    except InputError as error:
        raise ValueError(f"{error.faults[0].problem}; {error.faults[0].remedy}") from error
    return given


Budget = Annotated[int | str, AfterValidator(_checked)]
