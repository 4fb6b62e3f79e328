"""`Registry`: the workflows by name. They come and go while the platform runs; running calls keep what they have."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError, WorkflowNotFound
from nexus_core.text import nearest, printable
from nexus_core.workflows.functions import FunctionWorkflow
from nexus_core.workflows.workflow import Workflow, WorkflowAdapter, check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.concurrency.worker_processes import WorkerProcesses
    from nexus_core.workflows.metadata import MetadataRules


log = logging.getLogger(__name__)


class Registry:
    """Workflows by name.

    Args:
        adapters: Returns who is asked in turn what an object is; plain callables come last.
        threads: Where sync functions run.
        processes: Where those run whose metadata say ``process``.
        changed: Called with the name and whether it is there now, after each change.
        rules: What workflows' metadata may say.
    """

    def __init__(
        self, adapters: Callable[[], Sequence[WorkflowAdapter]], threads: DaemonThreads,
        processes: WorkerProcesses, changed: Callable[[str, bool], None], rules: MetadataRules,
    ) -> None:  # fmt: skip
        self._adapters = adapters
        self._threads = threads
        self._processes = processes
        self._changed = changed
        self._rules = rules
        self._workflows: dict[str, Workflow] = {}
        self.find = self._workflows.get
        self._by_tool_name: dict[str, str] = {}  # of those whose tool name is another

    def register(
        self, name: str, target: Any, metadata: Mapping[str, Any] | None = None, *, replace: bool = False
    ) -> Workflow:
        """Make a workflow of an object and keep it under a name.

        Raises:
            ConfigurationError: The name is not allowed or taken, or nothing knows the object.
        """
        check_name(name)
        taken = ConfigurationError(f'There is a workflow "{name}" already; pass replace=True to replace it.')
        if name in self._workflows and not replace:
            raise taken
        workflow = self._adapt(name, target, self._rules.checked(name, {} if metadata is None else metadata))
        if not isinstance(workflow, FunctionWorkflow):  # whose schemas are made of type hints, and compiled when used
            _check_schemas(workflow)
        self._rules.refuse_unfit(workflow)
        self._rules.refuse_unenforced(workflow)
        if workflow.tool_name != name:
            holder = self._by_tool_name.setdefault(workflow.tool_name, name)
            if holder != name:
                raise ConfigurationError(f'"{name}" and "{holder}" have the same tool name; rename one of them.')
        if replace:
            self._workflows[name] = workflow
        elif self._workflows.setdefault(name, workflow) is not workflow:  # by another thread, meanwhile
            raise taken
        self._changed(name, True)
        return workflow

    def unregister(self, name: str) -> None:
        """Forget a workflow. Its running calls go on.

        Raises:
            WorkflowNotFound: No workflow has that name.
        """
        workflow = self._workflows.pop(name, None)
        if workflow is None:
            raise unknown_workflow(name, self.names())
        self._by_tool_name.pop(workflow.tool_name, None)
        self._changed(name, False)

    def get(self, name: str) -> Workflow:
        """Return a workflow.

        Raises:
            WorkflowNotFound: No workflow has that name. The message has the nearest one.
        """
        workflow = self._workflows.get(name)
        if workflow is None:
            raise unknown_workflow(name, self.names())
        return workflow

    def name_of_tool(self, name: str) -> str:
        """Return the name of the workflow that has this tool name; what is no other's tool name comes back as it is."""
        return self._by_tool_name.get(name, name)

    def every(self) -> list[Workflow]:
        """Return every workflow."""
        return [*self._workflows.values()]

    def names(self) -> list[str]:
        """Return every name, sorted."""
        return sorted(self._workflows)

    def _adapt(self, name: str, target: Any, metadata: Mapping[str, Any]) -> Workflow:
        if isinstance(target, Workflow):
            if target.name != name:
                raise ConfigurationError(f'The workflow calls itself "{target.name}", not "{name}".')
            if "expected_parameters" in metadata:
                raise ConfigurationError(f"{name}: expected_parameters can't replace the input_schema of a Workflow.")
            self._rules.checked(name, target.metadata)
            _refuse_process(name, metadata)
            target.add_metadata(metadata)
            return target
        adapters = self._adapters()
        for adapter in adapters:
            if _adapts(adapter, target):
                _refuse_process(name, metadata)
                return adapter.adapt(name, target, metadata)
        if callable(target):
            processes = self._processes if metadata.get("process") else None
            return FunctionWorkflow(name, target, metadata, self._threads, processes)
        if isinstance(target, (classmethod, property)):
            raise ConfigurationError(
                f"{name}: a {type(target).__name__} is not callable in the body of its class: "
                "register it after the class, nexus.register(name, Class.method)."
            )
        known = ", ".join(["functions", *(adapter.name for adapter in adapters)])
        raise ConfigurationError(
            f"{name}: a {type(target).__module__}.{type(target).__qualname__} can't be registered; "
            f"installed plugins support {known}."
        )


def _refuse_process(name: str, metadata: Mapping[str, Any]) -> None:
    if metadata.get("process"):
        raise ConfigurationError(f"{name}: metadata['process'] is for functions only.")


def _adapts(adapter: WorkflowAdapter, target: Any) -> bool:
    try:
        return adapter.adapts(target)
    except Exception:  # else one broken adapter would keep everything from being registered
        log.exception(
            "The workflow adapter %r raised an exception when checking support for %r", adapter.name, type(target)
        )
        return False


def _check_schemas(workflow: Workflow) -> None:
    """Refuse now what would fail in each call, and on each channel that shows it."""
    if workflow.input_schema.get("type") != "object":
        raise ConfigurationError(f"{workflow.name}: the root of input_schema must be of type object.")
    for attribute in ("input_validator", "output_validator"):
        try:
            getattr(workflow, attribute)
        except ConfigurationError as exc:
            raise ConfigurationError(f"{workflow.name}: {attribute.replace('validator', 'schema')}: {exc}") from None


def unknown_workflow(name: str, known: Sequence[str] = ()) -> WorkflowNotFound:
    """Return the error for a workflow that is not there, with the nearest of the names the caller may know."""
    near = nearest(name, known)
    hint = f' Did you mean "{near}"?' if near else ""
    return WorkflowNotFound(f'There is no workflow "{printable(name)}".{hint}')
