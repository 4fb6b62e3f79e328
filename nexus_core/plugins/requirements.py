"""Version requirements (PEP 440 and PEP 508), as far as a plugin's requirement on the core needs them.

``packaging`` would do this, but listing and switching off plugins must work on the standard library alone.
Only the release counts: 0.2.0rc1, 0.2.0.post1 and 0.2.0+local are taken for 0.2.0, and the epoch is ignored.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*(?:\[[^]]*])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?$")
_CLAUSE = re.compile(r"^\s*(===|==|!=|~=|>=|<=|>|<)\s*(\S+)\s*$")
_WORD = re.compile(r"""'[^']*'|"[^"]*"|[()]|===|==|!=|~=|>=|<=|>|<|[A-Za-z_]+""")
_OPERATORS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": lambda have, want: have >= want,
    "<=": lambda have, want: have <= want,
    ">": lambda have, want: have > want,
    "<": lambda have, want: have < want,
    "==": lambda have, want: have == want,
    "===": lambda have, want: have == want,
    "!=": lambda have, want: have != want,
}


def unmet_requirement(requires: Iterable[str], name: str, installed: str) -> str | None:
    """Return the requirement on a distribution that its installed version does not meet, or None.

    Args:
        requires: ``Requires-Dist`` lines. Those with a marker count where it holds here.
        name: The distribution asked about.
        installed: Its version.
    """
    for line in requires:
        match = _REQUIREMENT.match(line)
        if match is None or match[1].lower().replace("_", "-").replace(".", "-") != name:
            continue
        if match[3] and not holds(match[3]):
            continue
        if not all(_meets(installed, clause) for clause in match[2].split(",") if clause.strip()):
            return line.split(";")[0].strip()
    return None


def holds(marker: str) -> bool:
    """Whether an environment marker (PEP 508) holds here. One that can't be read does not."""
    words = _WORD.findall(marker)[::-1]
    try:
        value = _either(words)
    except (IndexError, KeyError):
        return False
    return value and not words


def _either(words: list[str]) -> bool:
    value = _both(words)
    while words and words[-1] == "or":
        words.pop()
        value = _both(words) or value
    return value


def _both(words: list[str]) -> bool:
    value = _one(words)
    while words and words[-1] == "and":
        words.pop()
        value = _one(words) and value
    return value


def _one(words: list[str]) -> bool:
    if words[-1] == "(":
        words.pop()
        value = _either(words)
        if words.pop() != ")":
            raise KeyError("not a marker")
        return value
    left, operator = words.pop(), words.pop()
    if operator == "not":
        operator = f"not {words.pop()}"
    right = words.pop()
    have, want = _value(left), _value(right)
    if operator in ("in", "not in"):
        return (have in want) == (operator == "in")
    if {left, right} & {"python_version", "python_full_version"}:
        return _meets(have, f"{operator}{want}")
    return {"==": have == want, "===": have == want, "!=": have != want}[operator]


def _value(word: str) -> str:
    """Return what a word of a marker stands for."""
    if word[0] in "'\"":
        return word[1:-1]
    return {
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "python_full_version": platform.python_version(),
        "os_name": os.name,
        "sys_platform": sys.platform,
        "platform_machine": platform.machine(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_python_implementation": platform.python_implementation(),
        "implementation_name": sys.implementation.name,
        "extra": "",
    }[word]


def _meets(installed: str, clause: str) -> bool:
    match = _CLAUSE.match(clause)
    if match is None:
        return True
    operator, wanted = match.groups()
    have, want = _release(installed), _release(wanted)
    have += (0,) * (len(want) - len(have))
    if operator == "~=":
        return _padded(have, want, ">=") and have[: len(want) - 1] == want[:-1]
    if wanted.endswith(".*"):
        return (have[: len(want)] == want) == (operator == "==")
    return _padded(have, want, operator)


def _padded(have: tuple[int, ...], want: tuple[int, ...], operator: str) -> bool:
    length = max(len(have), len(want))
    return _OPERATORS[operator](have + (0,) * (length - len(have)), want + (0,) * (length - len(want)))


def _release(text: str) -> tuple[int, ...]:
    match = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()
