"""`Result`: what a workflow returned, as JSON text."""

from __future__ import annotations

from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode


class Result:
    """What a workflow gave back. It is kept as JSON text: immutable, and the same on each channel.

    Attributes:
        json: The value as JSON text.
        run_id: The run that gave it.
        duration: Seconds the execution took.
        cached: Whether it came from the cache.
        replayed: Whether it is the stored answer to an earlier call with the same idempotency key.
    """

    __slots__ = ("cached", "duration", "json", "replayed", "run_id")

    def __init__(
        self, json: bytes, run_id: str, duration: float = 0.0, *, cached: bool = False, replayed: bool = False
    ) -> None:
        self.json = json
        self.run_id = run_id
        self.duration = duration
        self.cached = cached
        self.replayed = replayed

    @property
    def value(self) -> Any:
        """The value in JSON's types, decoded again at each access: changing it changes no other caller's."""
        return _decode(self.json)

    def flags(self) -> dict[str, bool]:
        """Return flags that say where it comes from: ``cached`` and ``replayed``, where they are true."""
        return {name: True for name in ("cached", "replayed") if getattr(self, name)}

    def reply(self) -> bytes:
        """Return the reply that REST, the command line and MCP share: ``{"result": ..., "run_id": ...}``."""
        flags = b""
        if self.cached:
            flags += b',"cached":true'
        if self.replayed:
            flags += b',"replayed":true'
        return b'{"result":%b,"run_id":"%b"%b}' % (self.json, self.run_id.encode(), flags)

    def __repr__(self) -> str:
        return f"Result({self.json[:80]!r}, run_id={self.run_id!r})"
