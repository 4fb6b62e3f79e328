"""`ParameterResolver`: rewrites what callers give before it is checked against the workflow's schema."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

from nexus_core.errors import ConfigurationError, WorkflowNotFound
from nexus_core.schema.report import pointer
from nexus_core.text import printable
from nexus_core.types.parameter_source import ParameterSource

if TYPE_CHECKING:
    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.workflows.registry import Registry
    from nexus_core.workflows.workflow import Workflow

CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key", "x-csrf-token"})
"""Headers that resolvers do not see: the principal identifies the caller, and a credential is not a parameter."""


_MEMBERS = {
    "headers": ParameterSource.HEADER,
    "query": ParameterSource.QUERY,
    "body": ParameterSource.BODY,
    "args": ParameterSource.OPTION,
    "kwargs": ParameterSource.OPTION,
    "tool_name": ParameterSource.REQUEST,
    "tool_id": ParameterSource.REQUEST,
    "parameters": ParameterSource.TOOL,
}
"""Names under which `RawParameters` have the request: they are never a caller's own parameters."""


class RawParameters(dict[str, Any]):
    """What a caller has given: its parameters by name, and under separate names the rest of the request.

    These names are the request's, on every channel: ``headers`` (names in small letters, without credentials),
    ``query`` and ``body`` on the API; ``args`` and ``kwargs`` on the command line; ``tool_name``, ``tool_id`` and
    ``parameters`` through MCP. A caller's parameter of such a name is in `parameters` alone, and can't pose as another.

    Args:
        parameters: The parameters.
        request: The request's members.
        source: Where parameters come from.
        added: Names that resolvers have added.

    Attributes:
        given: The caller's parameters, with what resolvers in front have made of them.
    """

    def __init__(
        self, parameters: Mapping[str, Any], request: Mapping[str, Any], source: ParameterSource, added: frozenset[str]
    ) -> None:
        super().__init__({name: value for name, value in parameters.items() if name not in _MEMBERS})
        self.update(request)
        self.given = dict(parameters)
        self.request = dict(request)
        self._source = source
        self._added = added

    def source_of(self, name: str) -> ParameterSource | None:
        """Return where a member comes from; None if there is no such member."""
        if name not in self:
            return None
        return ParameterSource.RESOLVER if name in self._added else _MEMBERS.get(name, self._source)


class ResolverPlatform(Protocol):
    """What a resolver uses of the `Nexus` that it is registered with."""

    workflows: Registry

    def service(self, name: str) -> Any:
        """Return what a plugin provides for applications and workflows, such as ``db_pool``."""


class ParameterResolver:
    """Completes or rewrites parameters. Subclass it, or implement the one method.

    Methods may be async. Sync ones run in a thread, because they may block. What a resolver adds and the workflow does
    not take is left out; what the caller has given is checked, whatever a resolver has made of it.

    For a workflow ``NAME``, ``transform_NAME_params(params)`` is there for resolvers that call it: subclasses define
    it, and without that it returns its argument.
    """

    _nexus: ResolverPlatform | None = None

    @cached_property
    def logger(self) -> logging.Logger:
        """For the resolver's own records."""
        return logging.getLogger(f"nexus.parameters.{type(self).__name__}")

    @property
    def nexus(self) -> ResolverPlatform:
        """The platform that it is registered with.

        Raises:
            ConfigurationError: It is not registered.
        """
        if self._nexus is None:
            raise ConfigurationError("The resolver is not registered; see register_parameter_resolver.")
        return self._nexus

    def attach(self, nexus: ResolverPlatform) -> None:
        """Say whose parameters it resolves. Called when it is registered; it belongs to one platform.

        Raises:
            ConfigurationError: It belongs to another.
        """
        if self._nexus not in (None, nexus):
            raise ConfigurationError("A parameter resolver belongs to one Nexus: create another one for the second.")
        self._nexus = nexus

    def resolve_parameters(self, workflow_name: str, channel: str, raw_params: dict[str, Any]) -> Any:
        """Return the parameters to use: here, the caller's.

        Args:
            workflow_name: The workflow called.
            channel: The channel it came through.
            raw_params: What the caller has given: `RawParameters`.
        """
        return dict(raw_params.given if isinstance(raw_params, RawParameters) else raw_params)

    def validate_parameters(self, workflow_name: str, params: Mapping[str, Any]) -> None:
        """Check parameters against a workflow's schema, except for unknown ones.

        Raises:
            ValidationError: They do not fit. Its ``errors`` name each wrong field by JSON pointer.
            WorkflowNotFound: There is no such workflow.
        """
        workflow = self.nexus.workflows.find(workflow_name)
        if workflow is None:
            raise WorkflowNotFound(f'There is no workflow "{printable(workflow_name)}".')
        workflow.prepare(fitting(workflow, params, params.keys()))

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        """Return what ``transform_NAME_params`` is where no subclass says: nothing changes."""
        if name.startswith("transform_") and name.endswith("_params"):
            return _unchanged
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _unchanged(params: Any) -> Any:
    return params


def raw_parameters(
    invocation: Invocation, params: Mapping[str, Any], added: frozenset[str], source: ParameterSource
) -> RawParameters:
    """Return the parameters and the request as a resolver gets them.

    Args:
        invocation: The call.
        params: The current parameters.
        added: Names that resolvers have added.
        source: The `Channel.parameter_source` of the call's channel.
    """
    return RawParameters(params, _request(invocation, source), source, added)


def _request(invocation: Invocation, source: ParameterSource) -> dict[str, Any]:
    given = invocation.params
    match source:
        case ParameterSource.BODY:
            return {"headers": _headers(invocation), "query": _query(invocation.query), "body": given}
        case ParameterSource.OPTION:
            return {"args": [], "kwargs": given}
        case ParameterSource.TOOL:
            return {"tool_name": invocation.name, "tool_id": invocation.request_id, "parameters": given}
        case _:
            return {}


def _headers(invocation: Invocation) -> dict[str, str]:
    decoded = ((name.decode("latin-1"), value) for name, value in (invocation.headers or {}).items())
    return {name: value.decode("latin-1") for name, value in decoded if name not in CREDENTIALS}


def _query(text: bytes) -> dict[str, str]:
    return dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True, errors="replace"))


def outcome(resolver: object, returned: Any, raw: RawParameters) -> dict[str, Any]:
    """Return the parameters that a resolver has returned, without the request's own members.

    Raises:
        TypeError: It is no dictionary with names.
    """
    if not isinstance(returned, Mapping) or not all(isinstance(name, str) for name in returned):
        raise TypeError(
            f"{type(resolver).__name__}.resolve_parameters returned a {type(returned).__name__}, not a dict"
        )
    found = dict(returned)
    members = _MEMBERS.keys() & raw.request.keys()
    handed_on = members or raw.items() <= found.items()
    if handed_on and all(found.get(name) == raw.request[name] for name in members):  # they are no parameters
        for name in members:
            del found[name]
        found = {name: value for name, value in raw.given.items() if name in _MEMBERS} | found
    return found


def fitting(workflow: Workflow, params: Mapping[str, Any], added: Any) -> dict[str, Any]:
    """Return parameters without any that a resolver has added and the workflow does not take.

    Args:
        workflow: The workflow.
        params: The parameters.
        added: The added names.
    """
    schema = workflow.input_schema
    known, is_closed = schema.get("properties", {}), schema.get("additionalProperties") is False
    kept = {name: value for name, value in params.items() if not (is_closed and name in added and name not in known)}
    nothing = [name for name, value in kept.items() if value is None and name in added]
    if nothing:  # a header that was not sent, for one: where null does not fit, it is as if nothing had been added
        wrong = {error["pointer"] for error in workflow.input_validator.errors(kept)}
        for name in nothing:
            if pointer([name]) in wrong:
                del kept[name]
    return kept
