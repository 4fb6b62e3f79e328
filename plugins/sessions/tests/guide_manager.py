"""The developer guide's session manager, as it is written there; and the same with async methods."""

# fmt: off
# ruff: noqa

from datetime import datetime
from nexus_sessions import SessionManager, Session

class EnterpriseSessionManager(SessionManager):
    def create_session(self, channel: str, user_id: str = None) -> Session:
        """Create session with enhanced metadata"""
        session = super().create_session(channel, user_id)

        # Add enterprise metadata
        session.metadata.update({
            "tenant_id": self.get_tenant_id(user_id),
            "permissions": self.get_user_permissions(user_id),
            "rate_limits": self.get_rate_limits(user_id),
            "created_at": datetime.now().isoformat(),
            "channel": channel
        })

        return session

    def sync_session_state(self, session_id: str, state: dict):
        """Sync session state across all channels"""
        session = self.get_session(session_id)

        # Update session state
        session.state.update(state)

        # Notify all channels for this session
        for channel in session.active_channels:
            self.notify_channel(channel, session_id, state)

    def cleanup_expired_sessions(self):
        """Enhanced session cleanup with logging"""
        expired_sessions = self.get_expired_sessions()

        for session in expired_sessions:
            self.logger.info(f"Cleaning up expired session: {session.id}")
            self.cleanup_session_resources(session)
            self.remove_session(session.id)


class AsyncSessionManager(SessionManager):
    async def create_session(self, channel: str, user_id: str = None) -> Session:
        session = await super().create_session(channel, user_id)
        session.metadata.update({
            "tenant_id": self.get_tenant_id(user_id),
            "permissions": self.get_user_permissions(user_id),
            "rate_limits": self.get_rate_limits(user_id),
            "created_at": datetime.now().isoformat(),
            "channel": channel
        })
        return session

    async def sync_session_state(self, session_id: str, state: dict):
        session = await self.get_session(session_id)
        session.state.update(state)
        for channel in session.active_channels:
            await self.notify_channel(channel, session_id, state)

    async def cleanup_expired_sessions(self):
        for session in await self.get_expired_sessions():
            self.logger.info(f"Cleaning up expired session: {session.id}")
            await self.cleanup_session_resources(session)
            await self.remove_session(session.id)
