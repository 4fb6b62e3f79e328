"""`Keyring`: the keys that tokens are verified with, and which of them fit a token's header."""

from __future__ import annotations

import json
import logging
import re
import warnings
from abc import ABC, abstractmethod
from base64 import b64decode
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from nexus_auth.methods.algorithms import CURVES, EDWARDS, RSA, RSA_BITS, SYMMETRIC
from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

log = logging.getLogger(__name__)

MAX_KEYS = 100
"""Maximum keys of one issuer."""

MAX_TRIES = 8
"""Maximum keys that are tried on a token without ``kid``."""

_KINDS: dict[str, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key.

    Attributes:
        key: The key.
        thumbprint: Its identity (RFC 7638).
        kid: Its id, if it has one.
        algorithms: The algorithms that it can be used with.
    """

    key: Key = field(compare=False)
    thumbprint: str = field(init=False)
    kid: str | None
    algorithms: frozenset[str]

    def __post_init__(self) -> None:
        """Set the thumbprint, by which keys are compared."""
        object.__setattr__(self, "thumbprint", self.key.thumbprint())


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys of one issuer.

    Attributes:
        members: The keys.
        issuer: The ``iss`` of the issuer's tokens, if known.
    """

    members: Sequence[VerificationKey]
    issuer: str | None = None

    @property
    def algorithms(self) -> frozenset[str]:
        """The algorithms that one of the keys can be used with."""
        return frozenset[str]().union(*(member.algorithms for member in self.members))

    def fitting(self, algorithm: str, kid: str | None) -> list[Key]:
        """Return the keys that may have signed a token.

        Args:
            algorithm: The token's ``alg``.
            kid: The token's ``kid``, if it has one. A key without an id fits any.
        """
        found = [
            member.key
            for member in self.members
            if algorithm in member.algorithms and (kid is None or member.kid is None or member.kid == kid)
        ]
        return found[:MAX_TRIES]


class KeySource(ABC):
    """The source of the keys that tokens are verified with."""

    @abstractmethod
    async def current(self) -> Keyring:
        """Return the keys. Raises `Unavailable` before any were fetched."""

    @abstractmethod
    async def newer(self, than: Keyring) -> Keyring | None:
        """Return keys that are newer than these, after fetching them if that is due; None without newer ones."""

    @abstractmethod
    def seconds(self) -> float:
        """Return the seconds for which a token signed with the current keys need not be verified again."""

    async def open(self) -> None:  # noqa: B027
        """Get ready, on the event loop of the platform."""

    async def close(self) -> None:  # noqa: B027
        """Release all resources."""


class FixedKeys(KeySource):
    """Keys from the options. They never change."""

    def __init__(self, ring: Keyring) -> None:
        self.ring = ring

    async def current(self) -> Keyring:
        """See `KeySource.current`."""
        return self.ring

    async def newer(self, than: Keyring) -> Keyring | None:
        """See `KeySource.newer`."""
        return None

    def seconds(self) -> float:
        """See `KeySource.seconds`."""
        return inf


def keyring_of_secret(secret: str) -> Keyring:
    """Return the keyring of a shared secret.

    Raises:
        ConfigurationError: It is a public key, or derived from one: every client could sign tokens with it.
    """
    if (kind := _kind_of_key(secret.strip().lstrip("\ufeff").strip())) is not None:
        raise ConfigurationError(f"jwt_secret: this is {kind}, not a secret. Set public keys as jwt_public_key.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SecurityWarning)
            key = OctKey.import_key(secret)
    except (ValueError, SecurityWarning):
        raise ConfigurationError("jwt_secret: this is a key, not a secret: set it as jwt_public_key.") from None
    return Keyring([VerificationKey(key, None, SYMMETRIC)])


_FILE = "the name of a file"

_MEMBERS = re.compile(r"""["'](keys|kty|n|x)["']\s*:""")
"""Members of a published key, in JSON or in a similar notation."""


def _kind_of_key(text: str) -> str | None:
    """Return what kind of published key a text is, in words; None for any other text."""
    if text.startswith('"'):  # a JWK inside a JSON string
        with suppress(ValueError, RecursionError):
            return _kind_of_key(str(json.loads(text)))
    if text.startswith(("{", "[")):
        members = set(_MEMBERS.findall(text))
        return "a JWK set" if "keys" in members else "a JWK" if members else None
    if text.startswith(("http://", "https://")):
        return "a URL"
    if "-----BEGIN " in text:
        return "a key in PEM"
    for data in _decoded(text):
        if _is_der(data):
            return "a key in PEM without its header lines"
        with suppress(ValueError):
            if text != (inner := data.decode()) and (kind := _kind_of_key(inner.strip())) not in (None, _FILE):
                return kind if kind.endswith(", encoded") else f"{kind}, encoded"
    try:
        return _FILE if Path(text).expanduser().is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _decoded(text: str) -> Iterator[bytes]:
    """Yield the decoded text: from hexadecimal digits, and from base64 in either alphabet, with or without padding."""
    digits = "".join(text.split())
    with suppress(ValueError):
        yield bytes.fromhex(digits)
    with suppress(ValueError):
        standard = digits.rstrip("=").replace("-", "+").replace("_", "/")
        yield b64decode(standard + "=" * (-len(standard) % 4), validate=True)


def _is_der(data: bytes) -> bool:
    """Whether data are a public key or a certificate in DER."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from cryptography.x509 import load_der_x509_certificate

    for load in (load_der_public_key, load_der_x509_certificate):
        with suppress(Exception):  # not one, or of an unknown kind
            load(data)
            return True
    return False


def keyring_of_public_key(given: str) -> Keyring:
    """Return the keyring of the option ``jwt_public_key``: PEM, a JWK, a JWK set, or a file with one of them.

    Raises:
        ConfigurationError: It can't be read, or is a private key.
    """
    text = given.strip()
    if not text.startswith(("{", "-----BEGIN ")):
        try:
            text = Path(given).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            raise ConfigurationError("jwt_public_key: not PEM, a JWK, or a readable file.") from None
    if "PRIVATE KEY" in text:
        raise ConfigurationError("jwt_public_key: this is a private key. Set the public key.")
    members = _of_json(text) if text.startswith("{") else _of_pem(text)
    if not members:
        raise ConfigurationError(
            f"jwt_public_key: not a supported public key. Supported: RSA with at least {RSA_BITS} bits, "
            f"EC on {', '.join(CURVES)}, Ed25519."
        )
    return Keyring(members)


def _of_json(text: str) -> list[VerificationKey]:
    try:
        found = json.loads(text)
    except ValueError:
        raise ConfigurationError("jwt_public_key: looks like a JWK, but is not JSON.") from None
    keys = found.get("keys", [found])
    for each in keys if isinstance(keys, list) else ():
        if isinstance(each, dict) and "d" in each:
            raise ConfigurationError("jwt_public_key: this is a private key. Set the public key.")
    return members_of(keys)


def _of_pem(text: str) -> list[VerificationKey]:
    for kind in _KINDS.values():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)
                key = kind.import_key(text)
        except (JoseError, ValueError):
            continue
        return [VerificationKey(key, None, algorithms)] if (algorithms := algorithms_of(key)) else []
    return []


def members_of(keys: Any) -> list[VerificationKey]:
    """Return the usable keys of a JWK set; the others are ignored, as RFC 7517, section 5, asks."""
    found: list[VerificationKey] = []
    for number, jwk in enumerate(keys[:MAX_KEYS] if isinstance(keys, list) else ()):
        try:
            member = _member(jwk)
        except Exception as exc:  # untrusted input
            log.debug("Key number %d of a key set can't be read: %s", number, type(exc).__name__)
            continue
        if member is not None:
            found.append(member)
    return found


def _member(jwk: Any) -> VerificationKey | None:
    """Return a signature key; None for another kind. Secrets are ignored: a key set has only public keys."""
    kind = _KINDS.get(jwk["kty"])
    if kind is None or jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        key = kind.import_key({name: value for name, value in jwk.items() if name not in _UNUSED})
    algorithms, declared = algorithms_of(key), jwk.get("alg")
    if declared is not None:
        algorithms &= EDWARDS if declared in EDWARDS else {declared}
    kid = jwk.get("kid")
    return VerificationKey(key, kid if isinstance(kid, str) else None, algorithms) if algorithms else None


_UNUSED = frozenset({"alg", "d", "kid", "key_ops", "use", "x5c", "x5t", "x5t#S256", "x5u"})
"""Members of a JWK that are not passed on. Without ``d``, a private key published by mistake is a public one."""


def algorithms_of(key: Key) -> frozenset[str]:
    """Return the algorithms that a key can be used with; none if it is too weak."""
    if isinstance(key, RSAKey):
        return RSA if key.raw_value.key_size >= RSA_BITS else frozenset()
    if isinstance(key, ECKey):
        name = CURVES.get(key.curve_name)
        return frozenset({name}) if name else frozenset()
    return EDWARDS if isinstance(key, OKPKey) and key.curve_name == "Ed25519" else frozenset()


def chosen_algorithms(wanted: Iterable[str], fitting: frozenset[str]) -> frozenset[str]:
    """Return the allowed algorithms: those wanted, or all that fit. Either name of Ed25519 allows both."""
    chosen = frozenset(wanted)
    if chosen & EDWARDS:
        chosen |= EDWARDS
    return chosen or fitting
