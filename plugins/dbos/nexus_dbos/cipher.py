"""`Cipher`: encrypts what the run engine stores of tasks and outcomes, which may hold secrets."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

OPTION = "dbos_encryption_key"

ENCRYPTED = "~"
"""Begins what is stored encrypted, before the id of its key. No JSON text begins with it."""

KEY_BYTES, NONCE_BYTES, ID_CHARACTERS = 32, 12, 8

TASK = 0
"""The place of a run's task; outcomes have the places from 1."""


class Unreadable(Exception):
    """What is stored of a run can't be decrypted: this process does not have the key, or it is not what was stored."""


class _Key(NamedTuple):
    id: str
    aes: AESGCM


class Cipher:
    """Encrypts texts with AES-256-GCM. Each is bound to its run and its place: in another one it can't be decrypted.

    What was stored without a key stays readable with one: it does not guard against writers of the database.

    Args:
        keys: The keys, of 32 bytes each. The first one encrypts; all decrypt. Without keys, nothing is encrypted.
    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys: dict[str, AESGCM] = {}
        self._first: _Key | None = None
        for each in keys:
            key = _key(each)
            self._keys[key.id] = key.aes
            self._first = self._first or key

    @property
    def encrypts(self) -> bool:
        """Whether it has a key."""
        return self._first is not None

    def encrypt(self, text: str, run_id: str, place: int = TASK) -> str:
        """Return a text as it is stored."""
        if self._first is None:
            return text
        nonce = os.urandom(NONCE_BYTES)  # random ones are safe for some four billion texts a key
        sealed = nonce + self._first.aes.encrypt(nonce, text.encode(), _bound(run_id, place))
        return f"{ENCRYPTED}{self._first.id}{base64.b64encode(sealed).decode()}"

    def decrypt(self, stored: str, run_id: str, place: int = TASK) -> str:
        """Return the text that is stored so.

        Raises:
            Unreadable: There is no key for it, or it was changed.
        """
        if not stored.startswith(ENCRYPTED):
            return stored
        begin = len(ENCRYPTED) + ID_CHARACTERS
        aes = self._keys.get(stored[len(ENCRYPTED) : begin])
        if aes is None:
            raise self.missing(run_id)
        from cryptography.exceptions import InvalidTag

        try:
            sealed = base64.b64decode(stored[begin:], validate=True)
            return aes.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound(run_id, place)).decode()
        except (InvalidTag, ValueError) as exc:
            raise Unreadable(f"What the run engine stores of the run {run_id} was changed.") from exc

    def check(self, run_id: str, beginnings: Iterable[str]) -> None:
        """Check that there are keys for stored texts that begin so, with at least their key's id.

        Raises:
            Unreadable: A key is missing.
        """
        for each in beginnings:
            if each.startswith(ENCRYPTED) and each[len(ENCRYPTED) :][:ID_CHARACTERS] not in self._keys:
                raise self.missing(run_id)

    def missing(self, run_id: str) -> Unreadable:
        """Return the error that the key for a run is missing."""
        what = "has another key than that" if self.encrypts else "is not set, but there is a key"
        return Unreadable(f"{OPTION} {what} with which the run {run_id} is encrypted.")


def keys_of(text: str) -> list[bytes]:
    """Return the keys that an option lists, as base64 with commas between them.

    Raises:
        ValueError: One is not 32 bytes. The message does not show it.
    """
    keys = []
    for number, each in enumerate(text.split(","), 1):
        try:
            key = base64.b64decode(each.strip().replace("-", "+").replace("_", "/"), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(
                f"key {number} must be {KEY_BYTES} random bytes as base64, as of openssl rand -base64 {KEY_BYTES}"
            )
        keys.append(key)
    return keys


def _key(key: bytes) -> _Key:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return _Key(hashlib.sha256(b"nexus_dbos key " + key).hexdigest()[:ID_CHARACTERS], AESGCM(key))


def _bound(run_id: str, place: int) -> bytes:
    return f"{place} {run_id}".encode()
