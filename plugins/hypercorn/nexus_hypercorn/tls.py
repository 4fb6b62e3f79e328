"""`Certificate`: the TLS certificate of the server, reloaded when its files change."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING

from nexus_core import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import SecretStr

log = logging.getLogger(__name__)

WATCH_SECONDS = 10.0
"""Seconds between checks whether the files have changed, as they do when a certificate is renewed."""

HANDSHAKE_SECONDS = 10.0
"""Seconds that a TLS handshake may take."""


class Certificate:
    """A certificate and its key. New connections use a renewed one; open connections keep theirs.

    Args:
        certificate: The file with the certificate and its chain, in PEM format.
        key: The file with its private key.
        password: The password of the key, if it is encrypted.

    Attributes:
        context: The TLS context: TLS 1.2 and later, HTTP/1.1.

    Raises:
        ConfigurationError: A file can't be read, or certificate and key do not match.
    """

    def __init__(self, certificate: Path, key: Path, password: SecretStr | None) -> None:
        self._certificate = certificate
        self._key = key
        self._password = "" if password is None else password.get_secret_value()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_COMPRESSION
        self.context.set_alpn_protocols(["http/1.1"])
        self._state = self._load(self.context)

    def _load(self, context: ssl.SSLContext) -> tuple[float, ...]:
        """Load the files, and return their times of modification."""
        state = self._stamp()
        try:
            # Without a password in code, OpenSSL would ask for one on the terminal, and wait.
            context.load_cert_chain(self._certificate, self._key, lambda: self._password)
        except ssl.SSLError as exc:
            reason = (exc.reason or "they can't be read").replace("_", " ").lower()
            raise ConfigurationError(
                f"ssl_cert_path {self._certificate} and ssl_key_path {self._key} can't be used: {reason}."
            ) from None
        except OSError as exc:
            raise self._unreadable(exc) from None
        return state

    def _stamp(self) -> tuple[float, ...]:
        try:
            return self._certificate.stat().st_mtime, self._key.stat().st_mtime
        except OSError as exc:
            raise self._unreadable(exc) from None

    def _unreadable(self, exc: OSError) -> ConfigurationError:
        option = "ssl_key_path" if exc.filename == str(self._key) else "ssl_cert_path"
        path = self._key if option == "ssl_key_path" else self._certificate
        return ConfigurationError(f"{option}: {path} can't be read: {exc.strerror}.")

    async def watch(self) -> None:
        """Reload the files when they have changed, until cancelled. Errors are logged."""
        wrong: tuple[float, ...] = ()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                stamp = self._stamp()
                if stamp in (self._state, wrong):
                    continue
                wrong = stamp
                self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # half of a pair must not come into use
                self._state = self._load(self.context)
            except ConfigurationError as exc:
                log.error("The certificate was not renewed, the old one stays in use: %s", exc)
            else:
                log.info("The certificate has been renewed")
