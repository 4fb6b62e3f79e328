"""State that a caller carries from channel to channel, and who manages it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_sessions.manager import SessionManager as SessionManager

    from nexus_core.state.sessions import Session as Session

__getattr__, __dir__, __all__ = names(
    __name__,
    Session="nexus_core.state.sessions",
    SessionManager="nexus_sessions.manager",
)
