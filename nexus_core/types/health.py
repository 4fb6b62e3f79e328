"""`HealthCheck`: a check of something that the platform needs. A health plugin asks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One check. Given by ``nexus_register_health_checks``.

    Attributes:
        name: What is checked, such as ``redis``.
        check: Looks, and raises if it does not work; the text of what it raises is shown to callers that may see it. It
            returns nothing, True, a text, or a mapping with details, with ``status`` (``healthy`` or ``unhealthy``) in
            place of raising; anything else counts as unhealthy. May be async; what is sync runs in a thread.
        is_critical: Whether the platform is not ready without it.
        timeout: Seconds that it may take; None for what the health plugin gives every check.
        interval: Seconds between two checks, where readiness has to follow soon; None for the health plugin's, which
            counts where it is shorter.
    """

    name: str
    check: Callable[[], Any]
    is_critical: bool = True
    timeout: float | None = None
    interval: float | None = None
