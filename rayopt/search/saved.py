"""A fitted estimator as a file that runs no code when it is read: skops, where it is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from rayopt.errors import input_error

FILE = "estimator.skops"
KNOWN = ("sklearn.", "numpy.", "scipy.")


def is_installed() -> bool:
    return find_spec("skops") is not None


def written(estimator: Any) -> bytes | None:
    """The estimator in skops' format; None where it cannot be written so, or skops is not installed."""
    if not is_installed():
        return None
    import skops.io

    try:
        return bytes(skops.io.dumps(estimator))
    except Exception:  # noqa: BLE001 - a user's own class may hold anything; the recipe is there
        return None


def read(content: bytes, place: str, trusted: Sequence[str] = ()) -> Any:
    """The estimator; raises InputError where it holds types that are neither of scikit-learn nor `trusted`."""
    if not is_installed():
        raise input_error(place, "needs the package skops to be read", "pip install 'rayopt[skops]'")
    unknown = foreign_types(content, place, trusted)
    if unknown:
        remedy = f"if you know them: load_estimator(..., trusted=[{', '.join(map(repr, unknown))}])"
        raise input_error(place, f"holds types that are not scikit-learn's: {', '.join(unknown)}", remedy)
    import skops.io

    with _reading(place):
        return skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))


def foreign_types(content: bytes, place: str, trusted: Sequence[str] = ()) -> list[str]:
    """The types in it that are neither of scikit-learn and its numbers nor `trusted`; nothing of it is run."""
    import skops.io

    with _reading(place):
        found = skops.io.get_untrusted_types(data=content)
    return sorted(name for name in found if not name.startswith(KNOWN) and name not in trusted)


@contextlib.contextmanager
def _reading(place: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        problem = f"cannot be read: {type(error).__name__}: {error}"
        raise input_error(place, problem, "run the job again to have it written anew") from error
