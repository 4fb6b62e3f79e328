"""Settings models: the base of plugins' own, and the core's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import AfterValidator, Field, SecretBytes, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from nexus_core.types.addresses import check_hosts, check_networks, check_public_url

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ENV_PREFIX = "NEXUS_"

MAX_SECONDS = 31_536_000.0
"""The longest time limit: a year."""

Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]
"""The type of an option that is a time limit."""


def is_time_limit(value: object) -> bool:
    """Whether a value is a number of seconds above 0, and at most `MAX_SECONDS`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_SECONDS


def is_secret(field: FieldInfo) -> bool:
    """Whether an option holds a secret."""
    return "Secret" in str(field.annotation)


def is_blank(value: Any) -> bool:
    """Whether a value is a text, or a secret, with nothing in it."""
    text = value.get_secret_value() if isinstance(value, SecretStr | SecretBytes) else value
    return isinstance(text, str | bytes) and not text.strip()


class MetadataKey(NamedTuple):
    """A key of workflows' metadata.

    Attributes:
        meaning: What the key sets, as a sentence.
        option: The option that has to be on for the key to have an effect, or None.
    """

    meaning: str
    option: str | None = None


class PluginSettings(BaseSettings):
    """Base of a plugin's settings model: each field is an option. Lists may be written with commas in between.

    A secret (``SecretStr``) that is empty counts as not set, or is refused where the default is another than None.

    ``Field(..., json_schema_extra={"environment": "REDIS_URL"})`` names a variable that sets the option too, where
    ``NEXUS_`` and its own name does not: for names that many platforms set.

    Attributes:
        workflow_metadata: The keys of workflows' metadata that the plugin reads. Misspelt ones are refused, and those
            without effect reported.
        event_types: The types of events that the plugin publishes, each with its meaning as a sentence.
        services: The services that the plugin provides, each with the option that switches it on, or None.
        policies: Names that stand for the plugin's policies in a list of middleware, with the option that each switches
            on; several names, with spaces in between, in that order. An option holds such a list where its
            ``json_schema_extra`` has ``lists_policies``.
        provides: What else the plugin has that a platform may lack, for hints at what to install, each with the option
            that switches it on, or None: ``authentication``, ``channel``, ``command line``, ``server``,
            ``session manager``, ``stdio``, ``store NAME``.
    """

    workflow_metadata: ClassVar[dict[str, MetadataKey]] = {}
    event_types: ClassVar[dict[str, str]] = {}
    services: ClassVar[dict[str, str | None]] = {}
    policies: ClassVar[dict[str, str]] = {}
    provides: ClassVar[dict[str, str | None]] = {}

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="ignore", enable_decoding=False, hide_input_in_errors=True,
        arbitrary_types_allowed=True, frozen=True, allow_inf_nan=False,
    )  # fmt: skip

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Refuse a wrong declaration where it is written, not where a workflow has the key."""
        for key, declared in cls.workflow_metadata.items():
            if not isinstance(declared, MetadataKey):
                raise TypeError(f"{cls.__name__}.workflow_metadata[{key!r}] must be a MetadataKey.")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing here: `OptionSources` merges the sources, so that it can name them in errors."""
        return (init_settings,)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_empty_secret(cls, value: Any, info: Any) -> Any:
        field = cls.model_fields[info.field_name]
        if not (is_secret(field) and is_blank(value)):
            return value
        if field.default is None:
            return None
        raise ValueError("an empty secret protects nothing: set a value, or remove the option")

    @field_validator("*", mode="before")
    @classmethod
    def _split(cls, value: Any, info: Any) -> Any:
        hint = cls.model_fields[info.field_name].annotation
        if not isinstance(value, str) or not any(word in str(hint) for word in ("list", "set", "tuple", "dict")):
            return value
        text = value.strip()
        if text[:1] in ("[", "{"):
            return json.loads(text)
        return [part.strip() for part in text.split(",") if part.strip()]


class CoreSettings(PluginSettings):
    """The core's own options."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    public_url: Annotated[str | None, AfterValidator(check_public_url)] = Field(
        None, description="Public URL of the platform, such as https://example.com/nexus."
    )
    allowed_hosts: Annotated[list[str], AfterValidator(check_hosts)] = Field(
        [], description="Accepted names in the Host header, in addition to this machine's own; * for all."
    )
    trusted_proxies: Annotated[list[str], AfterValidator(check_networks)] = Field(
        [], description="Addresses and networks of proxies whose X-Forwarded headers are honoured."
    )
    insecure: bool = Field(
        False,
        description="Allow listening beyond this machine without authentication, and unenforced required_permissions.",
    )
    server: str | None = Field(None, description="Name of the server plugin that listens, where several are installed.")
    max_concurrent_workflows: int = Field(
        100, ge=1, description="Maximum number of concurrent runs; more are refused with 503."
    )
    max_queued_per_key: int = Field(
        64, ge=0, description="Maximum number of calls that wait for one key of `serial`; more are refused with 503."
    )
    max_queued_calls: int = Field(
        500, ge=0, description="Maximum number of calls of a process that wait because of `serial`."
    )
    max_waiting_runs: int = Field(
        1000,
        ge=0,
        description="Maximum number of runs that wait for answers and take no place in `max_concurrent_workflows`.",
    )
    workflow_threads: int = Field(40, ge=1, description="Threads for sync code of workflows; other calls wait for one.")
    workflow_processes: int | None = Field(
        None, ge=1, description="Processes for workflows with `process=True`. Default: one per CPU."
    )
    enable_async_execution: bool = Field(True, description="Allow background runs: the caller gets a run id.")
    workflow_timeout: Seconds | None = Field(300.0, description="Time limit of a run in seconds; none for no limit.")
    shutdown_grace: float = Field(
        10.0,
        ge=0,
        le=MAX_SECONDS,
        description="Seconds that running calls get to finish when the process stops.",
    )
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1, description="Maximum size of a request body in bytes.")
    body_timeout: Seconds = Field(30.0, description="Time limit for receiving a request body in seconds.")
    max_result_bytes: int = Field(
        16 * 1024 * 1024, ge=1, description="Maximum size of a result as JSON text, in bytes."
    )
    run_history: int = Field(1000, ge=0, description="Maximum number of ended runs in the history.")
    run_history_bytes: int = Field(
        64 * 1024 * 1024, ge=0, description="Maximum size of their results and events in bytes."
    )
    store: str = Field("memory", description="Store for shared state: memory, or the name of a plugin's store.")
    store_max_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Maximum size of the store `memory` in bytes.")
    store_caller_max_bytes: int = Field(
        32 * 1024 * 1024, ge=1, description="Maximum size of each kind of state of one caller in a store, in bytes."
    )
    run_history_ttl: Seconds = Field(3600.0, description="Seconds that an ended run stays in the history.")
    run_store: str = Field(
        "memory", description="Store for runs: memory (this process alone), or the name of a plugin's run store."
    )
    run_store_scope: Literal["all", "background"] = Field(
        "all",
        description="Runs that a run store keeps: all, or only runs in the background and with an idempotency key.",
    )
    run_engine: str | None = Field(
        None, description="Engine that does the work of durable runs: the name of a plugin's. Needs a shared run store."
    )
    durable_workflows: Literal["none", "marked", "all"] = Field(
        "marked", description="Workflows whose runs are durable: none, those with `durable` in their metadata, or all."
    )
    durable_plain_secrets: bool = Field(
        False, description="Whether durable workflows may take secrets that the engine stores in the clear."
    )
    run_work: bool = Field(True, description="Whether this process works on durable runs; else it takes calls only.")
    run_concurrency: int = Field(
        10, ge=1, description="Maximum number of durable runs that this process works on at once."
    )
    run_only: list[str] = Field(
        [], description="Workflows whose durable runs this process works on; none: all that it has."
    )
    run_store_days: float | None = Field(
        30.0, gt=0, allow_inf_nan=False, description="Days that an ended run stays in the run store; none: no limit."
    )
    run_store_max_runs: int | None = Field(
        1_000_000, ge=1, description="Maximum number of runs in the run store; none: no limit."
    )
    run_store_max_bytes: int | None = Field(
        None, ge=1, description="Maximum size of parameters, results and events in the run store, in bytes."
    )
    event_backend: str | None = Field(
        None, description="Backend of the event log. Default: the session backend if it supports events, else memory."
    )
    idempotency_ttl: Seconds = Field(
        86_400.0, description="Seconds that the result of a call with an idempotency key is stored."
    )
    required_plugins: list[str] = Field([], description="Plugins that must be active, or the start fails.")
    disabled_plugins: list[str] = Field([], description="Installed plugins that are not loaded.")
    plugin_timeout: Seconds = Field(
        10.0, description="Time limit for importing, starting and stopping one plugin, in seconds."
    )
    log_level: str = Field("INFO", description="Lowest level of log records that `Nexus.start` shows.")

    @field_validator("workflow_timeout", "workflow_processes", mode="before")
    @classmethod
    def _no_limit(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.lower() in ("", "none", "null") else value

    @field_validator("log_level", mode="after")
    @classmethod
    def _level(cls, value: str) -> str:
        levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
        if value.upper() not in levels:
            raise ValueError(f"must be one of {', '.join(levels)}")
        return value.upper()
