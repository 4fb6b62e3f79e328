"""`CallerKeys`: the caller whose budget a call uses."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from nexus_core.runs.context import current_run
from nexus_core.types.addresses import network_of

if TYPE_CHECKING:
    from nexus_core import Caller

KNOWN_ADDRESSES = 10_000


class CallerKeys:
    """Identifies callers by their identity, else by their network, else by the channel.

    Each key has a prefix with a space, so that identities, networks and channels can't collide.
    """

    def __init__(self) -> None:
        self.network = lru_cache(KNOWN_ADDRESSES)(network_of)

    def key(self, caller: Caller, *, by_address: bool = False) -> str | None:
        """Return the caller's key; None for a call within another call, which has been counted.

        Args:
            caller: The caller.
            by_address: Whether to ignore the caller's identity.
        """
        if caller.principal is not None and not by_address:
            return "user " + caller.principal.identity
        if caller.client_address:
            return "address " + self.network(caller.client_address)
        run = current_run.get()
        if run is not None and not run.ended:
            return None
        return "channel " + caller.channel
