"""`CachePlans`: for each workflow, whether its results are cached, for whom, how long and under which keys."""

from __future__ import annotations

import hashlib
import logging
import weakref
from typing import TYPE_CHECKING

import msgspec

from nexus_cache.definition import definition
from nexus_core import ConfigurationError
from nexus_core.options.settings import MAX_SECONDS, is_time_limit

if TYPE_CHECKING:
    from nexus_core import Invocation, Workflow

log = logging.getLogger(__name__)

SHARED = "shared"
"""The value of ``metadata["cache"]`` for results that all callers share."""

CONTEXT_SAFE = "cache_context_safe"
"""Metadata key: the result of a shared workflow with a `Context` does not depend on the caller."""

_encode = msgspec.json.Encoder().encode


class CachePlan:
    """How one workflow's results are cached.

    Args:
        workflow: The workflow.
        ttl: Lifetime of a result in seconds.
        is_cached: Whether results are cached at all.
        is_shared: Whether all callers share results.
        definition: Digest that distinguishes the workflow from others of its name.
    """

    __slots__ = ("_hash", "_is_cached", "_is_shared", "_uses_context", "_workflow", "ttl")

    def __init__(self, workflow: Workflow, ttl: float, *, is_cached: bool, is_shared: bool, definition: bytes) -> None:
        self._workflow = weakref.ref(workflow)
        self.ttl = ttl
        self._is_cached = is_cached
        self._is_shared = is_shared
        self._uses_context = workflow.uses_context
        self._hash = hashlib.sha256(definition)

    @property
    def workflow(self) -> Workflow | None:
        """The workflow, or None if it no longer exists."""
        return self._workflow()

    def covers(self, invocation: Invocation) -> bool:
        """Whether a call is cacheable.

        A session's state is not part of the key. The answer to a call with an idempotency key is stored under that.
        """
        if not self._is_cached or invocation.idempotency_key is not None:
            return False
        return invocation.session is None or self._is_shared or not self._uses_context

    def key(self, invocation: Invocation, custom: str, params: bytes) -> str:
        """Return the key of a call's result.

        Args:
            invocation: The call.
            custom: The key from a cache manager, or ``""``.
            params: The parameters as JSON text, which are the key if there is no custom one.
        """
        digest = self._hash.copy()
        digest.update(self._scope(invocation))
        digest.update(b"\nkey " + custom.encode("utf-8", "surrogatepass") if custom else b"\nparams " + params)
        return f"cache:{digest.hexdigest()}"

    def _scope(self, invocation: Invocation) -> bytes:
        """Return who shares a result: all callers or one, with the same permissions if the workflow sees them."""
        principal = invocation.principal
        if self._is_shared:
            return b"shared"
        if principal is None:
            return b"nobody"
        if not self._uses_context:
            return _encode(principal.identity)
        return _encode([principal.identity, sorted(principal.permissions), sorted(principal.scopes)])


class CachePlans:
    """The plan of each workflow, created at its first call.

    Args:
        ttl: Default lifetime of a result in seconds.
        decides: Whether a cache manager decides which calls are cached.
    """

    def __init__(self, ttl: float, decides: bool) -> None:
        self._ttl = ttl
        self._decides = decides
        self._plans: dict[str, CachePlan] = {}
        self._generations: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._plans)

    def of(self, workflow: Workflow) -> CachePlan:
        """Return the plan of a workflow."""
        plan = self._plans.get(workflow.name)
        if plan is None or plan.workflow is not workflow:
            plan = self._plans[workflow.name] = self._plan(workflow)
            for name in [name for name, each in self._plans.items() if each.workflow is None]:
                del self._plans[name]
        return plan

    def _plan(self, workflow: Workflow) -> CachePlan:
        try:
            choice, ttl = check_metadata(workflow)
            known = definition(workflow)
        except Exception as exc:  # it was registered after the start, which would have refused it
            is_wrong = isinstance(exc, ConfigurationError)
            log.error("%s is not cached: %s", workflow.name, exc, exc_info=None if is_wrong else exc)
            return CachePlan(workflow, self._ttl, is_cached=False, is_shared=False, definition=b"")
        # Equal code does not prove equal functions, since closures differ.
        generation = self._generations[known] = self._generations.get(known, -1) + 1
        by_default = self._decides or not (workflow.uses_context or workflow.streams)
        return CachePlan(
            workflow,
            self._ttl if ttl is None else ttl,
            is_cached=by_default if choice is None else bool(choice),
            is_shared=choice == SHARED,
            definition=known + generation.to_bytes(8, "big"),
        )


def check_metadata(workflow: Workflow) -> tuple[bool | str | None, float | None]:
    """Return a workflow's metadata ``cache`` and ``cache_ttl``, None for missing ones.

    Raises:
        ConfigurationError: A value is invalid, or shares results that may depend on the caller.
    """
    choice, ttl = workflow.metadata.get("cache"), workflow.metadata.get("cache_ttl")
    if choice is not None and not isinstance(choice, bool) and choice != SHARED:
        raise ConfigurationError(f"{workflow.name}: metadata['cache'] must be True, False or {SHARED!r}.")
    if ttl is not None and not is_time_limit(ttl):
        raise ConfigurationError(
            f"{workflow.name}: metadata['cache_ttl'] must be a number of seconds above 0, at most {MAX_SECONDS:.0f}."
        )
    safe = workflow.metadata.get(CONTEXT_SAFE, False)
    if not isinstance(safe, bool):
        raise ConfigurationError(f"{workflow.name}: metadata[{CONTEXT_SAFE!r}] must be True or False.")
    if choice == SHARED and workflow.uses_context and not safe:
        raise ConfigurationError(
            f"{workflow.name}: metadata['cache'] is {SHARED!r}, but the workflow takes a Context: identity or session"
            " of one caller could reach all others in the cached result. Set cache=True to cache for each caller, "
            f"remove the Context, or set {CONTEXT_SAFE}=True if the result depends on the parameters alone."
        )
    return choice, ttl
