"""How a running server is, asked over HTTP."""

from __future__ import annotations

import email.utils
import http.client
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexus_core.text import printable
from nexus_health.doctor.findings import Finding, Level, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 10.0
MAX_BYTES = 1024 * 1024
SKEW_SECONDS = 30.0
"""By how much clocks may differ before tokens are refused: the default of ``jwt_leeway``."""

ADVICE = {
    "store": "start what `store` names, or set its address (redis_url, sqlite_path)",
    "redis": "start Redis, or set redis_url (NEXUS_REDIS_URL, REDIS_URL) to where it is",
    "sqlite": "make room and give this user the file, or set sqlite_path (NEXUS_SQLITE_PATH) to another one",
    "auth_keys": "make the issuer reachable, or mend auth_service_url, jwt_issuer and jwt_jwks_url",
    "event_loop": "make async workflows and checks that compute or block sync ones: those run in threads",
    "places": "raise max_concurrent_workflows, start more processes, or find what holds the places: nexus runs list",
    "plugins": "nexus plugins check",
}
"""What to do about the checks of the core and of first-party plugins."""


def server(url: str, token: str | None) -> Iterator[Finding]:
    """Ask a server how it is.

    Args:
        url: The address of its command-line port, such as ``http://127.0.0.1:8001``, or of the API's.
        token: A credential that it accepts, for those that ask for one.
    """
    try:
        status, date, body = _asked(url, token)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        yield problem(
            "server", url, f"it can't be reached: {printable(str(exc) or type(exc).__name__, 200)}",
            "is nexus serve running there? Give its address: --connect http://127.0.0.1:8001",
        )  # fmt: skip
        return
    yield _clock(date)
    if isinstance(body, dict) and isinstance(body.get("checks"), dict):
        yield from of_report(body)
    else:
        yield _refusal(url, status, body)


def _asked(url: str, token: str | None) -> tuple[int, str | None, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("this is not a URL such as http://127.0.0.1:8001")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=SECONDS)
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = token if " " in token.strip() else f"Bearer {token}"
    try:
        connection.request("GET", f"{parts.path.rstrip('/').removesuffix('/cli')}/health", headers=headers)
        response = connection.getresponse()
        text = response.read(MAX_BYTES)
    finally:
        connection.close()
    try:
        return response.status, response.headers.get("Date"), json.loads(text)
    except ValueError:
        return response.status, response.headers.get("Date"), None


def _refusal(url: str, status: int, body: Any) -> Finding:
    said = printable(str(body.get("detail", "")), 200) if isinstance(body, dict) else "no problem details"
    advice = {
        401: "give a credential: --token, or NEXUS_TOKEN",
        403: "the credential needs the permission health.read",
        421: "use the address of the machine, or 127.0.0.1",
    }.get(status, "the server needs the plugin health and enable_health_checks; is this its command-line port?")
    return problem("server", url, f"it answered {status}: {said}", advice)


def _clock(date: str | None) -> Finding:
    try:
        ahead = email.utils.parsedate_to_datetime(date or "").timestamp() - time.time()
    except (TypeError, ValueError):
        return Finding("clock", "server", "it does not say what time it has")
    if abs(ahead) > SKEW_SECONDS:
        text = f"its clock and this one differ by {abs(ahead):.0f} s"
        return warning("clock", "server", text, "set both clocks (NTP): tokens and sessions end by them")
    return Finding("clock", "server", "its clock and this one agree")


def of_report(report: dict[str, Any], section: str = "checks") -> Iterator[Finding]:
    """Say what a report on a platform's health means.

    Args:
        report: What ``GET /health`` answers.
        section: Where it belongs.
    """
    for name, each in report["checks"].items():
        subject, is_critical = printable(str(name)), each.get("critical", True)
        if each.get("status") == "healthy":
            took = f" in {each['latency_ms']} ms" if "latency_ms" in each else ""
            yield Finding(section, subject, f"healthy{took}")
            continue
        error = printable(str(each.get("error") or "it did not say why"), 400)
        level = Level.PROBLEM if is_critical else Level.WARNING
        advice = ADVICE.get(subject, f"see what check_{subject.partition('.')[0]} looks at, and why it does not work")
        yield Finding(section, subject, f"unhealthy: {error}", level, advice)
    for name, reason in report.get("failed_plugins", {}).items():
        yield problem(
            "plugins",
            printable(str(name)),
            printable(str(reason), 400),
            f"nexus plugins check {printable(str(name))} there",
        )
