"""What the options with ``jwt_`` ask of tokens: fixed keys, and the rules for claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_auth.methods.algorithms import ASYMMETRIC
from nexus_auth.methods.jwt import JwtVerifier, TokenRules
from nexus_auth.methods.keyring import FixedKeys, chosen_algorithms, keyring_of_public_key, keyring_of_secret
from nexus_auth.principals import ClaimNames

if TYPE_CHECKING:
    from nexus_auth.methods.keyring import KeySource
    from nexus_auth.settings import AuthSettings


def verifier_of_fixed_keys(settings: AuthSettings) -> JwtVerifier:
    """Return the verifier for ``jwt_secret`` or ``jwt_public_key``, whichever is set.

    Raises:
        ConfigurationError: The key can't be used.
    """
    if settings.jwt_secret is not None:
        ring, fitting = keyring_of_secret(settings.jwt_secret.get_secret_value()), frozenset({"HS256"})
    else:
        assert settings.jwt_public_key is not None
        ring = keyring_of_public_key(settings.jwt_public_key)
        fitting = ring.algorithms
    return JwtVerifier(FixedKeys(ring), token_rules(settings, chosen_algorithms(settings.jwt_algorithms, fitting)))


def verifier_of_remote_keys(settings: AuthSettings, keys: KeySource) -> JwtVerifier:
    """Return the verifier for the keys of an issuer, which are all public keys."""
    return JwtVerifier(keys, token_rules(settings, chosen_algorithms(settings.jwt_algorithms, ASYMMETRIC)))


def token_rules(settings: AuthSettings, algorithms: frozenset[str]) -> TokenRules:
    """Return the rules that tokens must satisfy."""
    return TokenRules(
        algorithms=algorithms,
        issuers=_issuers(settings),
        audience=tuple(settings.jwt_audience),
        leeway=settings.jwt_leeway,
        required=tuple(settings.jwt_required_claims),
        names=ClaimNames(
            settings.jwt_user_claim,
            settings.jwt_tenant_claim,
            settings.jwt_permissions_claim,
            settings.jwt_scopes_claim,
        ),
    )


def _issuers(settings: AuthSettings) -> tuple[str, ...]:
    """Return the allowed values of ``iss``; empty where the issuer's metadata have it, or it is not known."""
    if settings.jwt_issuer is not None:
        return (settings.jwt_issuer,)
    if settings.jwt_jwks_url is not None and settings.auth_service_url is not None:
        bare = settings.auth_service_url.rstrip("/")
        return (bare, f"{bare}/")
    return ()
