"""`Address`: what ``redis_url`` says. Everything that is not known is refused here, and no error repeats the URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

PORT = 6379
SENTINEL_PORT = 26379
SCHEMES = "redis://, rediss://, unix:// and redis+sentinel://"
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
TLS_NAMES = ", ".join(TLS_OPTIONS)


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is and how to get in.

    Attributes:
        name: For logs: no secret is in it.
        hosts: Hosts and ports: one server, or the sentinels.
        path: The Unix socket in place of hosts.
        service: The name under which sentinels know the servers; empty without sentinels.
        username, password: Empty where none is needed.
        db: The database's number.
        tls: Options of TLS by redis-py's names, or None for a connection in the clear.
    """

    name: str
    hosts: tuple[tuple[str, int], ...]
    path: str
    service: str
    username: str
    password: str = field(repr=False)
    db: int
    tls: dict[str, Any] | None = None


def parse(url: str) -> Address:
    """Return the address that a URL means.

    Raises:
        ValueError: It is none that is supported; the message says which part is wrong.
    """
    try:
        parts = urlsplit(url.strip())
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.fragment:
        raise ValueError("has a #, which a password writes as %23")
    if parts.scheme in ("redis", "rediss"):
        return _server(parts, given)
    if parts.scheme == "unix":
        return _unix(parts, given)
    if parts.scheme == "redis+sentinel":
        return _sentinels(parts, given)
    if "cluster" in parts.scheme:
        raise ValueError("Redis Cluster is not supported: name one server, or its sentinels with redis+sentinel://")
    if "sentinel" in parts.scheme:
        raise ValueError("sentinels are reached without TLS only, by redis+sentinel://")
    raise ValueError(f"begins with {SCHEMES}")


def _server(parts: SplitResult, given: dict[str, str]) -> Address:
    hosts = _hosts(parts, PORT)
    if len(hosts) > 1:
        raise ValueError("names several hosts: Redis Cluster is not supported, sentinels are redis+sentinel://")
    tls = None
    if parts.scheme == "rediss":
        tls = {name: _tls_option(name, given.pop(name)) for name in TLS_OPTIONS if name in given}
    db = _database(parts.path.strip("/") or given.pop("db", "0"))
    _refuse(given)
    host, port = hosts[0]
    return Address(f"{_in_url(host)}:{port}/{db}", hosts, "", "", *_credentials(parts), db, tls)


def _unix(parts: SplitResult, given: dict[str, str]) -> Address:
    path = unquote(parts.path)
    if len(path) < 2:
        raise ValueError("has no path to a Unix socket, as unix:///run/redis.sock has")
    db = _database(given.pop("db", "0"))
    _refuse(given)
    return Address(f"{path}/{db}", (), path, "", *_credentials(parts), db)


def _sentinels(parts: SplitResult, given: dict[str, str]) -> Address:
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("names no service, as redis+sentinel://host-1:26379,host-2:26379/service/0 does")
    _refuse(given)
    hosts, number = _hosts(parts, SENTINEL_PORT), _database(db or "0")
    where = ",".join(f"{_in_url(host)}:{port}" for host, port in hosts)
    return Address(f"{service}/{number} of {where}", hosts, "", unquote(service), *_credentials(parts), number)


def _hosts(parts: SplitResult, port: int) -> tuple[tuple[str, int], ...]:
    """Return every host with its port. `SplitResult` itself knows one only."""
    where = parts.netloc.rpartition("@")[2]
    try:
        found = [urlsplit(f"//{each}") for each in where.split(",")]
        return tuple((_host(each), each.port or port) for each in found)
    except ValueError:
        raise ValueError("has a host or port that is none") from None


def _host(part: SplitResult) -> str:
    if not part.hostname:
        raise ValueError
    return part.hostname


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _credentials(parts: SplitResult) -> tuple[str, str]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return unquote(user), unquote(password)


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("names a database that is not a number")
    return int(text)


def _tls_option(name: str, value: str) -> Any:
    if name == "ssl_check_hostname":
        if value.lower() not in ("true", "false"):
            raise ValueError("ssl_check_hostname is true or false")
        return value.lower() == "true"
    if name == "ssl_cert_reqs":
        if value not in ("required", "none"):
            raise ValueError("ssl_cert_reqs is required or none")
        return value
    if not Path(value).is_file():
        raise ValueError(f"{name} names no file")
    return value


def _refuse(left: dict[str, str]) -> None:
    if left:  # its name is not repeated: it may be a piece of a password with an unescaped question mark
        raise ValueError(f"has a parameter that is not supported here: there are db and, with rediss://, {TLS_NAMES}")
