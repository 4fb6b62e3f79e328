"""Sessions, and their manager."""

from __future__ import annotations

from nexus._names import names

__getattr__, __dir__, __all__ = names(
    __name__,
    Session="nexus_core.state.sessions",
    SessionManager="nexus_sessions.manager",
)
