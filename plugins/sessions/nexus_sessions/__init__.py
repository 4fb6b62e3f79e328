"""Sessions, and the manager to override where they are made, changed and cleaned up."""

from __future__ import annotations

from nexus_core.state.sessions import Session as Session
from nexus_sessions.manager import SessionManager as SessionManager

__all__ = ["Session", "SessionManager"]
