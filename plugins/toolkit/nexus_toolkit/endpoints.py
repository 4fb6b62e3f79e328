"""`Endpoint`: what an ASGI application answers, for documentation and for its dispatch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address. Classes of applications and channels have theirs in ``endpoints``.

    Attributes:
        path: The path.
        methods: The HTTP methods, or ``WebSocket``.
        summary: What it does, as a sentence.
        answers: The statuses of its answers, in addition to errors that every address has.
        permission: The permission that a caller needs if authentication is on, or empty.
        port: The option that sets the port. Default: that of the channel, for a route that of the API.
    """

    path: str
    methods: tuple[str, ...]
    summary: str
    answers: tuple[int, ...]
    permission: str = ""
    port: str = ""
