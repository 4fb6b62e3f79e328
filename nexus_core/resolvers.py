"""`ParameterResolver`: rewrites raw parameters before they are checked against the workflow's schema."""

from __future__ import annotations

from typing import Any


class ParameterResolver:
    """Completes or rewrites parameters. Subclass it, or implement the one method.

    The method may be async. A sync one runs in a thread, because it may block.
    """

    def resolve_parameters(self, workflow_name: str, channel: str, raw_params: dict[str, Any]) -> Any:
        """Return the parameters to use.

        Args:
            workflow_name: The workflow called.
            channel: The channel it came through.
            raw_params: The parameters as the caller gave them.
        """
        return dict(raw_params)
