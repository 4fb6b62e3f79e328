"""Builds what the options ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_auth.authorizers import BuiltInRule, OwnRule
from nexus_auth.own import OwnProvider
from nexus_auth.plan import has_fixed_key, strategies
from nexus_auth.principals import ClaimNames
from nexus_auth.provider import authenticates, authorizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nexus_auth.issuer import Issuer
    from nexus_auth.jwt_tokens import JwtVerifier, Rules
    from nexus_auth.methods import Method
    from nexus_auth.oauth_client import OAuthClient
    from nexus_auth.own import GuardedCalls
    from nexus_auth.remote_keys import RemoteKeys
    from nexus_auth.settings import AuthSettings
    from nexus_auth.web import Web
    from nexus_core.concurrency.threads import DaemonThreads

API_KEY = "api_key"


class Builder:
    """Builds the ways in which callers may prove who they are, and who decides what they may do.

    Args:
        settings: The options.
        web: Who asks the issuer.
        threads: Where files are read.
        calls: How the application's own provider is called.
        forget: Called when what was accepted must be checked again.

    Attributes:
        issuer: The issuer, where it is asked for its keys.
        keys: What has asked it.
    """

    def __init__(
        self, settings: AuthSettings, web: Web, threads: DaemonThreads, calls: GuardedCalls,
        forget: Callable[[], object],
    ) -> None:  # fmt: skip
        self._settings = settings
        self._web = web
        self._threads = threads
        self._calls = calls
        self._forget = forget
        self.issuer: Issuer | None = None
        self.keys: RemoteKeys | None = None

    def methods(self) -> list[Method]:
        """Return the methods in the order in which they are tried.

        A provider that authenticates stands in the place of tokens. API keys go beside it, and first: no other method
        has to see what has their form.

        Raises:
            ConfigurationError: A key or an address can't be used.
        """
        chosen = strategies(self._settings)
        found: list[Method] = [self._api_keys()] if API_KEY in chosen else []
        if authenticates(self._settings.auth_provider):
            return [*found, self._own()]
        return [*found, *self._tokens([strategy for strategy in chosen if strategy != API_KEY])]

    def authorizer(self) -> BuiltInRule | OwnRule:
        """Return who decides what callers may do."""
        provider = self._settings.auth_provider
        if authorizes(provider):
            return OwnRule(provider, self._calls, own=authenticates(provider))
        return BuiltInRule()

    def _api_keys(self) -> Method:
        from nexus_auth.api_key_method import ApiKeyMethod
        from nexus_auth.key_file import KeyFile

        assert self._settings.api_key_file is not None  # `plan` has made sure
        return ApiKeyMethod(KeyFile(self._settings.api_key_file), self._threads)

    def _own(self) -> Method:
        """Return the method of a provider that authenticates."""
        from nexus_auth.jwt_provider import JWTAuthProvider
        from nexus_auth.jwt_tokens import JwtMethod

        provider = self._settings.auth_provider
        if not isinstance(provider, JWTAuthProvider):
            return OwnProvider(provider, self._calls)
        if provider.uses_options:
            fixed = has_fixed_key(self._settings)
            provider.bind(verifier_of_fixed_keys(self._settings) if fixed else self._verifier_of_remote_keys())
        assert provider.verifier is not None
        if type(provider).authenticate is JWTAuthProvider.authenticate:  # it needs no thread
            return JwtMethod(type(provider).__name__, provider.verifier)
        return OwnProvider(provider, self._calls, keys=provider.verifier.keys)

    def _tokens(self, chosen: list[str]) -> Iterator[Method]:
        """Give the methods for tokens. Two strategies that come to the same keys are one method: it asks once."""
        from nexus_auth.jwt_tokens import JwtMethod

        by_keys_of_issuer = False
        for strategy in chosen:
            if strategy == "oauth2" and self._settings.oauth2_introspection_url is not None:
                yield self._introspection()
            elif strategy == "jwt" and has_fixed_key(self._settings):
                yield JwtMethod(strategy, verifier_of_fixed_keys(self._settings))
            elif not by_keys_of_issuer:
                by_keys_of_issuer = True
                yield JwtMethod(strategy, self._verifier_of_remote_keys())

    def _introspection(self) -> Method:
        from nexus_auth.introspection import Introspection
        from nexus_auth.web import check_transport

        settings = self._settings
        url, client_id = settings.oauth2_introspection_url, settings.oauth2_client_id
        secret = settings.oauth2_client_secret
        assert url is not None  # `plan` has made sure of all three
        assert client_id is not None
        assert secret is not None
        check_transport("oauth2_introspection_url", url, allow_http=settings.auth_allow_http)
        rules, seconds = rules_of(settings, frozenset()), settings.auth_cache_ttl
        return Introspection(self._web, url, client_id, secret.get_secret_value(), rules, seconds)

    def _verifier_of_remote_keys(self) -> JwtVerifier:
        from nexus_auth.algorithms import ASYMMETRIC
        from nexus_auth.jwt_tokens import JwtVerifier
        from nexus_auth.keyring import chosen_algorithms

        algorithms = chosen_algorithms(self._settings.jwt_algorithms, ASYMMETRIC)
        return JwtVerifier(self._remote_keys(), rules_of(self._settings, algorithms))

    def _remote_keys(self) -> RemoteKeys:
        from nexus_auth.remote_keys import RemoteKeys
        from nexus_auth.web import check_transport

        settings = self._settings
        url, allow_http = settings.jwt_jwks_url, settings.auth_allow_http
        if url is not None:
            check_transport("jwt_jwks_url", url, allow_http=allow_http)
        else:
            self.issuer = _issuer(settings, self._web)
        ttl, cooldown = settings.jwt_keys_ttl, settings.jwt_keys_cooldown
        self.keys = RemoteKeys(self._web, url, self.issuer, self._forget, ttl=ttl, cooldown=cooldown)
        return self.keys


def issuer_of(settings: AuthSettings) -> str | None:
    """Return the issuer that callers can get tokens from, where there is one."""
    url = settings.auth_service_url or settings.jwt_issuer
    return url if url is not None and url.startswith(("https://", "http://")) else None


def verifier_of_fixed_keys(settings: AuthSettings) -> JwtVerifier:
    """Return what checks tokens with ``jwt_secret`` or ``jwt_public_key``, whichever is set.

    Raises:
        ConfigurationError: The key can't be used.
    """
    from nexus_auth.jwt_tokens import FixedKeys, JwtVerifier
    from nexus_auth.keyring import chosen_algorithms, keyring_of_public_key, keyring_of_secret

    if settings.jwt_secret is not None:
        ring, fitting = keyring_of_secret(settings.jwt_secret.get_secret_value()), frozenset({"HS256"})
    else:
        assert settings.jwt_public_key is not None
        ring = keyring_of_public_key(settings.jwt_public_key)
        fitting = ring.algorithms
    return JwtVerifier(FixedKeys(ring), rules_of(settings, chosen_algorithms(settings.jwt_algorithms, fitting)))


def rules_of(settings: AuthSettings, algorithms: frozenset[str]) -> Rules:
    """Return what tokens must be like."""
    from nexus_auth.jwt_tokens import Rules

    return Rules(
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
    """Return what ``iss`` must be; nothing where the issuer itself says it, or nobody knows."""
    if settings.jwt_issuer is not None:
        return (settings.jwt_issuer,)
    if settings.jwt_jwks_url is not None and settings.auth_service_url is not None:
        bare = settings.auth_service_url.rstrip("/")
        return (bare, f"{bare}/")
    return ()


def _issuer(settings: AuthSettings, web: Web) -> Issuer:
    """Return the issuer at ``auth_service_url``. ``jwt_issuer`` is its own name, where that is another."""
    from nexus_auth.issuer import Issuer

    assert settings.auth_service_url is not None  # `plan` has made sure
    return Issuer(settings.auth_service_url, web, allow_http=settings.auth_allow_http, own_name=settings.jwt_issuer)


def oauth_client(settings: AuthSettings, web: Web) -> OAuthClient:
    """Return the client that gets tokens for browsers."""
    from nexus_auth.oauth_client import OAuthClient

    assert settings.oauth2_client_id is not None
    issuer = _issuer(settings, web)
    secret = settings.oauth2_client_secret
    return OAuthClient(
        issuer, settings.oauth2_client_id, None if secret is None else secret.get_secret_value(),
        scopes=settings.oauth2_scopes, resource=settings.auth_resource_url, seconds=settings.auth_timeout,
    )  # fmt: skip
