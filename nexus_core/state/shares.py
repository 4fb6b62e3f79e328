"""`Shares`: what each owner holds of a bounded whole, and who holds the most."""

from __future__ import annotations

from collections import OrderedDict

RANKS = 64
"""Owners are ranked by the binary digits of what they hold: the heaviest is known to within a factor of two."""


class Share:
    """What one owner holds: keys with a size each, least recently used first.

    Attributes:
        owner: Whose.
        size: The sum of the sizes.
        sizes: The size of each key.
    """

    __slots__ = ("owner", "rank", "size", "sizes")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.size = self.rank = 0
        self.sizes: OrderedDict[str, int] = OrderedDict()


class Shares:
    """The shares of all owners. Every method takes the same time however many there are.

    Attributes:
        size: The sum of all sizes.
        count: How many keys there are.
    """

    def __init__(self) -> None:
        self._owners: dict[str, Share] = {}
        self._ranks: list[dict[str, Share]] = [{} for _ in range(RANKS)]
        self.size = self.count = 0

    def of(self, owner: str) -> Share:
        """Return an owner's share, an empty one if it holds nothing."""
        return self._owners.get(owner) or Share(owner)

    def add(self, owner: str, key: str, size: int) -> Share:
        """Add a key that is not there yet, as the latest of its owner's."""
        share = self._owners.get(owner)
        if share is None:
            share = self._owners[owner] = Share(owner)
            self._ranks[0][owner] = share
        share.sizes[key] = size
        self.count += 1
        self._change(share, size)
        return share

    def remove(self, share: Share, key: str) -> None:
        """Take a key away."""
        size = share.sizes.pop(key)
        self.count -= 1
        self._change(share, -size)
        if not share.sizes:
            del self._owners[share.owner], self._ranks[share.rank][share.owner]

    def heaviest(self) -> Share:
        """Return the share that is the largest, or more than half as large. There must be one."""
        return next(next(iter(rank.values())) for rank in reversed(self._ranks) if rank)

    def _change(self, share: Share, size: int) -> None:
        self.size += size
        share.size += size
        rank = min(share.size.bit_length(), RANKS - 1)
        if rank != share.rank:
            del self._ranks[share.rank][share.owner]
            share.rank = rank
            self._ranks[rank][share.owner] = share
