"""Whose budget a call is taken from."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from nexus_core.runs.context import current_run
from nexus_core.types.addresses import network_of

if TYPE_CHECKING:
    from nexus_core import Invocation

KNOWN_ADDRESSES = 10_000


class Callers:
    """Tells callers apart: by who they are, else by their address, else by the channel.

    Each key begins with a word and a space, which no identity, network or name of a channel has.
    """

    def __init__(self) -> None:
        self.network = lru_cache(KNOWN_ADDRESSES)(network_of)

    def key(self, invocation: Invocation, *, by_address: bool = False) -> str | None:
        """Return the key of who calls; None for a part of a call that was counted.

        Args:
            invocation: The call.
            by_address: Whether who it is does not count, though it is known.
        """
        if invocation.principal is not None and not by_address:
            return "user " + invocation.principal.identity
        if invocation.client_address:
            return "address " + self.network(invocation.client_address)
        run = current_run.get()
        if run is not None and not run.ended:
            return None
        return "channel " + invocation.channel
