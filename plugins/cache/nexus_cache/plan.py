"""`Plans`: for each workflow, whether its results are kept, for whom, how long and under which keys."""

from __future__ import annotations

import hashlib
import logging
import weakref
from typing import TYPE_CHECKING

import msgspec

from nexus_cache.definition import definition
from nexus_core import ConfigurationError
from nexus_core.options.sources import MAX_SECONDS

if TYPE_CHECKING:
    from nexus_core import Invocation, Workflow

log = logging.getLogger(__name__)

SHARED = "shared"
"""What ``metadata["cache"]`` is for a workflow that gives every caller the same."""

CONTEXT_SAFE = "cache_context_safe"
"""What metadata say of a shared workflow with a `Context`: nothing of the caller gets into its result."""

_encode = msgspec.json.Encoder().encode


class Plan:
    """What becomes of one workflow's results.

    Args:
        workflow: The workflow.
        ttl: Seconds for which a result is kept.
        is_cached: Whether results are kept at all.
        is_shared: Whether every caller gets the same.
        definition: What tells the workflow from every other one that has had its name.
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
        """The workflow, or None when there is nobody left who knows it."""
        return self._workflow()

    def covers(self, invocation: Invocation) -> bool:
        """Whether a call may be answered from the cache.

        What a session holds is not in the key. A call with an idempotency key has its answer kept under that already.
        """
        if not self._is_cached or invocation.idempotency_key is not None:
            return False
        return invocation.session is None or self._is_shared or not self._uses_context

    def key(self, invocation: Invocation, own: str, params: bytes) -> str:
        """Return the key of a call's result.

        Args:
            invocation: The call.
            own: The key that a manager made, or ``""``.
            params: The parameters as JSON text, which count where there is no such key.
        """
        digest = self._hash.copy()
        digest.update(self._scope(invocation))
        digest.update(b"\nkey " + own.encode("utf-8", "surrogatepass") if own else b"\nparams " + params)
        return f"cache:{digest.hexdigest()}"

    def _scope(self, invocation: Invocation) -> bytes:
        """Return who shares a result: everybody, or one caller, with the same rights where the workflow sees them."""
        principal = invocation.principal
        if self._is_shared:
            return b"shared"
        if principal is None:
            return b"nobody"
        if not self._uses_context:
            return _encode(principal.identity)
        return _encode([principal.identity, sorted(principal.permissions), sorted(principal.scopes)])


class Plans:
    """The plan of each workflow, made at its first call.

    Args:
        ttl: Seconds for which a result is kept, where the workflow's metadata does not say.
        decides: Whether a manager decides what is kept.
    """

    def __init__(self, ttl: float, decides: bool) -> None:
        self._ttl = ttl
        self._decides = decides
        self._plans: dict[str, Plan] = {}
        self._generations: dict[bytes, int] = {}

    def of(self, workflow: Workflow) -> Plan:
        """Return the plan of a workflow."""
        plan = self._plans.get(workflow.name)
        if plan is None or plan.workflow is not workflow:
            plan = self._plans[workflow.name] = self._plan(workflow)
            for name in [name for name, each in self._plans.items() if each.workflow is None]:
                del self._plans[name]
        return plan

    def _plan(self, workflow: Workflow) -> Plan:
        try:
            choice, ttl = check_metadata(workflow)
            known = definition(workflow)
        except Exception as exc:  # it was registered after the start, which would have refused it
            is_wrong = isinstance(exc, ConfigurationError)
            log.error("%s is not cached: %s", workflow.name, exc, exc_info=None if is_wrong else exc)
            return Plan(workflow, self._ttl, is_cached=False, is_shared=False, definition=b"")
        # Another object with the same code is no proof of the same function: closures differ.
        generation = self._generations[known] = self._generations.get(known, -1) + 1
        by_default = self._decides or not (workflow.uses_context or workflow.streams)
        return Plan(
            workflow,
            self._ttl if ttl is None else ttl,
            is_cached=by_default if choice is None else bool(choice),
            is_shared=choice == SHARED,
            definition=known + generation.to_bytes(8, "big"),
        )


def check_metadata(workflow: Workflow) -> tuple[bool | str | None, float | None]:
    """Return what a workflow's metadata says: ``cache`` and ``cache_ttl``, None for what it leaves open.

    Raises:
        ConfigurationError: It is neither of what these may be, or shares results that may depend on the caller.
    """
    choice, ttl = workflow.metadata.get("cache"), workflow.metadata.get("cache_ttl")
    if choice is not None and not isinstance(choice, bool) and choice != SHARED:
        raise ConfigurationError(f"{workflow.name}: metadata['cache'] must be True, False or {SHARED!r}.")
    if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 < ttl <= MAX_SECONDS):
        raise ConfigurationError(
            f"{workflow.name}: metadata['cache_ttl'] must be a number of seconds above 0, at most {MAX_SECONDS:.0f}."
        )
    safe = workflow.metadata.get(CONTEXT_SAFE, False)
    if not isinstance(safe, bool):
        raise ConfigurationError(f"{workflow.name}: metadata[{CONTEXT_SAFE!r}] must be True or False.")
    if choice == SHARED and workflow.uses_context and not safe:
        raise ConfigurationError(
            f"{workflow.name}: metadata['cache'] is {SHARED!r}, and the workflow takes a Context: identity or session"
            " of one caller could reach all others in the cached result. Set cache=True, which caches for each caller, "
            f"leave out the Context, or set {CONTEXT_SAFE}=True if the result depends on the parameters alone."
        )
    return choice, ttl
