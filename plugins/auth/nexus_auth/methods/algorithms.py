"""Supported signature algorithms, and the minimum strength of their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Minimum bytes of a secret: the length of the hash (RFC 7518, section 3.2)."""

SYMMETRIC = frozenset(SECRET_BYTES)
RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
EDWARDS = frozenset({"Ed25519", "EdDSA"})
"""Two names of one algorithm (RFC 9864); issuers still use the older one."""

ASYMMETRIC = frozenset({*RSA, *CURVES.values(), *EDWARDS})

RSA_BITS = 2048
"""Minimum bits of an RSA key (RFC 7518, section 3.3)."""


def refuse_short_secret(secret: str, algorithms: Iterable[str]) -> None:
    """Refuse a secret that could be guessed.

    Raises:
        ConfigurationError: It is too short.
    """
    given = len(secret.encode())
    for name in algorithms:
        if given < (least := SECRET_BYTES.get(name, 0)):
            raise ConfigurationError(
                f"jwt_secret: {given} bytes are too short for {name}, which needs {least}: it could be guessed "
                f'from any token. Generate one with: python -c "import secrets; print(secrets.token_hex({least}))"'
            )
