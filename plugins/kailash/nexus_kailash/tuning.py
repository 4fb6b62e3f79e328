"""Takes out of a workflow, once, what each of its runs would do in vain. No run gives another result for it.

Kailash 2.65 passes every value that goes to a Python node through a check that imports pandas anew, and imports every
module that a code string might use for each call of it. Python needs 0.1 ms to find that a module is not installed, so
a thousand rows of ten columns spend a second on it. The Python node also takes its constructor's arguments for inputs:
it checks them like the others, and warns of them in each run.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kailash.workflow.graph import Workflow


def tune(workflow: Workflow) -> None:
    """Prepare a workflow for many runs."""
    note_missing("pandas")
    for node_id in workflow.nodes:
        node: Any = workflow.get_node(node_id)
        if (type(node).__module__, type(node).__qualname__) == ("kailash.nodes.code.python", "PythonCodeNode"):
            _tune_python(node)


def note_missing(module: str) -> None:
    """Let imports of a module that is not installed fail at once: None in ``sys.modules`` is Python's mark for that.

    It holds for the whole process, where such an import would have failed just the same.
    """
    if module not in sys.modules and importlib.util.find_spec(module) is None:
        sys.modules[module] = None  # type: ignore[assignment]


def _tune_python(node: Any) -> None:
    words = set(re.findall(r"\w+", node.code or ""))
    node.executor.allowed_modules &= words  # whether an import is allowed is not decided by this list
    declared = node.get_parameters()
    constructor = inspect.signature(type(node).__init__).parameters
    node.config = {
        name: value
        for name, value in node.config.items()
        if name not in constructor or name in words or name in declared
    }
