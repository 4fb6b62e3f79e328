"""Text in messages: what a terminal or a reader's eye would obey is escaped, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_core import Context, Invocation, ValidationError
from nexus_core.text import escaped, printable

ORDINARY = {
    "no-break space": "10\u00a0000 €",
    "narrow no-break space": "10\u202f000",
    "ideographic space": "東京\u3000都",
    "thin and hair spaces": "a\u2009b\u200ac",
    "emoji with joiners": "👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈",
    "a flag of tags": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Khmer": "ភាសា\u200bខ្មែរ",
    "soft hyphen": "Donau\u00addampf",
    "combining marks": "e\u0301 n\u0303",
    "Hebrew with marks": "\u200f\u05e9\u05dc\u05d5\u05dd\u200e abc",
    "private use": "\ue000",
    "unassigned": "\u0378",
}
HOSTILE = {
    "escape": ("\x1b[31m", r"\u001b[31m"),
    "line breaks": ("a\r\nb", r"a\u000d\u000ab"),
    "C1 control": ("\x9b2J", r"\u009b2J"),
    "delete": ("\x7f", r"\u007f"),
    "null": ("\x00", r"\u0000"),
    "next line": ("\x85", r"\u0085"),
    "line separators": ("\u2028\u2029", r"\u2028\u2029"),
    "bidi override": ("\u202etxt.exe\u202c", r"\u202etxt.exe\u202c"),
    "bidi isolate": ("\u2066a\u2069", r"\u2066a\u2069"),
    "lone surrogate": ("\ud800", r"\ud800"),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_text_stays(name: str) -> None:
    assert printable(ORDINARY[name]) == escaped(ORDINARY[name]) == ORDINARY[name]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_be_obeyed_is_escaped(name: str) -> None:
    text, shown = HOSTILE[name]
    assert printable(text) == escaped(text) == shown


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=150))
def test_every_text_is_one_line_that_can_be_written_and_json_stays_the_same(text: str) -> None:
    shown = printable(text)
    assert len(shown) <= 100
    assert len(shown.splitlines()) <= 1
    shown.encode()
    document = json.dumps(text, ensure_ascii=False)
    assert json.loads(escaped(document)) == text


class Order(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def _check(cls, name: str) -> str:
        raise ValueError(f"{name} is taken")


@pytest.mark.parametrize("name", ORDINARY)
async def test_progress_and_messages_of_validators_keep_it(make: Any, name: str) -> None:
    text = ORDINARY[name]

    async def work(context: Context) -> None:
        context.progress(1, 2, text)
        context.progress(2, 2, f"{text}\u202e")

    async def check(order: Order) -> None: ...

    nexus = make()
    nexus.register("work", work)
    nexus.register("check", check)
    run = nexus.submit(Invocation("work", {}))
    await run.outcome()
    messages = [event.data["message"] for event in run.events if event.type == "workflow.progress"]
    assert messages == [text, f"{text}\\u202e"]
    with pytest.raises(ValidationError) as caught:
        await nexus.invoke("check", {"order": {"name": text}})
    assert caught.value.errors[0]["message"] == f"Value error, {text} is taken"
