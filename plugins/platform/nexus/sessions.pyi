# Written by `make generate`.

from nexus_core.state.sessions import Session as Session
from nexus_sessions.manager import SessionManager as SessionManager

__all__ = [
    "Session",
    "SessionManager",
]
