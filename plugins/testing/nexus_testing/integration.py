"""`NexusIntegrationTest`: a base of test classes that have a platform and a caller for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_testing.client import NexusTestClient

if TYPE_CHECKING:
    from nexus_core import Nexus


class NexusIntegrationTest:
    """Each test method gets a platform of its own, stopped after it.

    Override `create_nexus` for other options or workflows.

    Attributes:
        nexus: The platform.
        client: A caller of it.
    """

    nexus: Nexus
    client: NexusTestClient

    def create_nexus(self) -> Nexus:
        """Return the platform of one test: by default one without options."""
        from nexus_core import Nexus

        return Nexus()

    def setup_method(self, method: object = None) -> None:
        """Make the platform. pytest calls it."""
        self.nexus = self.create_nexus()
        self.client = NexusTestClient(self.nexus)

    def teardown_method(self, method: object = None) -> None:
        """Stop it. pytest calls it."""
        self.client.close()

    def setUp(self) -> None:
        """Make the platform for a class that is a `unittest.TestCase` too. pytest, which calls both, has done so."""
        if "client" not in vars(self):
            self.setup_method()

    def tearDown(self) -> None:
        """Stop it."""
        self.teardown_method()

    def create_api_session(self) -> dict[str, Any]:
        """Begin a session through the API; return it with its ``session_id``."""
        return self._checked(self.client.post("/api/sessions"))

    def update_session_state(self, session_id: str, state: dict[str, Any]) -> dict[str, Any]:
        """Change members of a session's state through the API; return the session."""
        return self._checked(self.client.patch(f"/api/sessions/{session_id}", {"state": state}))

    def get_api_session(self, session_id: str) -> dict[str, Any]:
        """Return a session as the API shows it."""
        return self._checked(self.client.get(f"/api/sessions/{session_id}"))

    def get_cli_session(self, session_id: str) -> dict[str, Any]:
        """Return a session as the command line shows it."""
        done = self.client.cli(["sessions", "show", session_id])
        assert done.exit_code == 0, done.stderr
        return done.json()  # type: ignore[no-any-return]

    def get_mcp_session(self, session_id: str) -> dict[str, Any]:
        """Return a session as MCP shows it."""
        return self.client.mcp_read(f"nexus://sessions/{session_id}")  # type: ignore[no-any-return]

    def _checked(self, response: Any) -> dict[str, Any]:
        assert response.is_success, response.text
        return response.json()  # type: ignore[no-any-return]
