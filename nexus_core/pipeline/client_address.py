"""The stage that puts a caller's own address in the place of the proxy's that it comes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.pipeline.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.pipeline.stage import AnyCaller, CallNext
    from nexus_core.server.proxies import TrustedProxies
    from nexus_core.types.result import Result


class ClientAddress:
    """Sets `Caller.client_address` to the address behind trusted proxies."""

    stage = Stage.AUTHENTICATE - 3  # in front of whatever counts by address

    def __init__(self, proxies: TrustedProxies) -> None:
        self._proxies = proxies

    def __call__(self, caller: AnyCaller, call_next: CallNext[AnyCaller]) -> Awaitable[Result]:
        """Pass the caller on, with its own address."""
        if caller.client_address and caller.headers:
            caller.client_address = self._proxies.client(caller.client_address, caller.headers)
        return call_next(caller)
