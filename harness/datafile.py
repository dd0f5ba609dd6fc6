# SPDX-License-Identifier: GPL-2.0-only
"""Data files: TOML into checked values, or one line for what is wrong in it.

What a file may hold is a struct of msgspec's, below Table.  msgspec says what is wrong and
where, but for the name of an entry (``line[...]``) and for what would be right: both
are found here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from harness.errors import HarnessError

T = TypeVar("T")
Key = str | int

# The key of a field that no file can give: it is the name of the table that the struct is.
NO_KEY = ""

_TYPES = {
    "array": "an array",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "object": "a table",
    "str": "a string",
}
_ANY_ENTRY = "[...]"


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A table of a data file: its keys are the fields, with dashes, and no others.

    A field that is a Path is a file of the checkout.
    """


def name_entries(tables: Mapping[str, Table]) -> None:
    """Give tables that have names in the file these names; for ``__post_init__``."""
    for name, table in tables.items():
        msgspec.structs.force_setattr(table, "name", name)


def require_known(key: str, name: str, valid: Iterable[str]) -> None:
    """Raise ValueError if the value of ``key`` is none of the names there are."""
    names = list(valid)
    if name not in names:
        raise ValueError(f"{key} is {name!r}, {_valid(names)}")


def load(path: Path, kind: type[T], *, root: Path, hint: str = "") -> T:
    """Read a TOML file; HarnessError names the file, the key, and what is valid there."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise HarnessError(f"{path} is not valid TOML: {error}", hint=hint) from error
    try:
        return _convert(data, kind, root)
    except msgspec.ValidationError as error:
        raise HarnessError(f"{path}: {_complaint(error, data, kind, root)}", hint=hint) from error


def _convert(data: object, kind: type[T], root: Path) -> T:
    return msgspec.convert(data, kind, dec_hook=partial(_path, root))


def _path(root: Path, kind: type, value: object) -> object:
    if kind is not Path:
        raise NotImplementedError(kind)
    if not isinstance(value, str):
        raise TypeError(f"must be {_TYPES['str']}, is {_shown(value)}")
    return root / value


def _complaint(error: msgspec.ValidationError, data: Any, kind: type, root: Path) -> str:
    """``line.fake.cpus: must be an integer, is 'two'``"""
    text, _, place = str(error).rpartition(" - at `")
    text, words = (text, re.findall(r"\.[\w-]+|\[\d+\]|\[\.\.\.\]", place)) if text else (place, [])
    keys: list[Key] = []
    for word in words:
        if word == _ANY_ENTRY:
            keys.append(_entry_at_fault(str(error), data, kind, root, keys))
        else:
            keys.append(word[1:] if word[0] == "." else int(word[1:-1]))
    said = _in_words(text, _value(data, keys))
    valid = _what_is_valid(text, inspect.type_info(kind), data, keys)
    where = "".join(map(_dotted, keys)).removeprefix(".")
    return ": ".join(filter(None, [where, f"{said}, {valid}" if valid else said]))


def _entry_at_fault(error: str, data: Any, kind: type, root: Path, keys: Sequence[Key]) -> Key:
    """The key of a table of named entries whose entry alone gives the same error."""
    entries = _value(data, keys)
    for key, entry in entries.items():
        try:
            _convert(_with(data, keys, {key: entry}), kind, root)
        except msgspec.ValidationError as alone:
            if str(alone) == error:
                return str(key)
    return _ANY_ENTRY


def _value(data: Any, keys: Sequence[Key]) -> Any:
    for key in keys:
        data = data[key]
    return data


def _with(data: Any, keys: Sequence[Key], value: object) -> Any:
    """A copy of the data with another value in this place."""
    if not keys:
        return value
    key, *rest = keys
    copy = data.copy()
    copy[key] = _with(data[key], rest, value)
    return copy


def _dotted(key: Key) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if re.fullmatch(r"[\w-]+", key) else f'."{key}"'


def _in_words(text: str, value: object) -> str:
    """msgspec's message as people of TOML say it."""
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", text):
        return f"unknown key {match[1]!r}"
    if match := re.fullmatch(r"Object missing required field `(.*)`", text):
        return f"the key {match[1]!r} is missing"
    if match := re.fullmatch(r"Expected `([^`]*)`(, got `.*`)?(.*)", text):
        kinds = [one for one in match[1].split(" | ") if one != "null"]  # TOML has no null
        wanted = " or ".join(_TYPES.get(one, one) for one in kinds)
        return f"must be {wanted}{match[3]}, is {_shown(value)}"
    if text.startswith("Invalid "):
        return f"unknown value {_shown(value)}"
    return text


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _what_is_valid(text: str, kind: inspect.Type, data: Any, keys: Sequence[Key]) -> str:
    """Where there are but some: the keys of the table, the values of the key."""
    for key in keys:
        kind = _member(kind, data, key)
        data = data[key] if _has(data, key) else None
    kind = _of_data(kind, data)
    if text.startswith("Object contains unknown field"):
        assert isinstance(kind, inspect.StructType)
        fields = [field.encode_name for field in kind.fields if field.encode_name != NO_KEY]
        return _valid(fields if kind.tag_field is None else [kind.tag_field, *fields])
    if isinstance(kind, inspect.EnumType):
        return _valid(str(member.value) for member in kind.cls)
    if isinstance(kind, inspect.LiteralType):
        return _valid(map(str, kind.values))
    return ""


def _member(kind: inspect.Type, data: Any, key: Key) -> inspect.Type:
    """The type of what is at ``key`` in data of this type."""
    tags = [one for one in _structs(kind) if one.tag_field == key]
    if tags:
        return inspect.LiteralType(values=tuple(str(one.tag) for one in tags))
    kind = _of_data(kind, data)
    if isinstance(kind, inspect.DictType):
        return kind.value_type
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return kind.item_type
    if isinstance(kind, inspect.StructType):
        return next(field.type for field in kind.fields if field.encode_name == key)
    return inspect.AnyType()


def _of_data(kind: inspect.Type, data: Any) -> inspect.Type:
    """The member of a union that data of this form is read as."""
    if not isinstance(kind, inspect.UnionType):
        return kind
    if isinstance(data, dict):
        structs = _structs(kind)
        tagged = [one for one in structs if one.tag == data.get(one.tag_field or "")]
        others = [one for one in kind.types if isinstance(one, inspect.DictType)]
        return next(iter([*tagged, *structs, *others]), inspect.AnyType())
    if isinstance(data, list):
        arrays = (inspect.VarTupleType, inspect.ListType)
        return next((one for one in kind.types if isinstance(one, arrays)), inspect.AnyType())
    values = (inspect.EnumType, inspect.LiteralType)
    return next((one for one in kind.types if isinstance(one, values)), inspect.AnyType())


def _structs(kind: inspect.Type) -> list[inspect.StructType]:
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [one for one in kinds if isinstance(one, inspect.StructType)]


def _has(data: Any, key: Key) -> bool:
    return (isinstance(data, dict) and key in data) or (
        isinstance(data, list) and isinstance(key, int) and key < len(data)
    )


def _valid(names: Iterable[str]) -> str:
    return f"valid: {', '.join(names)}"
