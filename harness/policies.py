# SPDX-License-Identifier: GPL-2.0-only
"""The policies there are: those of the kernel and those that are files in policies/.

Of a policy this is all that the command line, scenarios, the judge and results know: its
name, the type by which my_oom_killer() calls it, and what its score is called in the
kernel log.  For those that are part of the kernel configs/kernels.toml says so; for a
module the macro line in its source does, so that its file is all there is of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import HarnessError
from harness.kernels import Kernels, load_kernels
from harness.layout import Layout

FOLDER = "policies"
MACRO = "USER_OOM_POLICY"

# The fields that every kill line has; a score of one of these names could not be told apart.
LOG_FIELDS = ("uid", "uRSS", "mm_max", "pid", "pRSS")

# As the kernel has it (USER_OOM_NAME_LEN, user_oom_is_word()), which would refuse others.
NAME_LENGTH = 31
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

_COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
_ARGUMENTS = re.compile(
    r'\(\s*"(?P<name>[^"]*)"\s*,\s*\w+\s*,\s*(?:"(?P<field>[^"]*)"|NULL)\s*,\s*[^;]+\)\s*;',
)


@dataclass(frozen=True)
class Policy:
    """One policy.

    ``type`` is None for those that my_oom_killer() does not know by a fixed number,
    ``field`` if the log has no score, ``source`` for those that are part of the kernel.
    """

    name: str
    type: int | None = None
    field: str | None = None
    source: Path | None = None

    @property
    def kills(self) -> bool:
        """Does the kernel hold users to their limits by itself?"""
        return self.type is not None or self.source is not None


class Policies(Mapping[str, Policy]):
    """All policies by name, those of the kernel first; a file is read when it is asked for."""

    def __init__(self, kernels: Kernels, files: Iterable[Path]) -> None:
        self._built_in = {
            policy.name: Policy(policy.name, policy.type, policy.field)
            for policy in kernels.policies.values()
        }
        self._files = {path.stem: path for path in files}

    def __iter__(self) -> Iterator[str]:
        yield from self._built_in
        yield from (name for name in self._files if name not in self._built_in)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, name: str) -> Policy:
        """The policy; KeyError if there is none, HarnessError if its file is wrong."""
        if name in self._built_in:
            return self._built_in[name]
        return self.of_file(self._files[name])

    @property
    def built_in(self) -> tuple[str, ...]:
        """Names of those that are part of the kernel."""
        return tuple(self._built_in)

    def named(self, name: str) -> Policy:
        """The policy; HarnessError lists the names there are."""
        if name not in set(self):
            raise HarnessError(
                f"unknown policy '{name}'",
                hint=f"valid: {', '.join(self)}; or write {FOLDER}/{name}.c:"
                f" ./run new-policy {name}",
            )
        return self[name]

    def of_type(self, number: int) -> str | None:
        """Name of the policy that my_oom_killer() knows by this type."""
        return next((one.name for one in self._built_in.values() if one.type == number), None)

    def of_file(self, path: Path) -> Policy:
        """The policy in a file, if all others leave room for it; HarnessError says what not."""
        policy = read_source(path)
        if policy.name in self._built_in:
            raise _wrong(path, None, f"the kernel has a policy {policy.name!r} already")
        others = list(self._built_in.values())
        others += [other for file in self._files.values() if (other := _read_another(path, file))]
        for other in others:
            if policy.field is not None and policy.field == other.field:
                raise _wrong(path, None, f"the log field {policy.field!r} is that of {other.name}")
        return policy


def load_policies(layout: Layout, *, extra: Path | None = None) -> Policies:
    """The policies of the checkout, and one whose file is elsewhere."""
    files = sorted((layout.root / FOLDER).glob("*.c"))
    if extra is not None:
        files = [*(path for path in files if path.stem != extra.stem), extra]
    return Policies(load_kernels(layout), files)


@cache
def known() -> Policies:
    """The policies of this checkout, for those that are given no others."""
    return load_policies(Layout.default())


def read_source(path: Path) -> Policy:
    """The policy in a C file; HarnessError with its line if the macro line is not right."""
    try:
        text = _without_comments(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HarnessError(f"{path} is no C source: {error}") from error
    uses = list(re.finditer(rf"\b{MACRO}\b", text))
    if not uses:
        raise _wrong(path, None, f"there is no {MACRO}() line", hint=_example(path.stem))
    first = _line_of(text, uses[0].start())
    if len(uses) > 1:
        second = _line_of(text, uses[1].start())
        raise _wrong(path, second, f"a second {MACRO}(), the first is on line {first}")
    match = _ARGUMENTS.match(text, uses[0].end())
    if match is None:
        raise _wrong(
            path,
            first,
            f"{MACRO}() takes a name, a function, a log field or NULL, and a unit",
            hint=_example(path.stem),
        )
    _check_words(path, first, match["name"], match["field"])
    return Policy(match["name"], field=match["field"], source=path)


def check_name(name: str) -> None:
    """Raise HarnessError if no policy can be called this."""
    if not _NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        raise HarnessError(
            f"{name!r} is no name for a policy",
            hint=f"a letter and up to {NAME_LENGTH - 1} letters, digits, - or _",
        )


def _check_words(path: Path, line: int, name: str, field: str | None) -> None:
    if not _NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        raise _wrong(
            path,
            line,
            f"the name {name!r} is not a letter and up to {NAME_LENGTH - 1} letters, digits,"
            " - or _",
        )
    if name != path.stem:
        raise _wrong(path, line, f"the name is {name!r}, the file's is {path.stem!r}")
    if field is None:
        return
    if not _FIELD.fullmatch(field) or len(field) > NAME_LENGTH:
        raise _wrong(
            path,
            line,
            f"the log field {field!r} is not a letter and up to {NAME_LENGTH - 1} letters, digits"
            " or _",
        )
    if field in LOG_FIELDS:
        raise _wrong(path, line, f"the log field {field!r} is one that every kill line has")


def _read_another(path: Path, other: Path) -> Policy | None:
    """The policy of another file than ``path``; None if that file is not right."""
    try:
        return None if other == path else read_source(other)
    except HarnessError:
        return None


def _without_comments(text: str) -> str:
    """The same lines with no comments in them."""

    def blank(match: re.Match[str]) -> str:
        found = match[0]
        return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)

    return _COMMENT_OR_STRING.sub(blank, text)


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _example(name: str) -> str:
    return f'the last line is for example: {MACRO}("{name}", score, "my_score", 1);'


def _wrong(path: Path, line: int | None, why: str, *, hint: str = "") -> HarnessError:
    where = f"{path}:{line}" if line is not None else str(path)
    return HarnessError(f"{where}: {why}", hint=hint or "see docs/write-a-policy.md")
