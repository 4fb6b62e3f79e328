"""Parameters on their way from a request to a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_core.pipeline.resolvers import ParameterResolver as ParameterResolver
    from nexus_core.types.parameter_source import ParameterSource as ParameterSource

__getattr__, __dir__, __all__ = names(
    __name__,
    ParameterResolver="nexus_core.pipeline.resolvers",
    ParameterSource="nexus_core.types.parameter_source",
)
