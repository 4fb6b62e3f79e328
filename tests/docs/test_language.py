"""Texts that users read hold no phrase of the list below: use the field's standard terms.

Checked are the pages (README.md, docs/, the plugins' READMEs), all string literals of more than one word in
``nexus_core`` and the plugins (among them option descriptions, errors, log lines and command helps), and public
docstrings.

To see what is left in a part of the tree, with the place of each hit and what to say instead::

    python tests/docs/test_language.py plugins/auth

A phrase belongs on the list only if it is wrong wherever it stands: what a reader must judge is not for a test.
"""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "services"))

from doc_pages import ROOT
from user_facing_text import everything

FORBIDDEN = {
    r"nobody|no one": "name the component: 'authentication is off', 'no caller', 'no plugin'",
    r"somebody|anybody|someone else": "the caller, another caller, the user",
    r"whoever|strangers?": "the caller, third parties, the component",
    r"who asks|who calls|who it is|those who|who(?:se)? word": "the caller, the principal, authentication",
    r"made out for": "issued for, has the audience",
    r"what proves": "the client secret, the credential",
    r"those that": "name them: 'options that', 'plugins that'",
    r"none of these|there is none|(?-i:(?:is|are) none)": "invalid, missing, unknown, not found; 'does not exist'",
    r"unless it is said|(?:where|as) it is said|says otherwise": "Default: ...",
    r"of its own|of their own": "separate, its own X, dedicated; or nothing",
    r"anew": "again, new, reload",
    r"beside": "next to, in addition to, alongside, on the channel's port",
    r"what follows": "a group of commands; name it",
    r"this once": "once",
    r"what is wrong": "the error, the problem",
    r"what there is": "what is available, the list of X",
    r"is told|are told|hears? of": "is notified, receives",
    r"tells? (?:whether|what|how|who|others)": "reports, logs, returns",
    r"looks? (?:how|whether|after)": "checks, polls, monitors, manages",
    r"asks? (?:who|whether|nobody|every|each|everybody)": "authenticates, checks, queries",
    r"knows? (?:nothing|nobody|of|who)": "recognises, has, is registered",
    r"goes on by (?:itself|themselves)|go on by (?:itself|themselves)": "runs in the background",
    r"sees? to (?:it|that)": "ensures",
    r"protocol eras?|both eras": "protocol versions",
    r"is the operator's to": "is a configuration error",
    r"as (?:it|they) likes?|perhaps|at will": "optionally, may",
    r"to be careful|for others to see": "name the mechanism",
    r"who only looks?|only looks?": "read requests",
    r"what goes on": "name it: the stream, the run, the result",
    r"(?:is|are) not worked on": "is not processed",
    r"say different things": "are set to different values",
    r"went wrong inside": "internal error",
    r"comes back with": "resumes with, sends",
    r"and whatever (?:they|it|you)": "name it",
    r"^Gives? ": "Return",
    r"^Looks? ": "Check",
    r"^Tells? ": "Return, report, log",
}
"""Patterns, matched without regard to case, and what to say instead."""

PARTS = sorted(
    {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("plugins/*/pyproject.toml")}
    | {path.relative_to(ROOT).as_posix() for path in ROOT.glob("nexus_core/*/") if path.name != "__pycache__"}
    | {"nexus_core", "docs", "README.md"}
)  # fmt: skip


def compiled(pattern: str) -> re.Pattern[str]:
    whole = pattern if pattern.startswith("^") else rf"(?<![\w.-])(?:{pattern})(?![\w-])"
    return re.compile(whole, re.IGNORECASE)


PHRASES = [(compiled(pattern), instead) for pattern, instead in FORBIDDEN.items()]


@functools.cache
def texts_of_parts() -> dict[str, list[tuple[str, str]]]:
    """Return the texts of each part: the longest one that a place begins with."""
    found: dict[str, list[tuple[str, str]]] = {part: [] for part in PARTS}
    for place, text in everything():
        path = place.rpartition(":")[0]
        part = max((each for each in PARTS if path == each or path.startswith(f"{each}/")), key=len)
        found[part].append((place, text))
    return found


def hits(part: str) -> list[str]:
    """Return what is to be changed in a part: place, phrase, the field's word for it, and the text around."""
    found = []
    for place, text in texts_of_parts()[part]:
        for phrase, instead in PHRASES:
            for match in phrase.finditer(text):
                around = text[max(0, match.start() - 50) : match.end() + 40]
                found.append(f"{place}: '{match[0].strip()}' -> {instead}\n        ...{around}...")
    return found


@pytest.mark.parametrize("part", PARTS)
def test_no_phrase_of_the_list_is_used(part: str) -> None:
    found = hits(part)
    assert found == [], f"{len(found)} phrases in {part}:\n" + "\n".join(found)


if __name__ == "__main__":
    for argument in sys.argv[1:] or PARTS:
        problems = hits(argument)
        print(*problems, f"{argument}: {len(problems)}", sep="\n")
