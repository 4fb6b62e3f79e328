"""Prepares a workflow, once, for many runs side by side in a server's process. No result changes by it.

Kailash 2.65 works in vain: it passes every value that goes to a Python node through a check that imports pandas again,
and imports every module that a code string might use for each call of it. Python needs 0.1 ms to find that a module is
not installed, so a thousand rows of ten columns spend a second on it. The Python node also takes its constructor's
arguments for inputs: it checks them like the others, and warns of them in each run.

And it changes the process while code strings run: the address space is held at 512 MB above what it is, so that with a
few dozen threads no other one can start, here or in the rest of the server; and ``asyncio.create_task`` is replaced by
a function that takes no name, so that other people's tasks fail.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

from nexus_kailash._vendor_internals import protect_create_task, set_input_schema
from nexus_kailash.parameters import called

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from kailash.nodes.base import NodeParameter  # type: ignore[import-untyped]
    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]


DEFAULT_MEMORY_LIMIT = 512 * 1024 * 1024
"""Kailash's own, in bytes. Another one is the author's, and stays."""


def tune(workflow: Workflow) -> None:
    """Prepare a workflow for many runs."""
    mark_missing("pandas")
    for node_id in workflow.nodes:
        node: Any = workflow.get_node(node_id)
        match type(node).__module__, type(node).__qualname__:
            case "kailash.nodes.code.python", "PythonCodeNode":
                _tune_python(node, node_id)
            case "kailash.nodes.code.async_python", "AsyncPythonCodeNode":
                _tune_async_python(node, node_id)


def mark_missing(module: str) -> None:
    """Let imports of a module that is not installed fail at once: None in ``sys.modules`` is Python's mark for that.

    It holds for the whole process, where such an import would have failed just the same.
    """
    if module not in sys.modules and importlib.util.find_spec(module) is None:
        sys.modules[module] = None  # type: ignore[assignment]


def _tune_python(node: Any, node_id: str) -> None:
    if node.executor.security_config.memory_limit == DEFAULT_MEMORY_LIMIT:
        node.executor.security_config = copy.copy(node.executor.security_config)
        node.executor.security_config.memory_limit = 0
    if node.code:
        node.executor.check_code_safety = _CachedSafetyCheck(node.executor.check_code_safety, node.code)
    words = _words(node.code)
    node.executor.allowed_modules &= words  # whether an import is allowed is not decided by this list
    declared = node.get_parameters()
    own = {name: each.default for name, each in inspect.signature(type(node).__init__).parameters.items()}
    node.config = _without_own(node.config, node_id, own, words | declared.keys())
    if called(node) is not None:
        set_input_schema(node, {name: _checkable(each) for name, each in declared.items()})


def _words(code: str | None) -> set[str]:
    return set(re.findall(r"\w+", code or ""))


def _without_own(
    config: Mapping[str, Any], node_id: str, own: Mapping[str, Any], taken: Container[str]
) -> dict[str, Any]:
    """Return a configuration without the arguments of the node's own constructor.

    Kailash gives those to the node's code too. One that the code takes, and that its author has set, is kept.
    """
    return {
        name: value
        for name, value in config.items()
        if name not in own or (name in taken and value not in (None, node_id, own[name]))
    }


def _checkable(declared: NodeParameter) -> NodeParameter:
    """Return a declaration that Kailash can hold values against: ``isinstance`` takes no ``list[int] | None``."""
    try:
        isinstance(None, declared.type)
    except TypeError:
        return declared.model_copy(update={"type": Any})
    return declared


class _CachedSafetyCheck:
    """Kailash's check of a code string, made when the workflow is registered and not again in each run.

    The check parses the code, which Python 3.11 fails at now and then when several threads do it at once
    (``SystemError: AST constructor recursion depth mismatch``, seen with 3.11.7).
    """

    def __init__(self, check: Callable[[str], Any], code: str) -> None:
        self._check = check
        self._code = code
        self._found = check(code)

    def __call__(self, code: str) -> Any:
        return self._found if code == self._code else self._check(code)


def _tune_async_python(node: Any, node_id: str) -> None:
    if node.max_memory_mb * 1024 * 1024 == DEFAULT_MEMORY_LIMIT:
        node.max_memory_mb = 0
    own = {name: each.default for name, each in node.get_parameters().items()}
    node.config = _without_own(node.config, node_id, own, _words(node.code))
    protect_create_task(node)
