"""`JWTAuthProvider`: a provider for JSON Web Tokens, to be subclassed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nexus_auth import build
from nexus_auth.credentials import read
from nexus_auth.jwt_tokens import FixedKeys, JwtVerifier
from nexus_auth.principals import user_of
from nexus_auth.provider import AuthProvider
from nexus_auth.refusal import Refused
from nexus_auth.settings import AuthSettings
from nexus_core.errors import AuthenticationError

if TYPE_CHECKING:
    from nexus_auth.known import Verified

_OPTIONS = frozenset(name.removeprefix("jwt_") for name in AuthSettings.model_fields if name.startswith("jwt_"))


class JWTAuthProvider(AuthProvider):
    """An `AuthProvider` whose credentials are JSON Web Tokens.

    Args:
        **options: The options of the platform that begin with ``jwt_``, without that: ``secret``, ``public_key``,
            ``issuer``, ``audience``, ... Without a key, tokens are checked as the platform's own options say.

    Raises:
        ConfigurationError: A key can't be used.
    """

    def __init__(self, **options: Any) -> None:
        if unknown := sorted(options.keys() - _OPTIONS):
            raise TypeError(f"JWTAuthProvider has no argument {unknown[0]!r}")
        settings = AuthSettings(enable_auth=bool(options), **{f"jwt_{name}": options[name] for name in options})
        has_key = settings.jwt_secret is not None or settings.jwt_public_key is not None
        if options and not has_key:
            raise TypeError("JWTAuthProvider needs secret or public_key, or no argument at all")
        self.verifier: JwtVerifier | None = build.verifier_of_fixed_keys(settings) if has_key else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.uses_options = not has_key

    @property
    def leaves_tokens_to_options(self) -> bool:
        """Whether it adds nothing to how the platform's own options check tokens."""
        return self.uses_options and type(self).authenticate is JWTAuthProvider.authenticate

    def bind(self, verifier: JwtVerifier) -> None:
        """Use the platform's own options. Called on its event loop when it starts."""
        self.verifier, self._loop = verifier, asyncio.get_running_loop()

    def authenticate(self, credentials: dict[str, Any]) -> Any:
        """Return the user that a token tells of, with all its claims. See `AuthProvider.authenticate`."""
        try:
            token = read(credentials["authorization"]).token
            principal = self._verified(token).principal
        except Refused:
            raise AuthenticationError("The credential is not accepted.") from None
        return user_of(principal, own=False)

    def _verified(self, token: str) -> Verified:
        if self.verifier is None:
            raise RuntimeError("JWTAuthProvider has no key, and the platform that would know one is not started")
        if isinstance(self.verifier.keys, FixedKeys):
            return self.verifier.verify_with(token, self.verifier.keys.ring)
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self.verifier.verify(token), self._loop).result()
