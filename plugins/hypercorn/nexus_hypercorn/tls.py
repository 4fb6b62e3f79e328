"""`Certificate`: what the server proves with who it is, loaded anew when its files change."""

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
"""How often it is looked whether the files have changed, as they do when a certificate is renewed."""

HANDSHAKE_SECONDS = 10.0
"""How long a connection may take until it is encrypted."""


class Certificate:
    """A certificate with its key. New connections get the renewed one; those that are open keep theirs.

    Args:
        certificate: The file with it, and with those in between that lead to its issuer, in PEM.
        key: The file with its private key.
        password: What the key is encrypted with, if it is.

    Attributes:
        context: Encrypts connections: TLS 1.2 and later, HTTP/1.1.

    Raises:
        ConfigurationError: A file can't be read, or they do not belong together.
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
        """Load the files, and return what tells whether they have changed."""
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
        """Load the files anew when they have changed, until it is cancelled. What is wrong with them is logged."""
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
                log.error("The certificate stays the old one: %s", exc)
            else:
                log.info("The certificate has been renewed")
