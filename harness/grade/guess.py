# SPDX-License-Identifier: GPL-2.0-only
"""A contract proposed from a submission's sources, and how sure each line of it is.

Nothing of the submission is run.  What is found in a source is said with its place; what
is not is what the course's handout says, or most people do, and is marked as a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.grade.submission import Submission, changed_texts

FOUND, GUESSED, MISSING = "found", "guessed", "not found"

# What people call the two calls.
_SET_NAME = r"\w*set_\w*limit\w*"
_KILLER_NAME = r"\w*oom_?kill\w*"

# label before a number in a format string: the group of the log line
_LABELS = (
    ("uid", r"uid|user"),
    ("uRSS", r"u_?rss|user_?rss|total"),
    ("mm_max", r"mm_?max|max|limit"),
    ("pRSS", r"p_?rss|rss"),
    ("pid", r"pid|process|killed?"),
)
_HANDOUT = ("uid", "uRSS", "mm_max", "pid", "pRSS")
_CONVERSION = re.compile(r"%(?:\d*)(?:l{0,2}|z)([diuxs])")

# words in the name of a selector: its policy
_SELECTORS = (
    ("rss", r"RSS"),
    ("runtime", r"RUN_?TIME|TIME"),
    ("badness", r"BAD|WORST"),
)


@dataclass(frozen=True)
class Finding:
    """A value, how sure it is, and where it was found or why it is taken."""

    value: str
    how: str
    why: str


@dataclass
class Guess:
    """A contract as text; ``findings`` are by what they are about."""

    text: str
    findings: dict[str, Finding] = field(default_factory=dict)


def guess(one: Submission) -> Guess:
    """Read the sources of a submission and propose its contract."""
    texts = changed_texts(one)
    found = {
        "set-mm-limits.number": _number(texts, _SET_NAME),
        "set-mm-limits.arguments": _arguments(texts),
        "set-mm-limits.unit": _unit(texts),
        "my-oom-killer.number": _number(texts, _KILLER_NAME),
        "modules.folder": _modules_folder(texts),
        "log.kill": _log_line(texts),
    }
    policies = dict(_policies(texts))
    found |= {f"policy.{name}": finding for name, finding in policies.items()}
    modules = tuple(_modules(texts))
    return Guess(text=_toml(one, found, policies, modules), findings=found)


def _searched(texts: Mapping[str, str], pattern: str) -> Iterator[tuple[str, re.Match[str]]]:
    compiled = re.compile(pattern, re.MULTILINE)
    for name, text in texts.items():
        for match in compiled.finditer(text):
            yield f"{name}:{text.count(chr(10), 0, match.start()) + 1}", match


def _number(texts: Mapping[str, str], called: str) -> Finding:
    """The number of a system call: in a header, a table, a module that patches the table, or
    a program that makes the call."""
    base = r"\(?\s*(?:__NR_SYSCALL_BASE\s*\+\s*)?"
    for pattern, why in (
        (rf"^\s*(\d+)\s+\w+\s+{called}\s+\w+", "the table in"),
        (rf"^\s*#\s*define\s+__NR_{called}\s+{base}(\d+)", "__NR_ in"),
        (
            rf"sys_call_table\s*\[\s*(\w+)\s*\]\s*=[^;\n]*{called}",
            "the slot overwritten in",
        ),
        (rf"^\s*#\s*define\s+\w*{called}\w*\s+{base}(\d+)\b", "the define in"),
    ):
        for place, match in _searched(texts, f"(?i){pattern}"):
            number = match[1] if match[1].isdigit() else _defined(texts, match[1])
            if number is not None:
                return Finding(number, FOUND, f"{why} {place}")
    return Finding("0", MISSING, "neither a header nor a table nor a module names it")


def _defined(texts: Mapping[str, str], name: str) -> str | None:
    matches = _searched(texts, rf"^\s*#\s*define\s+{re.escape(name)}\s+\(?(\d+)")
    return next((match[1] for _, match in matches), None)


def _definitions(texts: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """(place, names of the two arguments) of functions that set a limit."""
    argument = r"[\w ]+?[ *](\w+)\s*"
    plain = rf"{_SET_NAME}\s*\(\s*{argument},\s*{argument}(?:,[^)]*)?\)\s*\{{"
    macro = rf"SYSCALL_DEFINE[23]\s*\(\s*{_SET_NAME}\s*,[^,]+,\s*(\w+)\s*,[^,]+,\s*(\w+)\s*[,)]"
    for pattern in (macro, plain):
        for place, match in _searched(texts, pattern):
            yield place, (match[1], match[2])


def _arguments(texts: Mapping[str, str]) -> Finding:
    for place, (first, second) in _definitions(texts):
        if "uid" in first.lower():
            return Finding('["uid", "mm_max"]', FOUND, f"the function at {place}")
        if "uid" in second.lower():
            return Finding('["mm_max", "uid"]', FOUND, f"the function at {place}")
    return Finding('["uid", "mm_max"]', GUESSED, "as in the handout")


def _unit(texts: Mapping[str, str]) -> Finding:
    for place, (first, second) in _definitions(texts):
        limit = first if "uid" in second.lower() else second
        for unit, change in (
            ("pages", rf"{limit}\s*(?:<<=?\s*PAGE_SHIFT|\*=?\s*PAGE_SIZE)"),
            ("kB", rf"{limit}\s*(?:<<=?\s*10\b|\*=?\s*1024\b)"),
            ("bytes", rf"{limit}\s*(?:>>=?\s*PAGE_SHIFT|/=?\s*PAGE_SIZE)"),
        ):
            if any(_searched(texts, change)):
                return Finding(f'"{unit}"', FOUND, f"what is done with {limit} of {place}")
    return Finding('"bytes"', GUESSED, "as in the handout")


def _modules(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(folder, module) in the order of loading: those that set limits first."""
    found = [
        (str(Path(place.rpartition(":")[0]).parent), module)
        for place, match in _searched(texts, r"^\s*obj-m\s*[:+]?=\s*(.*)$")
        for module in re.findall(r"([\w-]+)\.o\b", match[1])
        if not place.startswith(("drivers/", "mm/", "kernel/"))
    ]
    yield from sorted(dict.fromkeys(found), key=lambda one: "limit" not in one[1].lower())


def _modules_folder(texts: Mapping[str, str]) -> Finding:
    folders = list(dict.fromkeys(folder for folder, _ in _modules(texts)))
    if not folders:
        return Finding("", GUESSED, "there is no obj-m: it has no modules")
    parents = {str(Path(folder).parent) for folder in folders}
    if len(folders) == 1:
        return Finding(folders[0], FOUND, f"obj-m in {folders[0]}")
    if len(parents) == 1:
        return Finding(parents.pop(), FOUND, f"obj-m in {', '.join(folders)}")
    return Finding(folders[0], GUESSED, f"obj-m is in {', '.join(folders)}: only one is built")


def _log_line(texts: Mapping[str, str]) -> Finding:
    string = r'"((?:[^"\\\n]|\\.)*)"'
    best: tuple[int, str, str] | None = None
    in_order: tuple[str, str] | None = None
    printing = rf"\b(?:printk|pr_\w+)\s*\(\s*(?:KERN_\w+\s*)?{string}((?:\s*{string})*)"
    for place, match in _searched(texts, printing):
        text = match[1] + "".join(re.findall(string, match[2] or ""))
        pattern, groups = _pattern(text)
        if "total-vm" in text:  # the kernel's own
            continue
        score = len(groups)
        if {"uid", "pid"} <= set(groups) and (best is None or score > best[0]):
            best = (score, pattern, place)
        numbers = len(_CONVERSION.findall(text))
        if best is None and in_order is None and re.search("(?i)kill", text) and numbers >= 5:
            in_order = (_pattern(text, in_order=True)[0], place)
    if best is not None:
        return Finding(best[1], FOUND, f"what is printed at {best[2]}")
    if in_order is not None:
        why = f"what is printed at {in_order[1]}, its numbers in the order of the handout's"
        return Finding(in_order[0], GUESSED, why)
    handout, _ = _pattern("uid=%d, uRSS=%d, mm_max=%d, pid=%d, pRSS=%d")
    return Finding(handout, GUESSED, "as in the handout")


def _pattern(text: str, *, in_order: bool = False) -> tuple[str, Sequence[str]]:
    """A format string as a regular expression, and the groups that it has.

    ``in_order``: by the order of the numbers, not by what is before them.
    """
    text = re.sub(r"\\[nr]", "", text).replace(r"\t", "\t").replace(r"\"", '"')
    pattern, groups, end = "", list[str](), 0
    for match in _CONVERSION.finditer(text):
        before = text[end : match.start()]
        pattern += re.sub(r"(?:\\?[ \t])+", r"\\s*", re.escape(before))
        end = match.end()
        label = re.search(r"(\w+)\W*$", before)
        if in_order:
            group = _HANDOUT[len(groups)] if len(groups) < len(_HANDOUT) else None
        else:
            group = _group(label[1] if label else "", groups)
        number = r"\S*" if match[1] == "s" else r"-?\d+" if group == "score" else r"\d+"
        if match[1] == "s" or group is None:
            pattern += number
        else:
            groups.append(group)
            pattern += f"(?P<{group}>{number})"
    pattern += re.sub(r"(?:\\?[ \t])+", r"\\s*", re.escape(text[end:].rstrip()))
    # The contract has it between these.
    return pattern.replace("'", r"\x27"), groups


def _group(label: str, taken: Sequence[str]) -> str | None:
    for group, words in _LABELS:
        if group not in taken and re.fullmatch(words, label, re.IGNORECASE):
            return group
    return "score" if "pid" in taken and "score" not in taken else None


def _policies(texts: Mapping[str, str]) -> Iterator[tuple[str, Finding]]:
    """The policies that Kconfig symbols or #ifdefs select; else the handout's one."""
    found = False
    for kind, pattern in (
        ("config", r"^\s*config\s+(\w*(?:OOM|KILL|RSS|BAD|WORST|TIME)\w*)\s*$"),
        ("define", r"^\s*#\s*(?:el)?if(?:def\s+|\s+defined\s*\(?\s*)(\w+)"),
    ):
        names = dict.fromkeys((m[1], place) for place, m in _searched(texts, pattern))
        for policy, words in _SELECTORS:
            for name, place in names:
                if re.search(words, name) and re.search(r"OOM|KILL|POLICY|MY_", name):
                    found = True
                    value = f'config = {{ CONFIG_{name} = "y" }}' if kind == "config" else ""
                    yield (
                        policy,
                        Finding(value or f'define = "{name}"', FOUND, f"{name} at {place}"),
                    )
                    break
        if found:
            return
    yield "rss", Finding("", GUESSED, "the handout's: the process with the highest RSS")


def _toml(
    one: Submission,
    found: Mapping[str, Finding],
    policies: Mapping[str, Finding],
    modules: Sequence[tuple[str, str]],
) -> str:
    def said(key: str) -> str:
        return f"# {found[key].how}: {found[key].why}"

    called = re.sub(r"[^\w.-]+", "-", one.name)
    lines = [
        f"# Proposed from the sources of {one.name}: see whether it is right, above all what is",
        "# not marked as found.  docs/grading.md explains the keys.",
        f'name = "{called}"',
        "",
        "[set-mm-limits]",
        f"number = {found['set-mm-limits.number'].value}  {said('set-mm-limits.number')}",
        f"arguments = {found['set-mm-limits.arguments'].value}  {said('set-mm-limits.arguments')}",
        f"unit = {found['set-mm-limits.unit'].value}  {said('set-mm-limits.unit')}",
    ]
    if found["my-oom-killer.number"].how == FOUND:
        number = found["my-oom-killer.number"]
        lines += ["", "[my-oom-killer]", f"number = {number.value}  {said('my-oom-killer.number')}"]
    if modules:
        names = ", ".join(f'"{name}.ko"' for _, name in modules)
        lines += ["", "[modules]", f"folder = {json.dumps(found['modules.folder'].value)}"]
        lines[-1] += f"  {said('modules.folder')}"
        lines.append(f"load = [{names}]")
    lines += ["", "[log]", said("log.kill"), f"kill = '{found['log.kill'].value}'"]
    types = {"rss": 0, "runtime": 1, "badness": 2}
    for name, finding in policies.items():
        lines += ["", f"[policy.{name}]  {said(f'policy.{name}')}"]
        lines += [finding.value] if finding.value else []
        if found["my-oom-killer.number"].how == FOUND:
            lines.append(f"type = {types[name]}  # {GUESSED}: the order of the report")
    return "\n".join(lines) + "\n"
