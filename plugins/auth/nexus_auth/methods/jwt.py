"""The `Method` for JSON Web Tokens: verifies signature and claims."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any

from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, JoseError, UnsupportedAlgorithmError

from nexus_auth.credential_cache import VerifiedCredential
from nexus_auth.credentials import MAX_BYTES
from nexus_auth.methods.method import Method
from nexus_auth.principals import ClaimNames, principal_of_claims
from nexus_auth.rejection import Rejected

if TYPE_CHECKING:
    from collections.abc import Collection

    from nexus_auth.credentials import Credential
    from nexus_auth.methods.keyring import Keyring, KeySource

TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""Values of ``typ`` of access tokens (RFC 7519, RFC 9068). Others, such as logout tokens, are rejected."""

_FAR = 2.0**53
"""Later than any date. Numbers in claims may be larger than any float."""

ANY_AUDIENCE = "*"
"""As ``jwt_audience``: accept tokens for any audience."""

BRINGS_A_KEY = ("jwk", "jku", "x5u")
"""Header members with which a token names its own key: never used, and a sign of forgery."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Rules that a token must satisfy.

    Attributes:
        algorithms: Allowed signature algorithms.
        issuers: Accepted values of ``iss``; empty for the issuer of the keys, if that is known.
        audience: Accepted values of ``aud``; empty if there must be no ``aud``; `ANY_AUDIENCE` accepts any.
        leeway: Tolerated clock difference in seconds.
        required: Required claims.
        names: Names of the claims that describe the principal.
    """

    algorithms: frozenset[str]
    issuers: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    leeway: float = 30.0
    required: tuple[str, ...] = ("exp",)
    names: ClaimNames = field(default_factory=ClaimNames)


class JwtVerifier:
    """Verifies tokens with the keys of one source.

    Args:
        keys: The source of the keys.
        rules: The rules that tokens must satisfy.
    """

    def __init__(self, keys: KeySource, rules: TokenRules) -> None:
        self.keys = keys
        self.rules = rules
        self._registry = _AlgorithmRegistry(rules.algorithms)

    async def verify(self, token: str) -> VerifiedCredential:
        """Return the result for a token.

        Raises:
            Rejected: It is forged, expired, or for another audience.
            Unavailable: There are no keys to verify it with.
        """
        header = self._header(token)
        ring = await self.keys.current()
        claims = self._signed(token, header, ring)
        if claims is None and (newer := await self.keys.newer(ring)) is not None:
            ring, claims = newer, self._signed(token, header, newer)
        return self._verified(claims, ring)

    def _header(self, token: str) -> dict[str, Any]:
        """Return a token's header after checking its form. It is not trusted yet."""
        try:
            found = jws.extract_compact(token.encode("ascii"), registry=self._registry).headers()
            self._registry.check_header(found)
            self._registry.get_alg(found["alg"])
        except Rejected:
            raise
        except JoseError as exc:
            raise Rejected(f"{exc.error} {exc.description}") from None
        except Exception as exc:  # untrusted input: nested too deep, of another type, ...
            raise Rejected(f"the header can't be read: {type(exc).__name__}") from None
        return found

    def _signed(self, token: str, header: dict[str, Any], ring: Keyring) -> dict[str, Any] | None:
        """Return the claims if one of the keys has signed them, else None."""
        for key in ring.fitting(header["alg"], header.get("kid")):
            try:
                return jwt.decode(token, key, registry=self._registry).claims
            except BadSignatureError:
                continue
            except JoseError as exc:
                raise Rejected(f"{exc.error} {exc.description}") from None
            except Exception as exc:
                raise Rejected(f"the claims can't be read: {type(exc).__name__}") from None
        return None

    def _verified(self, claims: dict[str, Any] | None, ring: Keyring) -> VerifiedCredential:
        if claims is None:
            raise Rejected("the token is not signed by a known key")
        issuers = self.rules.issuers or (() if ring.issuer is None else (ring.issuer,))
        check_claims(claims, replace(self.rules, issuers=issuers))
        principal = principal_of_claims(claims, self.rules.names)
        return VerifiedCredential(principal, self.keys.seconds(), expiry(claims), self.rules.leeway)


def check_claims(claims: dict[str, Any], rules: TokenRules) -> None:
    """Check claims against rules.

    Args:
        claims: The claims of a token, or of an introspection response.
        rules: The rules.

    Raises:
        Rejected: A claim does not satisfy the rules.
    """
    options: dict[str, Any] = {name: {"essential": True} for name in rules.required}
    if rules.issuers and claims.get("iss") not in rules.issuers:
        raise Rejected("the token is from another issuer (iss)")
    if ANY_AUDIENCE not in rules.audience:
        if rules.audience:
            options["aud"] = {"essential": True, "values": list(rules.audience)}
        elif "aud" in claims:
            raise Rejected("the token has an audience (aud), but jwt_audience is not set")
    try:
        jwt.JWTClaimsRegistry(leeway=rules.leeway, **options).validate(claims)  # type: ignore[arg-type]
    except JoseError as exc:
        raise Rejected(f"{exc.error} {exc.description}") from None
    except Exception as exc:
        raise Rejected(f"the claims can't be checked: {type(exc).__name__}") from None


def expiry(claims: dict[str, Any]) -> float:
    """Return when valid claims expire, in seconds since the epoch."""
    found = claims.get("exp")
    return inf if found is None or found > _FAR else float(found)


class JwtMethod(Method):
    """Verifies bearer tokens that are JSON Web Tokens."""

    def __init__(self, name: str, verifier: JwtVerifier) -> None:
        self.name = name
        self._verifier = verifier

    def takes(self, credential: Credential) -> bool:
        """See `Method.takes`."""
        return credential.scheme == "bearer" and credential.token.count(".") == 2

    async def verify(self, credential: Credential) -> VerifiedCredential:
        """See `Method.verify`."""
        return await self._verifier.verify(credential.token)

    async def open(self) -> None:
        """See `Method.open`."""
        await self._verifier.keys.open()

    async def close(self) -> None:
        """See `Method.close`."""
        await self._verifier.keys.close()


class _AlgorithmRegistry(jws.JWSRegistry):
    """joserfc's registry with stricter bounds: only the allowed algorithms, no key that the token itself brings."""

    max_header_length = MAX_BYTES
    max_payload_length = MAX_BYTES
    max_signature_length = 2048

    def __init__(self, algorithms: Collection[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)  # RFC 7515: ignore unknown members

    def get_alg(self, name: str) -> Any:
        if not isinstance(name, str) or name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(f"Algorithm {name!r:.40} is not allowed")
        return self.algorithms[name]  # without the warning about the name EdDSA

    def check_header(self, header: dict[str, Any]) -> None:
        for name in (*BRINGS_A_KEY, "crit", "b64"):
            if name in header:
                raise Rejected(f"the header has {name}")
        kind = header.get("typ", "jwt")
        if not isinstance(kind, str) or kind.lower() not in TYPES:
            raise Rejected("typ is that of another kind of token")
        super().check_header(header)
