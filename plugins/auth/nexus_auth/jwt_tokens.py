"""Checks JSON Web Tokens: signature, claims, and who they tell of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, JoseError, UnsupportedAlgorithmError

from nexus_auth.credentials import MAX_BYTES
from nexus_auth.known import Verified
from nexus_auth.principals import ClaimNames, principal_of_claims
from nexus_auth.refusal import Refused
from nexus_auth.settings import ANY

if TYPE_CHECKING:
    from collections.abc import Collection

    from nexus_auth.credentials import Credential
    from nexus_auth.keyring import Keyring

TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""Values of ``typ`` for tokens that give access (RFC 7519, RFC 9068). Others, logout tokens perhaps, give none."""

_FAR = 2.0**53
"""A date that never comes. Numbers in claims may be larger than any float."""

BRINGS_A_KEY = ("jwk", "jku", "x5u")
"""Header members with which a token names the key that shall check it: never used, and a sign of forgery."""


class KeySource(Protocol):
    """Where the keys come from."""

    async def current(self) -> Keyring:
        """Return the keys. Raises `Unavailable` when there are none yet."""

    async def newer(self, than: Keyring) -> Keyring | None:
        """Return keys that have come since, after asking for them if that is due; None when there are none."""

    def seconds(self) -> float:
        """Return for how long a token that the keys have signed need not be looked at again."""

    async def open(self) -> None:
        """Get ready, on the event loop of the platform."""

    async def close(self) -> None:
        """Let go of everything."""


class FixedKeys:
    """Keys that were configured."""

    def __init__(self, ring: Keyring) -> None:
        self.ring = ring

    async def current(self) -> Keyring:
        """See `KeySource.current`."""
        return self.ring

    async def newer(self, than: Keyring) -> Keyring | None:
        """See `KeySource.newer`."""
        return None

    def seconds(self) -> float:
        """See `KeySource.seconds`: they never change."""
        return inf

    async def open(self) -> None:
        """See `KeySource.open`."""

    async def close(self) -> None:
        """See `KeySource.close`."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token must be like.

    Attributes:
        algorithms: What may have signed it.
        issuers: What ``iss`` must be, one of these; empty for what the keys' issuer calls itself, if that is known.
        audience: One of what ``aud`` must have; empty where it must have none; `ANY` for whatever.
        leeway: Seconds by which clocks may differ.
        required: Claims that must be there.
        names: Where the claims are that tell of the principal.
    """

    algorithms: frozenset[str]
    issuers: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    leeway: float = 30.0
    required: tuple[str, ...] = ("exp",)
    names: ClaimNames = field(default_factory=ClaimNames)


class JwtVerifier:
    """Checks tokens with the keys of one source.

    Args:
        keys: Where the keys come from.
        rules: What the tokens must be like.
    """

    def __init__(self, keys: KeySource, rules: Rules) -> None:
        self.keys = keys
        self.rules = rules
        self._registry = _Registry(rules.algorithms)

    async def verify(self, token: str) -> Verified:
        """Return who a token tells of, and for how long that is sure.

        Raises:
            Refused: It is forged, or expired, or not for us.
            Unavailable: There are no keys to check it with.
        """
        header = self._header(token)
        ring = await self.keys.current()
        claims = self._signed(token, header, ring)
        if claims is None and (newer := await self.keys.newer(ring)) is not None:
            ring, claims = newer, self._signed(token, header, newer)
        return self._verified(claims, ring)

    def _header(self, token: str) -> dict[str, Any]:
        """Return a token's header, after looking at its form. Nothing of it is believed yet."""
        try:
            found = jws.extract_compact(token.encode("ascii"), registry=self._registry).headers()
            self._registry.check_header(found)
            self._registry.get_alg(found["alg"])
        except Refused:
            raise
        except JoseError as exc:
            raise Refused(f"{exc.error} {exc.description}") from None
        except Exception as exc:  # it is a stranger's text: nested too deep, of another type, ...
            raise Refused(f"its header can't be read: {type(exc).__name__}") from None
        return found

    def _signed(self, token: str, header: dict[str, Any], ring: Keyring) -> dict[str, Any] | None:
        """Return the claims if one of the keys has signed them; None if none has."""
        for key in ring.fitting(header["alg"], header.get("kid")):
            try:
                return jwt.decode(token, key, registry=self._registry).claims
            except BadSignatureError:
                continue
            except JoseError as exc:
                raise Refused(f"{exc.error} {exc.description}") from None
            except Exception as exc:
                raise Refused(f"its claims can't be read: {type(exc).__name__}") from None
        return None

    def _verified(self, claims: dict[str, Any] | None, ring: Keyring) -> Verified:
        if claims is None:
            raise Refused("no key that is known has signed it")
        issuers = self.rules.issuers or (() if ring.issuer is None else (ring.issuer,))
        check_claims(claims, replace(self.rules, issuers=issuers))
        principal = principal_of_claims(claims, self.rules.names)
        return Verified(principal, self.keys.seconds(), expiry(claims), self.rules.leeway)


def check_claims(claims: dict[str, Any], rules: Rules) -> None:
    """Look whether claims hold now and here.

    Args:
        claims: What a token or its issuer says.
        rules: What it must be like.

    Raises:
        Refused: They do not.
    """
    options: dict[str, Any] = {name: {"essential": True} for name in rules.required}
    if rules.issuers and claims.get("iss") not in rules.issuers:
        raise Refused("it is of another issuer")
    if ANY not in rules.audience:
        if rules.audience:
            options["aud"] = {"essential": True, "values": list(rules.audience)}
        elif "aud" in claims:
            raise Refused("it is made out for somebody, and jwt_audience does not say that this is us")
    try:
        jwt.JWTClaimsRegistry(leeway=rules.leeway, **options).validate(claims)  # type: ignore[arg-type]
    except JoseError as exc:
        raise Refused(f"{exc.error} {exc.description}") from None
    except Exception as exc:
        raise Refused(f"its claims can't be checked: {type(exc).__name__}") from None


def expiry(claims: dict[str, Any]) -> float:
    """Return when claims that hold now end, in seconds since the epoch."""
    found = claims.get("exp")
    return inf if found is None or found > _FAR else float(found)


class JwtMethod:
    """The `Method` of callers who bring a JSON Web Token."""

    def __init__(self, name: str, verifier: JwtVerifier) -> None:
        self.name = name
        self._verifier = verifier

    def takes(self, credential: Credential) -> bool:
        """See `Method.takes`."""
        return credential.scheme == "bearer" and credential.token.count(".") == 2

    async def verify(self, credential: Credential) -> Verified:
        """See `Method.verify`."""
        return await self._verifier.verify(credential.token)

    async def open(self) -> None:
        """See `Method.open`."""
        await self._verifier.keys.open()

    async def close(self) -> None:
        """See `Method.close`."""
        await self._verifier.keys.close()


class _Registry(jws.JWSRegistry):
    """joserfc's registry with our bounds: no other algorithm than those chosen, no key that the token itself brings."""

    max_header_length = MAX_BYTES
    max_payload_length = MAX_BYTES
    max_signature_length = 2048

    def __init__(self, algorithms: Collection[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)  # RFC 7515: ignore what is not understood

    def get_alg(self, name: str) -> Any:
        if not isinstance(name, str) or name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(f"Algorithm {name!r:.40} is not allowed")
        return self.algorithms[name]  # without the warning about the name EdDSA

    def check_header(self, header: dict[str, Any]) -> None:
        for name in (*BRINGS_A_KEY, "crit", "b64"):
            if name in header:
                raise Refused(f"its header has {name}")
        kind = header.get("typ", "jwt")
        if not isinstance(kind, str) or kind.lower() not in TYPES:
            raise Refused("its typ is that of another kind of token")
        super().check_header(header)
