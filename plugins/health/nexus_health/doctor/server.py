"""The health of a running server, over HTTP."""

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
"""Tolerated clock difference: the default of ``jwt_leeway``."""

ADVICE = {
    "store": "start the server behind the option `store`, or set its address (redis_url, sqlite_path)",
    "redis": "start Redis, or set redis_url (NEXUS_REDIS_URL, REDIS_URL)",
    "sqlite": "free disk space and make the file writable, or set sqlite_path (NEXUS_SQLITE_PATH) to another file",
    "auth_keys": "make the issuer reachable, or correct auth_service_url, jwt_issuer and jwt_jwks_url",
    "event_loop": "make async workflows and checks sync if they compute or block: sync ones run in threads",
    "places": "raise max_concurrent_workflows, start more processes, or find long runs: nexus runs list",
    "plugins": "nexus plugins check",
}
"""Advice for the checks of the core and of first-party plugins."""


def server(url: str, token: str | None) -> Iterator[Finding]:
    """Examine a server.

    Args:
        url: The URL of its command-line port, such as ``http://127.0.0.1:8001``, or of its API.
        token: A credential, if authentication is on.
    """
    try:
        status, date, body = _get_health(url, token)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        yield problem(
            "server", url, f"not reachable: {printable(str(exc) or type(exc).__name__, 200)}",
            "start nexus serve, or correct the URL: --connect http://127.0.0.1:8001",
        )  # fmt: skip
        return
    yield _clock(date)
    if isinstance(body, dict) and isinstance(body.get("checks"), dict):
        yield from findings_of_report(body)
    else:
        yield _refusal(url, status, body)


def _get_health(url: str, token: str | None) -> tuple[int, str | None, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not a URL such as http://127.0.0.1:8001")
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
        401: "pass a credential with --token or NEXUS_TOKEN",
        403: "the credential needs the permission health.read",
        421: "use the IP address of the machine, or 127.0.0.1",
    }.get(status, "is this the command-line port, and are the plugin health and enable_health_checks on?")
    return problem("server", url, f"it answered {status}: {said}", advice)


def _clock(date: str | None) -> Finding:
    try:
        ahead = email.utils.parsedate_to_datetime(date or "").timestamp() - time.time()
    except (TypeError, ValueError):
        return Finding("clock", "server", "the server sends no time")
    if abs(ahead) > SKEW_SECONDS:
        text = f"the clocks of server and client differ by {abs(ahead):.0f} s"
        return warning("clock", "server", text, "set both clocks (NTP): tokens and sessions expire by them")
    return Finding("clock", "server", "the clocks of server and client agree")


def findings_of_report(report: dict[str, Any], section: str = "checks") -> Iterator[Finding]:
    """Return the findings of a health report.

    Args:
        report: The response of ``GET /health``.
        section: The section of the findings.
    """
    for name, each in report["checks"].items():
        subject, is_critical = printable(str(name)), each.get("critical", True)
        if each.get("status") == "healthy":
            took = f" in {each['latency_ms']} ms" if "latency_ms" in each else ""
            yield Finding(section, subject, f"healthy{took}")
            continue
        error = printable(str(each.get("error") or "no reason given"), 400)
        level = Level.PROBLEM if is_critical else Level.WARNING
        advice = ADVICE.get(subject, f"fix what check_{subject.partition('.')[0]} reports")
        yield Finding(section, subject, f"unhealthy: {error}", level, advice)
    for name, reason in report.get("failed_plugins", {}).items():
        yield problem(
            "plugins",
            printable(str(name)),
            printable(str(reason), 400),
            f"on the server: nexus plugins check {printable(str(name))}",
        )
