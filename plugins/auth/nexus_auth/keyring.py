"""`Keyring`: keys that may have signed a token, and which of them fit its header."""

from __future__ import annotations

import json
import logging
import re
import warnings
from base64 import b64decode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from nexus_auth.algorithms import CURVES, EDWARDS, RSA, RSA_BITS, SYMMETRIC
from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

log = logging.getLogger(__name__)

MAX_KEYS = 100
"""Keys of one issuer that are looked at."""

MAX_TRIES = 8
"""Keys that are tried on a token that does not say which one has signed it."""

_KINDS: dict[str, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


@dataclass(frozen=True, slots=True)
class Member:
    """One key.

    Attributes:
        key: The key.
        thumbprint: Tells it from every other (RFC 7638).
        kid: Its name, where it has one.
        algorithms: The algorithms that it can sign with.
    """

    key: Key = field(compare=False)
    thumbprint: str = field(init=False)
    kid: str | None
    algorithms: frozenset[str]

    def __post_init__(self) -> None:
        """Make it comparable: keys themselves are not."""
        object.__setattr__(self, "thumbprint", self.key.thumbprint())


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys of one issuer.

    Attributes:
        members: The keys.
        issuer: What the issuer calls itself in its tokens, where that is known.
    """

    members: Sequence[Member]
    issuer: str | None = None

    @property
    def algorithms(self) -> frozenset[str]:
        """Every algorithm that one of the keys can sign with."""
        return frozenset[str]().union(*(member.algorithms for member in self.members))

    def fitting(self, algorithm: str, kid: str | None) -> list[Key]:
        """Return the keys that may have signed a token.

        Args:
            algorithm: What its header says.
            kid: What its header says, if it does. A key without a name fits each.
        """
        found = [
            member.key
            for member in self.members
            if algorithm in member.algorithms and (kid is None or member.kid is None or member.kid == kid)
        ]
        return found[:MAX_TRIES]


def keyring_of_secret(secret: str) -> Keyring:
    """Return the ring of one secret.

    Raises:
        ConfigurationError: It is a public key, or may be had from one: everybody could sign with it.
    """
    if (kind := _kind_of_key(secret.strip().lstrip("\ufeff").strip())) is not None:
        raise ConfigurationError(f"jwt_secret: this is {kind}, and no secret; public keys belong in jwt_public_key.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SecurityWarning)
            key = OctKey.import_key(secret)
    except (ValueError, SecurityWarning):
        raise ConfigurationError("jwt_secret: this is a key for jwt_public_key, and no secret.") from None
    return Keyring([Member(key, None, SYMMETRIC)])


_FILE = "the name of a file"

_MEMBERS = re.compile(r"""["'](keys|kty|n|x)["']\s*:""")
"""Members that a published key has, in JSON or nearly so."""


def _kind_of_key(text: str) -> str | None:
    """Return in words what a text is in which keys are published; None for any other."""
    if text.startswith('"'):  # a JWK that was written as a text of JSON
        with suppress(ValueError, RecursionError):
            return _kind_of_key(str(json.loads(text)))
    if text.startswith(("{", "[")):
        members = set(_MEMBERS.findall(text))
        return "a JWK set" if "keys" in members else "a JWK" if members else None
    if text.startswith(("http://", "https://")):
        return "an address"
    if "-----BEGIN " in text:
        return "a key in PEM"
    for data in _decoded(text):
        if _is_der(data):
            return "a key without the lines of PEM"
        with suppress(ValueError):
            if text != (inner := data.decode()) and (kind := _kind_of_key(inner.strip())) not in (None, _FILE):
                return kind if kind.endswith(", encoded") else f"{kind}, encoded"
    try:
        return _FILE if Path(text).expanduser().is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _decoded(text: str) -> Iterator[bytes]:
    """Yield what a text may stand for: hexadecimal digits, or base64 in either alphabet, with or without its end."""
    digits = "".join(text.split())
    with suppress(ValueError):
        yield bytes.fromhex(digits)
    with suppress(ValueError):
        standard = digits.rstrip("=").replace("-", "+").replace("_", "/")
        yield b64decode(standard + "=" * (-len(standard) % 4), validate=True)


def _is_der(data: bytes) -> bool:
    """Whether this is a public key or a certificate, as some issuers show it in base64."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from cryptography.x509 import load_der_x509_certificate

    for load in (load_der_public_key, load_der_x509_certificate):
        with suppress(Exception):  # it is none, or of a kind that nobody knows
            load(data)
            return True
    return False


def keyring_of_public_key(given: str) -> Keyring:
    """Return the ring of the option ``jwt_public_key``: PEM, a JWK, a JWK set, or a file with one of them.

    Raises:
        ConfigurationError: It can't be read, or is not public.
    """
    text = given.strip()
    if not text.startswith(("{", "-----BEGIN ")):
        try:
            text = Path(given).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            raise ConfigurationError("jwt_public_key: it is neither PEM nor a JWK, nor a file to be read.") from None
    if "PRIVATE KEY" in text:
        raise ConfigurationError("jwt_public_key: this is a private key. Whoever checks tokens needs the public one.")
    members = _of_json(text) if text.startswith("{") else _of_pem(text)
    if not members:
        raise ConfigurationError(
            f"jwt_public_key: it is no public key of a kind that is known: RSA of {RSA_BITS} bits or more, "
            f"EC on {', '.join(CURVES)}, Ed25519."
        )
    return Keyring(members)


def _of_json(text: str) -> list[Member]:
    try:
        found = json.loads(text)
    except ValueError:
        raise ConfigurationError("jwt_public_key: it looks like a JWK and is not JSON.") from None
    keys = found.get("keys", [found])
    for each in keys if isinstance(keys, list) else ():
        if isinstance(each, dict) and "d" in each:
            raise ConfigurationError("jwt_public_key: this is a private key. Who checks tokens needs the public one.")
    return members_of(keys)


def _of_pem(text: str) -> list[Member]:
    for kind in _KINDS.values():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)
                key = kind.import_key(text)
        except (JoseError, ValueError):
            continue
        return [Member(key, None, algorithms)] if (algorithms := algorithms_of(key)) else []
    return []


def members_of(keys: Any) -> list[Member]:
    """Return the members of a JWK set that can be used; the others are left out, as RFC 7517, section 5, asks."""
    found: list[Member] = []
    for number, jwk in enumerate(keys[:MAX_KEYS] if isinstance(keys, list) else ()):
        try:
            member = _member(jwk)
        except Exception as exc:  # it is somebody else's text
            log.debug("Key number %d of a key set can't be read: %s", number, type(exc).__name__)
            continue
        if member is not None:
            found.append(member)
    return found


def _member(jwk: Any) -> Member | None:
    """Return a key for signatures with its name. Secrets are none: a set of public keys holds only public keys."""
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
    return Member(key, kid if isinstance(kid, str) else None, algorithms) if algorithms else None


_UNUSED = frozenset({"alg", "d", "kid", "key_ops", "use", "x5c", "x5t", "x5t#S256", "x5u"})
"""Members of a JWK that are read here, or not at all; a private key that was published by mistake becomes public."""


def algorithms_of(key: Key) -> frozenset[str]:
    """Return the algorithms that a key can sign with; none where it is too weak."""
    if isinstance(key, RSAKey):
        return RSA if key.raw_value.key_size >= RSA_BITS else frozenset()
    if isinstance(key, ECKey):
        name = CURVES.get(key.curve_name)
        return frozenset({name}) if name else frozenset()
    return EDWARDS if isinstance(key, OKPKey) and key.curve_name == "Ed25519" else frozenset()


def chosen_algorithms(wanted: Iterable[str], fitting: frozenset[str]) -> frozenset[str]:
    """Return which algorithms tokens may use: those that are wanted, or all that fit. Two names of one mean both."""
    chosen = frozenset(wanted)
    if chosen & EDWARDS:
        chosen |= EDWARDS
    return chosen or fitting
