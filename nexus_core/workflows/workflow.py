"""`Workflow`: the one shape everything that can be run has, whatever library it comes from."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from nexus_core.errors import ConfigurationError
from nexus_core.schema.tool_names import tool_name
from nexus_core.workflows.approval import Approval
from nexus_core.workflows.code_digest import digest_of_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.runs.context import Context
    from nexus_core.schema.validation import Validator

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
NAME_RULE = "1 to 128 letters, digits, dots, hyphens and underscores, without a leading dot or hyphen and without '..'"
"""What a workflow may be called: a path segment and a shell word at once. `tool_name` makes a tool's name of it."""


def _permissions(metadata: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(metadata.get("required_permissions") or ())


def _approval(name: str, metadata: Mapping[str, Any]) -> Approval | None:
    try:
        return Approval.of(metadata.get("approval"))
    except ValueError as exc:
        raise ConfigurationError(f"{name}: metadata['approval'] {exc}.") from None


class Workflow(ABC):
    """Something that takes JSON parameters and gives back a value. Adapters subclass it.

    Attributes:
        name: The name callers use, see `NAME_RULE`.
        description: What it does, in a sentence or a few.
        input_schema: JSON Schema (2020-12) of the parameters; its root is an object.
        output_schema: JSON Schema of the value, or None where it is not known.
        required_permissions: What a caller needs (``metadata["required_permissions"]``), where callers are known.
        metadata: What was given at registration: ``version``, ``category``, ``tags``, ``required_permissions``, ...
        streams: Whether it yields its result item by item.
        reads_decimals: Whether numbers in its parameters may be more exact than a float.
        serial: Which calls of it run one at a time (``metadata["serial"]``), or None.
        approval: Who has to agree to each call of it (``metadata["approval"]``), or None.
        asks: Whether its own code asks questions (`Context.ask`), as far as that shows.
        uses_context: Whether what it gives may depend on its `Context`: on the caller, or on the session.
    """

    streams: bool = False
    reads_decimals: bool = False
    uses_context: bool = True
    serial: str | None = None
    approval: Approval | None = None
    asks: bool = False

    def __init__(
        self,
        name: str,
        *,
        input_schema: Mapping[str, Any],
        output_schema: Mapping[str, Any] | None = None,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = check_name(name)
        self.input_schema = dict(input_schema)
        self.output_schema = None if output_schema is None else dict(output_schema)
        self.description = description
        self.metadata = dict(metadata or {})
        self.required_permissions = _permissions(self.metadata)
        self.serial = self.metadata.get("serial")
        self.approval = _approval(self.name, self.metadata)

    @cached_property
    def input_validator(self) -> Validator:
        """Checks parameters against ``input_schema``. Compiled at first use."""
        from nexus_core.schema.validation import Validator

        return Validator(self.input_schema)

    @cached_property
    def output_validator(self) -> Validator | None:
        """Checks values against ``output_schema``, if there is one. Compiled at first use."""
        from nexus_core.schema.validation import Validator

        return None if self.output_schema is None else Validator(self.output_schema)

    @cached_property
    def schema_hash(self) -> str:
        """A digest of ``input_schema``."""
        return digest_of_json(self.input_schema)

    @cached_property
    def code_digest(self) -> str:
        """A digest of its code: another one where runs may do other steps. Here of its schemas, which say little."""
        return digest_of_json([self.input_schema, self.output_schema])

    @property
    def code_version(self) -> str:
        """The version of its code in this process: ``metadata["version"]``, if given, and the digest of its code."""
        version = self.metadata.get("version")
        is_shown = isinstance(version, str | int | float) and version != ""
        return f"{version}+{self.code_digest}" if is_shown else self.code_digest

    @cached_property
    def basis(self) -> Mapping[str, str]:
        """What is stored of it with each of its runs; see `Run.basis`."""
        return {"version": self.code_version, "schema_hash": self.schema_hash}

    @property
    def may_wait(self) -> bool:
        """Whether a call of it may wait for an answer, even for days; channels do not hold a connection so long."""
        return self.asks or self.approval is not None

    @property
    def timeout(self) -> float | None:
        """Seconds a run may take (``metadata["timeout"]``), or None for the option ``workflow_timeout``."""
        return self.metadata.get("timeout")

    @cached_property
    def tool_name(self) -> str:
        """The name for language models, whose providers allow less in it: the workflow's own where that is allowed."""
        return tool_name(self.name)

    @property
    def help(self) -> str:
        """What the workflow does: its description, or what its name and its schema say where it has none."""
        if (self.description or "").strip():
            return self.description
        words = re.sub(r"[._-]+", " ", self.name).strip()
        meaning = "" if words in ("", self.name) else f" ({words})"
        required = self.input_schema.get("required", ())
        names = [each if each in required else f"{each} (optional)" for each in self.input_schema.get("properties", {})]
        takes = f"Its parameters: {', '.join(names)}." if names else "It takes no parameters."
        return f'Runs the workflow "{self.name}"{meaning}. {takes}'

    def add_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Take over what is given at registration. It comes first where the workflow says something else itself."""
        self.metadata |= metadata
        self.description = metadata.get("description") or self.description
        self.required_permissions = _permissions(self.metadata)
        self.serial = self.metadata.get("serial")
        self.approval = _approval(self.name, self.metadata)

    def prepare(self, params: dict[str, Any]) -> dict[str, Any]:
        """Check parameters and turn them into what `run` takes.

        Raises:
            ValidationError: They do not fit; every wrong field is named.
        """
        self.input_validator.check(params)
        return params

    def takes(self, name: str) -> bool:
        """Whether callers may give something under a name: one of the schema's, or one that its schema leaves open."""
        schema = self.input_schema
        return name in schema.get("properties", {}) or schema.get("additionalProperties", True) is not False

    def with_decimals(self, params: dict[str, Any], exact: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters with those exact numbers that it takes. Called where `reads_decimals` is true.

        Args:
            params: The parameters as every channel reads them.
            exact: The same, with each number that no float holds as a `Decimal`.
        """
        return params

    @abstractmethod
    async def run(self, params: dict[str, Any], context: Context) -> Any:
        """Do the work with prepared parameters and return a value that has a JSON form.

        Raises:
            WorkflowError: A reason that the caller shall read. Any other exception reaches only the log.
        """

    def summary(self) -> dict[str, Any]:
        """Return the workflow's entry in a list: ``name``, ``description``, and ``tool_name`` where it differs."""
        tool = {} if self.tool_name == self.name else {"tool_name": self.tool_name}
        return {"name": self.name, "description": self.description, **tool}

    def describe(self) -> dict[str, Any]:
        """Return what channels tell callers about the workflow."""
        members: dict[str, Any] = {
            **self.summary(),
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
            "streams": self.streams,
        }
        hidden = {"expected_parameters", "description"}
        return members | {"metadata": {k: v for k, v in self.metadata.items() if k not in hidden}}


class WorkflowAdapter(Protocol):
    """Makes workflows of the objects of one library. Given by ``nexus_register_workflow_adapters``."""

    name: str

    def adapts(self, target: object) -> bool:
        """Whether this adapter knows the object. Must not import the library to find out."""

    def adapt(self, name: str, target: Any, metadata: Mapping[str, Any]) -> Workflow:
        """Return the workflow. Raises `ConfigurationError` when the object can't be run."""


def check_name(name: str) -> str:
    """Return the name, if it is one.

    Raises:
        ConfigurationError: It breaks `NAME_RULE`.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise ConfigurationError(f"{name!r} can't be a workflow's name: use {NAME_RULE}.")
    return name
