"""The stage that puts a caller's own address in the place of the proxy's that it comes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.pipeline.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.pipeline.stage import Call
    from nexus_core.server.proxies import TrustedProxies
    from nexus_core.types.result import Result


class ClientAddress:
    """Sets `Invocation.client_address` to the address behind trusted proxies."""

    stage = Stage.AUTHENTICATE - 3  # in front of whatever counts by address

    def __init__(self, proxies: TrustedProxies) -> None:
        self._proxies = proxies

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Pass the invocation on, with its caller's address."""
        if invocation.client_address and invocation.headers:
            invocation.client_address = self._proxies.client(invocation.client_address, invocation.headers)
        return call_next(invocation)
