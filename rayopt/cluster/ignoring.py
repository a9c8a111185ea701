"""What .gitignore and .rayignore say about a file or a folder: git's own verdict, held against git by the tests."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rayopt.errors import input_error

if TYPE_CHECKING:
    from pathspec import RegexPattern

IGNORE_FILES = (".gitignore", ".rayignore")  # the later wins
LINE = re.compile(r"((?:\\.|[^\\])*?) *", re.DOTALL)  # git drops spaces at the end, but for one after a backslash
SPACE = re.compile(r"[^\S ]$")  # which pathspec would drop as well, and git keeps
FOLDERS = re.compile(r"(^|[!/])\*\*/$")  # to git `a/**/` is all folders below a; pathspec takes the files too


@dataclass(frozen=True)
class Rules:
    """The patterns of one ignore file, which holds for paths below `folder`; `rank` is its place in IGNORE_FILES."""

    folder: Path
    rank: int
    patterns: tuple[RegexPattern, ...]


def outer_rules(root: Path) -> tuple[Rules, ...]:
    """The rules of the folders above, as far as the repository that the folder lies in."""
    above: list[Path] = []
    for folder in (root, *root.parents):
        if (folder / ".git").exists():
            return tuple(rule for one in reversed(above) for rule in rules_of(one) if rule.rank == 0)
        above.append(folder.parent)
    return ()


def rules_of(folder: Path) -> tuple[Rules, ...]:
    """The rules in a folder's own ignore files; raises InputError for one that cannot be read."""
    found = []
    for rank, name in enumerate(IGNORE_FILES):
        path = folder / name
        try:
            if path.is_file():
                found.append(Rules(folder, rank, _patterns(path.read_bytes().decode("utf-8-sig", errors="replace"))))
        except OSError as error:
            raise input_error(
                str(path), f"cannot be read: {error.strerror}", "let yourself read it, or ignore its folder"
            ) from error
    return tuple(found)


def ignored(path: Path, rules: tuple[Rules, ...]) -> bool:
    """Whether the last pattern that fits says so; those of .rayignore come after all of .gitignore."""
    is_folder = path.is_dir() and not path.is_symlink()
    verdict = False
    for rule in sorted(rules, key=lambda one: one.rank):  # stable: outer folders stay first
        name = path.relative_to(rule.folder).as_posix() + ("/" if is_folder else "")
        fitting = (pattern.include for pattern in reversed(rule.patterns) if _fits(pattern, name))
        verdict = bool(next(fitting, verdict))
    return verdict


def _patterns(content: str) -> tuple[RegexPattern, ...]:
    """Those that can fit at all: git passes over the others without a word."""
    from pathspec import GitIgnoreSpec

    found: list[RegexPattern] = []
    for line in content.split("\n"):  # only there does git end a line
        if words := LINE.fullmatch(line.removesuffix("\r")):  # none: it ends with a lone backslash
            text = FOLDERS.sub(r"\1**/*/", SPACE.sub(r"[\g<0>]", words[1]))
            with contextlib.suppress(ValueError):
                found += GitIgnoreSpec.from_lines([text]).patterns
    return tuple(pattern for pattern in found if pattern.include is not None)


def _fits(pattern: RegexPattern, name: str) -> bool:
    """Whether a pattern means the entry itself: what lies above it has been asked about before.

    Where pathspec marks the end of a folder's name, a fit that ends before is one of a folder above.
    """
    regex = pattern.regex
    if regex is None:
        return False
    if "ps_d" in regex.groupindex:
        return any(found.end("ps_d") in (-1, len(name)) for found in regex.finditer(name))
    return regex.search(name.removesuffix("/")) is not None
