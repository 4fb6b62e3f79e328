"""`check_address`: URLs of PostgreSQL."""

from __future__ import annotations

from urllib.parse import urlsplit


def check_address(url: str) -> None:
    """Check a PostgreSQL URL. No message repeats a part of it: where its password ends may be unclear.

    Raises:
        ValueError: It is not valid.
    """
    try:
        parts = urlsplit(url)
        hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
        _ = [host.port for host in hosts]
    except ValueError:
        raise ValueError("has an invalid host or port") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("must begin with postgresql:// or postgres://")
    if parts.fragment or url.endswith("#"):
        raise ValueError("has a #: write it as %23 in a password")
    if "@" in parts.path + parts.query:
        raise ValueError("has an @ after its host: in a password write / as %2F, ? as %3F and @ as %40")
