"""Parameter resolvers."""

from __future__ import annotations

from nexus._names import names

__getattr__, __dir__, __all__ = names(
    __name__,
    ParameterResolver="nexus_core.pipeline.resolvers",
    ParameterSource="nexus_core.types.parameter_source",
)
