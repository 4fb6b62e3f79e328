"""Creates the authentication methods and the authorizer that the options ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_auth.authorizers import CustomAuthorizer, PermissionAuthorizer
from nexus_auth.methods.custom import CustomProvider
from nexus_auth.oauth.issuer import configured_issuer
from nexus_auth.oauth.json_client import check_transport
from nexus_auth.option_checks import has_fixed_key, strategies
from nexus_auth.provider import authenticates, authorizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nexus_auth.methods.custom import GuardedCalls
    from nexus_auth.methods.jwt import JwtVerifier
    from nexus_auth.methods.method import Method
    from nexus_auth.methods.remote_keys import RemoteKeys
    from nexus_auth.oauth.issuer import Issuer
    from nexus_auth.oauth.json_client import JsonClient
    from nexus_auth.settings import AuthSettings
    from nexus_core.concurrency.threads import DaemonThreads

API_KEY = "api_key"


class MethodFactory:
    """Creates authentication methods and the authorizer for one platform. The options have been checked.

    Args:
        settings: The options.
        http: The client for the issuer.
        threads: Where files are read.
        calls: Calls the application's own provider.
        keys_changed: Called when the issuer's keys have changed.

    Attributes:
        issuer: The issuer, where its metadata are used.
        keys: The issuer's keys, where they are used.
    """

    def __init__(
        self, settings: AuthSettings, http: JsonClient, threads: DaemonThreads, calls: GuardedCalls,
        keys_changed: Callable[[], object],
    ) -> None:  # fmt: skip
        self._settings = settings
        self._http = http
        self._threads = threads
        self._calls = calls
        self._keys_changed = keys_changed
        self.issuer: Issuer | None = None
        self.keys: RemoteKeys | None = None

    def methods(self) -> list[Method]:
        """Return the methods in the order in which they are tried.

        A provider that authenticates takes the place of tokens. API keys come first: no other method gets to see a
        credential of their form.

        Raises:
            ConfigurationError: A key or a URL can't be used.
        """
        chosen = strategies(self._settings)
        found: list[Method] = [self._api_keys()] if API_KEY in chosen else []
        if authenticates(self._settings.auth_provider):
            return [*found, self._custom()]
        return [*found, *self._tokens([strategy for strategy in chosen if strategy != API_KEY])]

    def authorizer(self) -> PermissionAuthorizer | CustomAuthorizer:
        """Return the authorizer: the application's own, or the built-in one."""
        provider = self._settings.auth_provider
        if authorizes(provider):
            return CustomAuthorizer(provider, self._calls, authenticates=authenticates(provider))
        return PermissionAuthorizer()

    def _api_keys(self) -> Method:
        from nexus_auth.methods.api_key import ApiKeyMethod
        from nexus_auth.methods.key_file import KeyFile

        assert self._settings.api_key_file is not None  # see `refuse_gaps`
        return ApiKeyMethod(KeyFile(self._settings.api_key_file), self._threads)

    def _custom(self) -> Method:
        """Return the method of a provider that authenticates."""
        from nexus_auth.jwt_provider import JWTAuthProvider

        provider = self._settings.auth_provider
        if not isinstance(provider, JWTAuthProvider):
            return CustomProvider(provider, self._calls)
        from nexus_auth.methods.jwt import JwtMethod

        if provider.uses_options:
            provider.bind(self._verifier("jwt"))
        assert provider.verifier is not None
        if type(provider).authenticate is JWTAuthProvider.authenticate:  # it needs no thread
            return JwtMethod(type(provider).__name__, provider.verifier)
        return CustomProvider(provider, self._calls, keys=provider.verifier.keys)

    def _tokens(self, chosen: list[str]) -> Iterator[Method]:
        """Yield the methods for tokens. Two strategies that use the same keys are one method, with one set of keys."""
        for strategy in chosen:
            if strategy == "oauth2" and self._settings.oauth2_introspection_url is not None:
                yield self._introspection()
            elif self.keys is None or (strategy == "jwt" and has_fixed_key(self._settings)):
                from nexus_auth.methods.jwt import JwtMethod

                yield JwtMethod(strategy, self._verifier(strategy))

    def _introspection(self) -> Method:
        from nexus_auth.methods.introspection import Introspection
        from nexus_auth.methods.jwt_options import token_rules

        settings = self._settings
        url, client_id = settings.oauth2_introspection_url, settings.oauth2_client_id
        secret = settings.oauth2_client_secret
        assert url is not None  # see `refuse_gaps`, for all three
        assert client_id is not None
        assert secret is not None
        check_transport("oauth2_introspection_url", url, allow_http=settings.auth_allow_http)
        rules = token_rules(settings, frozenset())
        return Introspection(self._http, url, client_id, secret.get_secret_value(), rules, settings.auth_cache_ttl)

    def _verifier(self, strategy: str) -> JwtVerifier:
        """Return the verifier with the fixed key, if the strategy uses it, or with the issuer's keys."""
        from nexus_auth.methods.jwt_options import verifier_of_fixed_keys, verifier_of_remote_keys
        from nexus_auth.methods.remote_keys import RemoteKeys

        settings = self._settings
        if strategy == "jwt" and has_fixed_key(settings):
            return verifier_of_fixed_keys(settings)
        url, allow_http = settings.jwt_jwks_url, settings.auth_allow_http
        if url is not None:
            check_transport("jwt_jwks_url", url, allow_http=allow_http)
        else:
            self.issuer = configured_issuer(settings, self._http)
        self.keys = RemoteKeys(
            self._http, url, self.issuer, self._keys_changed,
            ttl=settings.jwt_keys_ttl, cooldown=settings.jwt_keys_cooldown,
        )  # fmt: skip
        return verifier_of_remote_keys(settings, self.keys)
