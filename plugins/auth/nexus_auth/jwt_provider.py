"""`JWTAuthProvider`: a provider for JSON Web Tokens, to be subclassed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nexus_auth.credentials import read
from nexus_auth.principals import user_of
from nexus_auth.provider import AuthProvider
from nexus_auth.rejection import NOT_VALID, Rejected, Unavailable, provider_unavailable
from nexus_auth.settings import AuthSettings
from nexus_core.errors import AuthenticationError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from nexus_auth.methods.jwt import JwtVerifier

_OPTIONS = frozenset(name.removeprefix("jwt_") for name in AuthSettings.model_fields if name.startswith("jwt_"))


class JWTAuthProvider(AuthProvider):
    """An `AuthProvider` whose credentials are JSON Web Tokens.

    Args:
        **options: The platform's options that begin with ``jwt_``, without this prefix: ``secret``, ``public_key``,
            ``issuer``, ``audience``, ... Without any, the platform's own options apply.

    Raises:
        ConfigurationError: An option is not valid.
    """

    def __init__(self, **options: Any) -> None:
        if unknown := sorted(options.keys() - _OPTIONS):
            raise TypeError(f"JWTAuthProvider has no argument {unknown[0]!r}")
        if options and not options.keys() & {"secret", "public_key"}:
            raise TypeError("JWTAuthProvider needs secret or public_key, or no argument at all")
        self.uses_options = not options
        self.verifier: JwtVerifier | None = _verifier(options) if options else None
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self, verifier: JwtVerifier) -> None:
        """Use the verifier of the platform's own options. Called on its event loop when it starts."""
        self.verifier, self._loop = verifier, asyncio.get_running_loop()

    def authenticate(self, credentials: dict[str, Any]) -> Any:
        """Return the user of a token, with all its claims. See `AuthProvider.authenticate`.

        On an event loop, in an async method that overrides this one, it returns an awaitable.
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
            raise RuntimeError("JWTAuthProvider has no key before the platform is started")
        try:
            verified = await self.verifier.verify(read(credentials["authorization"]).token)
        except Rejected:
            raise AuthenticationError(NOT_VALID) from None
        except Unavailable:
            raise provider_unavailable() from None
        return user_of(verified.principal, authenticated=False)


def _driven(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Return the result of a coroutine that never waits: its keys are fixed."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("the coroutine waits")


def _verifier(options: dict[str, Any]) -> JwtVerifier:
    from nexus_auth.methods.jwt_options import verifier_of_fixed_keys
    from nexus_auth.option_checks import has_fixed_key, refuse_contradictions

    try:
        settings = AuthSettings(enable_auth=True, **{f"jwt_{name}": options[name] for name in options})
    except ValidationError as exc:
        (first, *_) = exc.errors(include_input=False, include_url=False)
        where = str(first["loc"][0]).removeprefix("jwt_") if first["loc"] else "options"
        raise ConfigurationError(f"JWTAuthProvider: {where}: {first['msg']}") from None
    refuse_contradictions(settings)
    if not has_fixed_key(settings):
        raise ConfigurationError("JWTAuthProvider: secret or public_key is empty. Set one of them.")
    return verifier_of_fixed_keys(settings)
