"""Which Host and Origin headers are allowed."""

from __future__ import annotations

from typing import Any

import pytest
from nexus_toolkit.hosts import HostOriginGuard

from nexus_core.errors import NexusError
from nexus_core.options.settings import CoreSettings


def passes(guard: HostOriginGuard, host: str, origin: str = "", *, server: str = "127.0.0.1", **more: Any) -> bool:
    headers = {b"host": host.encode("latin-1")} | ({b"origin": origin.encode()} if origin else {})
    scope = {"type": "http", "method": "POST", "scheme": "http", "path": "/", "server": (server, 8000), **more}
    scope["headers"] = list(headers.items())
    try:
        guard.check(scope, headers)
    except NexusError:
        return False
    return True


def guard(*, is_strict: bool = False, **options: Any) -> HostOriginGuard:
    return HostOriginGuard(CoreSettings(**options), origins_option="cors_origins", is_strict=is_strict)


OWN = [
    "localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "127.0.0.1:1", "[::1]:8000", "[0:0:0:0:0:0:0:1]",
    "app.localhost:8000", "203.0.113.7",
]  # fmt: skip
REBOUND = [
    "evil.example", "evil.example:8000", "evil.example.", "EVIL.example", "localhost.evil.example", "127.0.0.1.nip.io",
    "evillocalhost", "0x7f000001", "2130706433", "127.1", "a.localhost.evil.example:8000",
]  # fmt: skip
MALFORMED = [
    "", ".", ":", ":8000", "localhost:", "localhost:65536", "localhost:-1", "localhost:8000:8000", "localhost..",
    "localhost/", "localhost@evil.example", "evil.example#localhost", "[::1", "::1", "[::1%eth0]", "[127.0.0.1]",
    "local host", "localhost\t", "localhost,evil.example", "l\u00f6calhost", "localhost\x00", "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("host", OWN)
@pytest.mark.parametrize("is_strict", [False, True])
def test_what_can_not_mean_another_machine_is_allowed(host: str, is_strict: bool) -> None:
    assert passes(guard(is_strict=is_strict), host)


@pytest.mark.parametrize("host", [*REBOUND, *MALFORMED])
@pytest.mark.parametrize("is_strict", [False, True])
def test_what_a_page_could_let_mean_this_machine_is_not(host: str, is_strict: bool) -> None:
    assert not passes(guard(is_strict=is_strict), host)
    assert not passes(guard(is_strict=is_strict, allowed_hosts=["example.com"]), host, server="192.0.2.1")


LISTED = [
    ("example.com", "example.com", True), ("example.com", "EXAMPLE.com.:8443", True),
    ("Example.COM.", "example.com", True), ("example.com", "www.example.com", False),
    ("example.com:8443", "example.com:8443", True), ("example.com:8443", "example.com", False),
    ("example.com.:8443", "example.com:8443", True), ("*", "evil.example", True),
]  # fmt: skip


@pytest.mark.parametrize(("listed", "host", "is_allowed"), LISTED)
def test_the_names_that_allowed_hosts_lists(listed: str, host: str, is_allowed: bool) -> None:
    assert passes(guard(allowed_hosts=[listed]), host) is is_allowed
    assert passes(guard(allowed_hosts=[listed], is_strict=True), host, server="192.0.2.1") is is_allowed


@pytest.mark.parametrize(("origin", "is_allowed"), [
    ("http://localhost:8000", True), ("https://LOCALHOST:8000", True), ("http://localhost", False),
    ("http://localhost:9", False), ("null", False), ("http://evil.example", False),
    ("http://localhost:8000.evil.example", False),
    ("http://localhost:8000@evil.example", False), ("file://", False), ("chrome-extension://localhost:8000", False),
])  # fmt: skip
def test_pages_of_the_same_origin_may_write(origin: str, is_allowed: bool) -> None:
    assert passes(guard(), "localhost:8000", origin) is is_allowed


def test_what_is_kept_of_host_headers_is_small() -> None:
    checked = guard()
    for number in range(50):
        assert not passes(checked, f"{number}" + "x" * 10_000)
    assert checked._parse_host.cache_info().currsize == 0
