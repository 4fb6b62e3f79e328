"""``@nexus.workflow``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from nexus_core.errors import ConfigurationError
from nexus_core.workflows.metadata import merged

if TYPE_CHECKING:
    from nexus_core.workflows.workflow import Workflow

Function = TypeVar("Function", bound=Callable[..., Any])


class WorkflowDecorator:
    """The part of `Nexus` that registers what it decorates."""

    if TYPE_CHECKING:

        def register(
            self, name: str, workflow: Any, metadata: Mapping[str, Any] | None = None, *, replace: bool = False
        ) -> Workflow:
            """`Nexus` has it."""
            raise NotImplementedError

    @overload
    def workflow(self, function: Function, /) -> Function: ...
    @overload
    def workflow(
        self, *, name: str | None = None, metadata: Mapping[str, Any] | None = None, replace: bool = False, **more: Any
    ) -> Callable[[Function], Function]: ...
    def workflow(
        self,
        *function: Callable[..., Any],
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        replace: bool = False,
        **more: Any,
    ) -> Any:
        """Register the decorated function, under its own name unless ``name`` is given. It stays a function.

        Args:
            function: The function, where the decorator is used without parentheses.
            name: What callers use.
            metadata: As for `Nexus.register`.
            replace: As for `Nexus.register`: for a notebook's cell, say, that is run again.
            more: More metadata. A key can't be in both.

        Raises:
            ConfigurationError: As `Nexus.register`, or the argument is not a function.
        """
        if function and not callable(function[0]):
            raise ConfigurationError("@nexus.workflow takes keywords: @nexus.workflow(name='greet', timeout=3).")

        def decorate(target: Callable[..., Any]) -> Callable[..., Any]:
            own_name = name or str(getattr(target, "__name__", ""))
            self.register(own_name, target, merged(own_name, metadata, more), replace=replace)
            return target

        return decorate(*function) if function else decorate
