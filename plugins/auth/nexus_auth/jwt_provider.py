"""`JWTAuthProvider`: a provider for JSON Web Tokens, to be subclassed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nexus_auth.build import verifier_of_fixed_keys
from nexus_auth.credentials import read
from nexus_auth.principals import user_of
from nexus_auth.provider import AuthProvider
from nexus_auth.refusal import NOT_ACCEPTED, Refused, Unavailable, nobody_answers
from nexus_auth.settings import AuthSettings
from nexus_core.errors import AuthenticationError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from nexus_auth.jwt_tokens import JwtVerifier

_OPTIONS = frozenset(name.removeprefix("jwt_") for name in AuthSettings.model_fields if name.startswith("jwt_"))


class JWTAuthProvider(AuthProvider):
    """An `AuthProvider` whose credentials are JSON Web Tokens.

    Args:
        **options: The options of the platform that begin with ``jwt_``, without that: ``secret``, ``public_key``,
            ``issuer``, ``audience``, ... Without a key, tokens are checked as the platform's own options say.

    Raises:
        ConfigurationError: An option does not fit.
    """

    def __init__(self, **options: Any) -> None:
        if unknown := sorted(options.keys() - _OPTIONS):
            raise TypeError(f"JWTAuthProvider has no argument {unknown[0]!r}")
        if options and not options.keys() & {"secret", "public_key"}:
            raise TypeError("JWTAuthProvider needs secret or public_key, or no argument at all")
        self.uses_options = not options
        self.verifier: JwtVerifier | None = verifier_of_fixed_keys(_read(options)) if options else None
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self, verifier: JwtVerifier) -> None:
        """Use the platform's own options. Called on its event loop when it starts."""
        self.verifier, self._loop = verifier, asyncio.get_running_loop()

    def authenticate(self, credentials: dict[str, Any]) -> Any:
        """Return the user that a token tells of, with all its claims. See `AuthProvider.authenticate`.

        On an event loop, in an async method that overrides this one, it returns something to be awaited.
        """
        work = self._user(credentials)
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is None:
                return _driven(work)
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        if self._loop in (None, here):
            return work
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _user(self, credentials: dict[str, Any]) -> dict[str, Any]:
        if self.verifier is None:
            raise RuntimeError("JWTAuthProvider has no key, and the platform that would know one is not started")
        try:
            verified = await self.verifier.verify(read(credentials["authorization"]).token)
        except Refused:
            raise AuthenticationError(NOT_ACCEPTED) from None
        except Unavailable:
            raise nobody_answers() from None
        return user_of(verified.principal, own=False)


def _driven(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Return what a coroutine returns that has nothing to wait for: its keys are at hand."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something")


def _read(options: dict[str, Any]) -> AuthSettings:
    try:
        settings = AuthSettings(enable_auth=True, **{f"jwt_{name}": options[name] for name in options})
    except ValidationError as exc:
        (first, *_) = exc.errors(include_input=False, include_url=False)
        where = str(first["loc"][0]).removeprefix("jwt_") if first["loc"] else "options"
        raise ConfigurationError(f"JWTAuthProvider: {where}: {first['msg']}") from None
    if settings.jwt_secret is None and settings.jwt_public_key is None:
        raise ConfigurationError("JWTAuthProvider: secret or public_key is empty, and protects nothing.")
    return settings
