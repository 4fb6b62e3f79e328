"""`Address`: the parsed ``redis_url``. Unknown parts are refused here, and no error repeats the URL."""

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
    """Address of a Redis server, and credentials for it.

    Attributes:
        name: Name for logs, without secrets.
        hosts: Hosts and ports of one server, or of the sentinels.
        path: Path of the Unix socket in place of hosts.
        service: Name of the service that the sentinels monitor; empty without sentinels.
        username, password: Empty if none is needed.
        db: Number of the database.
        tls: TLS options by redis-py's names, or None for a connection without TLS.
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
    """Return the parsed address of a URL.

    Raises:
        ValueError: The URL is not supported; the message names the wrong part.
    """
    try:
        parts = urlsplit(url.strip())
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.fragment:
        raise ValueError("contains a #: write it as %23 in a password")
    if parts.scheme in ("redis", "rediss"):
        return _server(parts, given)
    if parts.scheme == "unix":
        return _unix(parts, given)
    if parts.scheme == "redis+sentinel":
        return _sentinels(parts, given)
    if "cluster" in parts.scheme:
        raise ValueError("Redis Cluster is not supported: name one server, or its sentinels with redis+sentinel://")
    if "sentinel" in parts.scheme:
        raise ValueError("sentinels are supported without TLS only: use redis+sentinel://")
    raise ValueError(f"must begin with {SCHEMES}")


def _server(parts: SplitResult, given: dict[str, str]) -> Address:
    hosts = _hosts(parts, PORT)
    if len(hosts) > 1:
        raise ValueError("names several hosts: Redis Cluster is not supported, and sentinels need redis+sentinel://")
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
        raise ValueError("has no path of a Unix socket: write unix:///run/redis.sock")
    db = _database(given.pop("db", "0"))
    _refuse(given)
    return Address(f"{path}/{db}", (), path, "", *_credentials(parts), db)


def _sentinels(parts: SplitResult, given: dict[str, str]) -> Address:
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("names no service: write redis+sentinel://host-1:26379,host-2:26379/service/0")
    _refuse(given)
    hosts, number = _hosts(parts, SENTINEL_PORT), _database(db or "0")
    where = ",".join(f"{_in_url(host)}:{port}" for host, port in hosts)
    return Address(f"{service}/{number} of {where}", hosts, "", unquote(service), *_credentials(parts), number)


def _hosts(parts: SplitResult, port: int) -> tuple[tuple[str, int], ...]:
    """Return every host with its port. `SplitResult` itself supports only one."""
    where = parts.netloc.rpartition("@")[2]
    try:
        found = [urlsplit(f"//{each}") for each in where.split(",")]
        return tuple((_host(each), each.port or port) for each in found)
    except ValueError:
        raise ValueError("has an invalid host or port") from None


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
        raise ValueError("has a database that is not a number")
    return int(text)


def _tls_option(name: str, value: str) -> Any:
    if name == "ssl_check_hostname":
        if value.lower() not in ("true", "false"):
            raise ValueError("ssl_check_hostname must be true or false")
        return value.lower() == "true"
    if name == "ssl_cert_reqs":
        if value not in ("required", "none"):
            raise ValueError("ssl_cert_reqs must be required or none")
        return value
    if not Path(value).is_file():
        raise ValueError(f"{name} is not a file")
    return value


def _refuse(left: dict[str, str]) -> None:
    if left:  # its name is not repeated: it may be part of a password with an unescaped question mark
        raise ValueError(f"has an unsupported parameter: supported are db and, with rediss://, {TLS_NAMES}")
