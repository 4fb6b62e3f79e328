"""`NexusIntegrationTest`: a base class of tests, with a platform and a client for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_testing.client import NexusTestClient

if TYPE_CHECKING:
    from nexus_core import Nexus


class NexusIntegrationTest:
    """Base class of tests: each test method has a new platform, which is stopped after it.

    Override `create_nexus` for other options or workflows.

    Attributes:
        nexus: The platform.
        client: Its client.

    Example::

        class TestShop(NexusIntegrationTest):
            def create_nexus(self):
                return Nexus(enable_auth=False)

            def test_a_session_on_two_channels(self):
                session = self.create_api_session()
                assert self.get_cli_session(session["session_id"])["state"] == {}
    """

    nexus: Nexus
    client: NexusTestClient

    def create_nexus(self) -> Nexus:
        """Return the platform of one test; by default, one without options."""
        from nexus_core import Nexus

        return Nexus()

    def setup_method(self, method: object = None) -> None:
        """Create the platform. Called by pytest."""
        self.nexus = self.create_nexus()
        self.client = NexusTestClient(self.nexus)

    def teardown_method(self, method: object = None) -> None:
        """Stop the platform. Called by pytest."""
        self.client.close()

    def setUp(self) -> None:
        """Create the platform for a `unittest.TestCase`; with pytest, which calls both methods, it exists already."""
        if "client" not in vars(self):
            self.setup_method()

    def tearDown(self) -> None:
        """Stop the platform."""
        self.teardown_method()

    def create_api_session(self) -> dict[str, Any]:
        """Create a session through the API, and return it with its ``session_id``."""
        return self._checked(self.client.post("/api/sessions"))

    def update_session_state(self, session_id: str, state: dict[str, Any]) -> dict[str, Any]:
        """Update members of a session's state through the API, and return the session."""
        return self._checked(self.client.patch(f"/api/sessions/{session_id}", {"state": state}))

    def get_api_session(self, session_id: str) -> dict[str, Any]:
        """Return a session from the API."""
        return self._checked(self.client.get(f"/api/sessions/{session_id}"))

    def get_cli_session(self, session_id: str) -> dict[str, Any]:
        """Return a session from the command line."""
        done = self.client.cli(["sessions", "show", session_id])
        assert done.exit_code == 0, done.stderr
        return done.json()  # type: ignore[no-any-return]

    def get_mcp_session(self, session_id: str) -> dict[str, Any]:
        """Return a session from MCP."""
        return self.client.mcp_read(f"nexus://sessions/{session_id}")  # type: ignore[no-any-return]

    def _checked(self, response: Any) -> dict[str, Any]:
        assert response.is_success, response.text
        return response.json()  # type: ignore[no-any-return]
