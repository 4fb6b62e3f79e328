"""Builds what the options ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_auth.authorizers import BuiltInRule, OwnRule
from nexus_auth.own import GuardedCalls, OwnProvider
from nexus_auth.plan import strategies
from nexus_auth.principals import ClaimNames
from nexus_auth.provider import authenticates, authorizes

if TYPE_CHECKING:
    from nexus_auth.jwt_tokens import JwtVerifier, Rules
    from nexus_auth.methods import Method
    from nexus_auth.remote_keys import RemoteKeys
    from nexus_auth.settings import AuthSettings
    from nexus_auth.web import Web
    from nexus_core.access import Authorizer
    from nexus_core.app import Nexus


def guarded_calls(settings: AuthSettings, nexus: Nexus) -> GuardedCalls:
    """Return how the application's own provider is called."""
    return GuardedCalls(nexus.threads, settings.auth_timeout)


def methods(settings: AuthSettings, web: Web, calls: GuardedCalls, nexus: Nexus) -> list[Method]:
    """Return the ways in which callers may prove who they are, in the order in which they are tried.

    A provider that authenticates stands in the place of tokens; API keys go beside it.

    Raises:
        ConfigurationError: A key or an address can't be used.
    """
    found: list[Method] = []
    own = authenticates(settings.auth_provider)
    for strategy in strategies(settings):
        if strategy == "api_key":
            found.append(_api_keys(settings, nexus))
        elif not own:
            found.append(_tokens(settings, web, strategy))
    if own:
        found.append(_own(settings, web, calls))
    return found


def _own(settings: AuthSettings, web: Web, calls: GuardedCalls) -> Method:
    """Return the method of a provider that authenticates."""
    from nexus_auth.jwt_provider import JWTAuthProvider
    from nexus_auth.jwt_tokens import JwtMethod

    provider = settings.auth_provider
    if not isinstance(provider, JWTAuthProvider):
        return OwnProvider(provider, calls)
    if provider.uses_options:
        provider.bind(_verifier(settings, web, next(each for each in strategies(settings) if each != "api_key")))
    assert provider.verifier is not None
    if type(provider).authenticate is JWTAuthProvider.authenticate:  # it needs no thread
        return JwtMethod(type(provider).__name__, provider.verifier)
    return OwnProvider(provider, calls, uses=provider.verifier.keys)


def authorizer(settings: AuthSettings, calls: GuardedCalls) -> Authorizer:
    """Return who decides what callers may do."""
    provider = settings.auth_provider
    if authorizes(provider):
        return OwnRule(provider, calls, own=authenticates(provider))
    return BuiltInRule()


def issuer_of(settings: AuthSettings) -> str | None:
    """Return the issuer that callers can get tokens from, where there is one."""
    url = settings.auth_service_url or settings.jwt_issuer
    return url if url is not None and url.startswith(("https://", "http://")) else None


def _tokens(settings: AuthSettings, web: Web, strategy: str) -> Method:
    if strategy == "oauth2" and settings.oauth2_introspection_url is not None:
        return _introspection(settings, web)
    from nexus_auth.jwt_tokens import JwtMethod

    return JwtMethod(strategy, _verifier(settings, web, strategy))


def _introspection(settings: AuthSettings, web: Web) -> Method:
    from nexus_auth.introspection import Introspection
    from nexus_auth.web import check_transport

    secret = settings.oauth2_client_secret
    url, client_id = settings.oauth2_introspection_url, settings.oauth2_client_id
    assert url is not None  # `plan` has made sure of all three
    assert client_id is not None
    assert secret is not None
    check_transport("oauth2_introspection_url", url, allow_http=settings.auth_allow_http)
    rules = _rules(settings, frozenset())
    return Introspection(web, url, client_id, secret.get_secret_value(), rules)


def verifier_of_fixed_keys(settings: AuthSettings) -> JwtVerifier:
    """Return what checks tokens with ``jwt_secret`` or ``jwt_public_key``, whichever is set."""
    from nexus_auth.jwt_tokens import FixedKeys, JwtVerifier
    from nexus_auth.keyring import chosen_algorithms, keyring_of_public_key, keyring_of_secret

    if settings.jwt_secret is not None:
        ring, fitting = keyring_of_secret(settings.jwt_secret.get_secret_value()), frozenset({"HS256"})
    else:
        assert settings.jwt_public_key is not None
        ring = keyring_of_public_key(settings.jwt_public_key)
        fitting = ring.algorithms
    return JwtVerifier(FixedKeys(ring), _rules(settings, chosen_algorithms(settings.jwt_algorithms, fitting)))


def _verifier(settings: AuthSettings, web: Web, strategy: str) -> JwtVerifier:
    from nexus_auth.algorithms import ASYMMETRIC
    from nexus_auth.jwt_tokens import JwtVerifier
    from nexus_auth.keyring import chosen_algorithms

    if strategy == "jwt" and (settings.jwt_secret is not None or settings.jwt_public_key is not None):
        return verifier_of_fixed_keys(settings)
    rules = _rules(settings, chosen_algorithms(settings.jwt_algorithms, ASYMMETRIC))
    return JwtVerifier(_remote_keys(settings, web), rules)


def _remote_keys(settings: AuthSettings, web: Web) -> RemoteKeys:
    from nexus_auth.issuer import Issuer
    from nexus_auth.remote_keys import RemoteKeys
    from nexus_auth.web import check_transport

    allow_http = settings.auth_allow_http
    url, issuer = settings.jwt_jwks_url, None
    if url is not None:
        check_transport("jwt_jwks_url", url, allow_http=allow_http)
    else:
        assert settings.auth_service_url is not None  # `plan` has made sure
        issuer = Issuer(settings.auth_service_url, web, allow_http=allow_http)
    return RemoteKeys(web, url, issuer, ttl=settings.jwt_keys_ttl, cooldown=settings.jwt_keys_cooldown)


def _rules(settings: AuthSettings, algorithms: frozenset[str]) -> Rules:
    from nexus_auth.jwt_tokens import Rules

    return Rules(
        algorithms=algorithms,
        issuer=settings.jwt_issuer,
        audience=tuple(settings.jwt_audience),
        leeway=settings.jwt_leeway,
        required=tuple(settings.jwt_required_claims),
        names=ClaimNames(
            settings.jwt_user_claim,
            settings.jwt_tenant_claim,
            settings.jwt_permissions_claim,
            settings.jwt_scopes_claim,
        ),
        seconds=settings.auth_cache_ttl,
    )


def _api_keys(settings: AuthSettings, nexus: Nexus) -> Method:
    from nexus_auth.api_key_method import ApiKeyMethod
    from nexus_auth.key_file import KeyFile

    assert settings.api_key_file is not None  # `plan` has made sure
    return ApiKeyMethod(KeyFile(settings.api_key_file), nexus.threads)
