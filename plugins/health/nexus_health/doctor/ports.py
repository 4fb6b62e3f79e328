"""The ports of the channels: free, or which process uses them."""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus_core.options.settings import ENV_PREFIX
from nexus_core.text import printable
from nexus_health.doctor.findings import Finding, problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nexus_core.options.settings import PluginSettings

ASK_SECONDS = 1.0
"""Time limit for asking a port whether it is a Nexus."""

MAX_BYTES = 64 * 1024


def ports(host: str, wanted: Iterable[tuple[str, int]]) -> Iterator[Finding]:
    """Examine ports.

    Args:
        host: The address to listen on.
        wanted: Options and their ports. Several may share one.
    """
    by_port: dict[int, list[str]] = {}
    for option, number in wanted:
        by_port.setdefault(number, []).append(option)
    for number, options in by_port.items():
        yield port(host, number, options) if number else Finding("ports", options[0], "any free port")


def ports_of_options(every_settings: Iterable[PluginSettings]) -> list[tuple[str, int]]:
    """Return the ports named by options, if there are no channels."""
    found = []
    for model in every_settings:
        for name in type(model).model_fields:
            value = getattr(model, name)
            if name.endswith("_port") and type(value) is int:
                found.append((name, value))
    return found


def port(host: str, number: int, options: Sequence[str]) -> Finding:
    """Examine a port."""
    subject, shown = options[0], f"{host}:{number} ({', '.join(options)})"
    variable = f"{ENV_PREFIX}{subject.upper()}"
    try:
        _bind(host, number)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            advice = "use a port above 1023" if exc.errno == errno.EACCES else "set host to an address of this machine"
            return problem("ports", subject, f"{shown} can't be listened on: {exc.strerror or exc}", advice)
    except (ValueError, OverflowError) as exc:
        return problem("ports", subject, f"{shown} can't be listened on: {exc}", f"set {subject} ({variable})")
    else:
        return Finding("ports", subject, f"{shown} is free")
    user = _user(number)
    who = _probe(host, number)
    if who is not None:
        return Finding(
            "ports", subject, f"{shown} is in use by {who}{user}", advice="stop it before you start another one"
        )
    return problem(
        "ports", subject, f"{shown} is in use by another program{user}",
        f"set {subject} ({variable}) to a free port, or stop that program",
    )  # fmt: skip


def _bind(host: str, number: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)


def _probe(host: str, number: int) -> str | None:
    """Return what listens on a port if it is a Nexus, else None."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  (nothing is bound)
    connection = http.client.HTTPConnection(here, number, timeout=ASK_SECONDS)
    try:
        connection.request("GET", "/health/live")
        body = json.loads(connection.getresponse().read(MAX_BYTES))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return _who(body)


def _who(body: Any) -> str | None:
    if not isinstance(body, dict):
        return None
    if body == {"status": "alive"}:
        return "a running Nexus"
    return "a Nexus" if str(body.get("type", "")).startswith("urn:nexus:error:") else None


def _user(number: int) -> str:
    """Return the process that listens on a port, if this user may know it."""
    found = ""
    with suppress(OSError, ValueError, IndexError):
        inodes = {
            fields[9]
            for table in ("/proc/net/tcp", "/proc/net/tcp6") if Path(table).exists()
            for fields in (line.split() for line in Path(table).read_text().splitlines()[1:])
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == number
        }  # fmt: skip
        links = {f"socket:[{inode}]" for inode in inodes}
        found = next((_process(each) for each in Path("/proc").glob("[0-9]*") if _has(each, links)), "")
    return found


def _has(process: Path, links: set[str]) -> bool:
    with suppress(OSError):
        for each in (process / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(each) in links:
                    return True
    return False


def _process(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        words = []
    command = b" ".join(words[:3]).decode("utf-8", "replace").strip()
    return f": process {process.name} ({printable(command, 80)})"
