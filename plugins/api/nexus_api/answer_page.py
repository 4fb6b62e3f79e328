"""The HTML pages of a link to a question: the question with its form, and what became of an answer."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nexus_api.answer_form import AnswerForm, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.errors import NexusError
    from nexus_core.runs.question import RunQuestion

_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 40rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; white-space: pre-line; }
.hint, footer, dt { opacity: .75; }
.hint { margin: .2rem 0 .8rem; }
dt { margin-top: .6rem; }
dd { margin: 0; white-space: pre-wrap; }
pre { margin: 0; white-space: pre-wrap; }
label, fieldset { display: block; margin: .8rem 0 .2rem; }
input:not([type=radio]), select, textarea { display: block; width: 100%; box-sizing: border-box; padding: .4rem; font: inherit; }
label.choice { margin: .2rem 0; }
button { font: inherit; padding: .5rem 1.5rem; }
.error { color: #c00; margin: .2rem 0 .8rem; }
@media (prefers-color-scheme: dark) { .error { color: #f77; } }
"""  # noqa: E501  (a rule of CSS is one line)

HEADERS = {
    # No script runs, whatever a question contains. Forms go to this address alone, and no page can show it in a frame.
    "content-security-policy": (
        "default-src 'none'; style-src 'sha256-"
        + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
        + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",  # the address is a credential
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
    "vary": "Accept",
}
"""Headers of every answer below the links, in JSON too."""


def question_page(
    question: RunQuestion,
    form: AnswerForm,
    sent: Mapping[str, str] | None = None,
    wrong: Mapping[str, str] | None = None,
) -> str:
    """Return the page of an open question.

    Args:
        question: The question.
        form: The form for its answer.
        sent: What was typed before, or None.
        wrong: The errors, by JSON pointers into the body of an answer.
    """
    until = "" if question.expires_at is None else f"<p>It can be answered until {_time(question.expires_at)}.</p>"
    details = "" if not question.details else f"<dl>{''.join(map(_detail, question.details.items()))}</dl>"
    return _page(
        f"Question of {question.workflow}",
        f"<p>The workflow <strong>{text(question.workflow)}</strong> asks:</p><h1>{text(question.text)}</h1>{details}"
        # Without an action, the form goes to the address of the page, whatever prefix a proxy has put before it.
        f'<form method="post" accept-charset="utf-8" autocomplete="off">{form.html(sent, wrong)}</form>'
        f"<footer>{until}<p>It is answered once. Run {text(question.run_id)}, question {question.number}.</p></footer>",
    )


def thanks_page(question: RunQuestion) -> str:
    """Return the page after an answer."""
    return _page(
        "Thank you",
        f"<h1>Thank you</h1><p>The workflow <strong>{text(question.workflow)}</strong> has your answer to:</p>"
        f"<blockquote>{text(question.text)}</blockquote>",
    )


def error_page(error: NexusError) -> str:
    """Return the page of an error, such as a link that was used before."""
    return _page(error.title, f"<h1>{text(error.title)}</h1><p>{text(error.message)}</p>")


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def _detail(member: tuple[str, Any]) -> str:
    name, value = member
    shown = text(value) if isinstance(value, str) else f"<pre>{text(_indented(value))}</pre>"
    return f"<dt>{text(name)}</dt><dd>{shown}</dd>"


def _indented(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return f'<time datetime="{moment.isoformat(timespec="seconds")}">{moment:%Y-%m-%d %H:%M} UTC</time>'
