# Written by `make generate`.

from nexus_core.pipeline.resolvers import ParameterResolver as ParameterResolver
from nexus_core.types.parameter_source import ParameterSource as ParameterSource

__all__ = [
    "ParameterResolver",
    "ParameterSource",
]
