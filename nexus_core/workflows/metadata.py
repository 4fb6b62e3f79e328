"""What a workflow's metadata may say, and whether anything on this platform enforces it."""

from __future__ import annotations

import difflib
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import ConfigurationError
from nexus_core.options import first_party
from nexus_core.options.channel import is_enabled
from nexus_core.options.settings import MAX_SECONDS, MetadataKey, is_time_limit
from nexus_core.text import printable
from nexus_core.workflows.queue_keys import check_queue

if TYPE_CHECKING:
    from nexus_core.options.settings import PluginSettings
    from nexus_core.workflows.workflow import Workflow

log = logging.getLogger(__name__)

_PLUGIN, _AUTHENTICATION = first_party.provider("authentication")

KEYS = {
    "description": MetadataKey("Description for callers. Default: the docstring."),
    "title": MetadataKey("Title of the MCP tool."),
    "version": MetadataKey("Version for callers. Cached results of another version are not used."),
    "category": MetadataKey("Category for callers, and the group in the OpenAPI document if there are no tags."),
    "tags": MetadataKey("List of groups in the OpenAPI document."),
    "timeout": MetadataKey("Time limit of a run in seconds, in place of `workflow_timeout`."),
    "expected_parameters": MetadataKey("Schema of the parameters, in place of type hints."),
    "process": MetadataKey("Whether a function runs in a separate process."),
    "durable": MetadataKey("Whether runs go on at another process where theirs has died. Needs `run_engine`."),
    "serial": MetadataKey("Which calls run one at a time: `session`, `caller`, or the name of a parameter."),
    "queue_concurrency": MetadataKey("Maximum number of its durable runs at work at once, in all processes."),
    "queue_rate": MetadataKey("How many of its durable runs may begin in a time, such as `100/min` or `5/10s`."),
    "queue_key": MetadataKey("What its runs are counted by: `caller`, or the name of a parameter."),
    "queue_key_concurrency": MetadataKey("`queue_concurrency` for the runs of each key."),
    "queue_key_rate": MetadataKey("`queue_rate` for the runs of each key."),
    "queue_priority": MetadataKey("Priority of its durable runs: from 1, the first, to 5. Default: 3."),
    "run_store_days": MetadataKey("Days that its ended runs stay in the run store, within those of all workflows."),
    "run_store_max_runs": MetadataKey("Maximum number of its runs in the run store."),
    "run_store_max_bytes": MetadataKey("Maximum size of its runs in the run store, in bytes."),
    "approval": MetadataKey("Who has to agree to each call: `permission:NAME`, `user:ID`, `caller`, or an object."),
    "required_permissions": MetadataKey("List of permissions that a caller needs.", _AUTHENTICATION),
}
"""The keys that the core reads. Those of plugins are in `PluginSettings.workflow_metadata`."""

RETENTION = ("run_store_days", "run_store_max_runs", "run_store_max_bytes")
"""The keys that bound what a run store keeps of a workflow."""

SERIAL_WORDS = ("session", "caller")
"""What `serial` may be that is no parameter. A parameter of such a name can't be chosen."""

ENFORCE = f"Set {_AUTHENTICATION}=True ({first_party.install(_PLUGIN)}), or insecure=True to let every caller run them"
"""What to do about permissions that nothing checks."""

_MEANT = {"permissions": "required_permissions", "permission": "required_permissions"}
"""Other words for a key that guards access: taken in silence, they would guard nothing."""

_GUARDS = frozenset({"requiredperms", "requiredscope", "requiredscopes", "requiredrole", "requiredroles"})
"""Words of other frameworks for it, by their letters. What only resembles them may be a key of one's own."""

_SIMILAR = 0.85
"""From which similarity on (`difflib.SequenceMatcher.ratio`) an unknown key is a known one with a slip in it."""

_SHOWN = 3


def checked(name: str, metadata: Any, known: Collection[str]) -> Mapping[str, Any]:
    """Return a workflow's metadata, if it can be used.

    Args:
        name: The workflow's name, for messages.
        metadata: The metadata.
        known: Every known key.

    Raises:
        ConfigurationError: A value does not fit its key, or a key is a known one misspelt.
    """
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
        raise ConfigurationError(f"{name}: metadata must be a mapping with strings as keys.")
    for key in metadata:
        if key not in known:
            _refuse_misspelt(name, key, known)
    timeout = metadata.get("timeout")
    if timeout is not None and not is_time_limit(timeout):
        raise ConfigurationError(
            f"{name}: metadata['timeout'] must be a number of seconds above 0 and at most {MAX_SECONDS:.0f}."
        )
    for key in ("tags", "required_permissions"):
        value = metadata.get(key, ())
        is_collection = isinstance(value, Collection) and not isinstance(value, (str, Mapping))
        if not is_collection or not all(isinstance(each, str) for each in value):
            raise ConfigurationError(f"{name}: metadata[{key!r}] must be a list of strings.")
    for key in ("description", "category"):
        if not isinstance(metadata.get(key), str | None):
            raise ConfigurationError(f"{name}: metadata[{key!r}] must be a string.")
    _refuse_wrong_serial(name, metadata.get("serial"))
    _refuse_wrong_limits(name, metadata)
    _refuse_wrong_switches(name, metadata)
    check_queue(name, metadata)
    _refuse_unshowable(name, metadata)
    return metadata


def _refuse_wrong_serial(name: str, serial: Any) -> None:
    if serial is not None and not (isinstance(serial, str) and serial):
        raise ConfigurationError(
            f"{name}: metadata['serial'] must be 'session', 'caller' or the name of a parameter, as a string."
        )


def _refuse_wrong_switches(name: str, metadata: Mapping[str, Any]) -> None:
    for key in ("process", "durable"):
        if not isinstance(metadata.get(key, False), bool):
            raise ConfigurationError(f"{name}: metadata[{key!r}] must be True or False.")
    if metadata.get("durable") and metadata.get("serial") is not None:
        raise ConfigurationError(f"{name}: metadata['durable'] and metadata['serial'] can't be used together.")


def _refuse_wrong_limits(name: str, metadata: Mapping[str, Any]) -> None:
    for key in RETENTION:
        limit = metadata.get(key)
        if limit is not None and not (isinstance(limit, (int, float)) and limit.__class__ is not bool and limit > 0):
            raise ConfigurationError(f"{name}: metadata[{key!r}] must be a number above 0.")


def _refuse_unshowable(name: str, metadata: Mapping[str, Any]) -> None:
    for key in metadata.keys() - {"expected_parameters"}:  # those may hold Python types
        try:
            jsontext.encode(metadata[key])
        except (TypeError, ValueError) as exc:
            raise ConfigurationError(f"{name}: metadata[{key!r}] can't be shown to callers: {exc}.") from None


def _refuse_misspelt(name: str, key: str, known: Iterable[str]) -> None:
    if key == "metadata":
        raise ConfigurationError(f"{name}: metadata contains the key 'metadata': move its members one level up.")
    by_letters = {_letters(each): each for each in (*known, "metadata")} | _MEANT
    letters = "permissions" if _letters(key) in _GUARDS else _letters(key)[:100]
    found = difflib.get_close_matches(letters, by_letters, n=1, cutoff=_SIMILAR)
    if found:
        raise ConfigurationError(
            f"{name}: metadata has no key {printable(key)!r}; did you mean {by_letters[found[0]]!r}? "
            "Choose a less similar name for a custom key."
        )


def _letters(key: str) -> str:
    """Return a key without what only its style says: ``rateLimit`` and ``rate-limit`` are ``rate_limit``."""
    return "".join(char for char in key.lower() if char.isalnum())


def merged(name: str, metadata: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return metadata that is given as a mapping and as keywords.

    Raises:
        ConfigurationError: It is not a mapping, or both have the same key.
    """
    if not keywords:
        return metadata
    if metadata is None:
        return keywords
    if isinstance(metadata, Mapping) and (twice := metadata.keys() & keywords.keys()):
        raise ConfigurationError(f"{name}: {sorted(map(str, twice))[0]!r} is set in metadata= and as a keyword.")
    return {**metadata, **keywords} if isinstance(metadata, Mapping) else metadata


class MetadataRules:
    """What the metadata of one platform's workflows may say.

    Args:
        settings: The options of the core and of each plugin, by their models; complete once plugins are loaded.
        insecure: Whether permissions that nothing checks are accepted.
        checks_permissions: Returns whether permissions are checked; None while the platform does not take calls.
    """

    def __init__(
        self,
        settings: Mapping[type[PluginSettings], PluginSettings],
        insecure: bool,
        checks_permissions: Callable[[], bool | None],
    ) -> None:
        self._settings = settings
        self._insecure = insecure
        self._checks_permissions = checks_permissions

    def checked(self, name: str, metadata: Any) -> Mapping[str, Any]:
        """Return a workflow's metadata, if it can be used. Raises as `checked` does."""
        return checked(name, metadata, {*KEYS, *plugin_keys(self._settings.values())})

    def refuse_unfit(self, workflow: Workflow) -> None:
        """Check what a workflow's metadata say of its parameters.

        Raises:
            ConfigurationError: It has no such parameter.
        """
        serial, known = workflow.serial, workflow.input_schema.get("properties", {})
        if serial is not None and serial not in (*SERIAL_WORDS, *known):
            names = ", ".join(repr(printable(each, 50)) for each in [*SERIAL_WORDS, *known][:20])
            raise ConfigurationError(
                f"{workflow.name}: metadata['serial'] is {printable(serial, 50)!r}, which is no parameter of the "
                f"workflow; choose one of {names}."
            )

    def refuse_unenforced(self, workflow: Workflow) -> None:
        """Check a workflow that is registered while the platform runs; others are checked at its start.

        Raises:
            ConfigurationError: It requires permissions that nothing would check.
        """
        has_authorizers = self._checks_permissions()
        if has_authorizers is not None:
            self.report([workflow], has_authorizers=has_authorizers)

    def report(self, workflows: Collection[Workflow], *, has_authorizers: bool) -> None:
        """Log what workflows' metadata ask for in vain on this platform.

        Raises:
            ConfigurationError: They require permissions that nothing checks, and the option ``insecure`` is off.
        """
        complaint = None if has_authorizers else unenforced_permissions(workflows) or unenforced_approvals(workflows)
        if complaint is not None and not self._insecure:
            raise ConfigurationError(f"{complaint}. {ENFORCE}.")
        if complaint is not None:
            log.warning("%s, and insecure is on", complaint)
        for key, reason in without_effect(self._settings.values(), workflows):
            log.warning("Workflow metadata %s, %s", key, reason)


def plugin_keys(every_settings: Iterable[PluginSettings]) -> dict[str, tuple[str, str | None]]:
    """Return the keys that plugins read, those of first-party plugins that are absent too.

    Args:
        every_settings: The options of the core and of each plugin.

    Returns:
        For each key why it would have no effect, or "", and the option to set, or None where none helps.
    """
    keys = {
        key: (f'the plugin "{plugin}" is not active: {first_party.install(plugin)}', option)
        for plugin, entries in first_party.METADATA.items()
        for key, option in entries.items()
    }
    for settings in every_settings:
        for key, (_, option) in type(settings).workflow_metadata.items():
            is_off = option is not None and not is_enabled(getattr(settings, option, None))
            keys[key] = (f"{option} is off", option) if is_off else ("", option)
    return keys


def without_effect(
    every_settings: Iterable[PluginSettings], workflows: Iterable[Workflow]
) -> Iterator[tuple[str, str]]:
    """Yield the keys of workflows' metadata that nothing on this platform reads, and which workflows set them and why.

    A key whose value switches its feature off, such as ``cache=False``, is not missed.
    """
    keys = plugin_keys(every_settings)
    users: dict[str, list[str]] = defaultdict(list)
    for workflow in workflows:
        for key in workflow.metadata.keys() & keys.keys():
            if keys[key][0] and workflow.metadata[key]:
                users[key].append(workflow.name)
    for key in sorted(users):
        yield key, f"set by {_listed(users[key])}, has no effect: {keys[key][0]}"


def unenforced_permissions(workflows: Iterable[Workflow]) -> str | None:
    """Return what to say where no authorizer checks ``required_permissions`` that workflows set; None if none does."""
    names = sorted(workflow.name for workflow in workflows if workflow.required_permissions)
    return (
        f"required_permissions, set by {_listed(names)}, are not enforced: {_AUTHENTICATION} is off" if names else None
    )


def unenforced_approvals(workflows: Iterable[Workflow]) -> str | None:
    """Return what to say where nothing tells callers apart who may approve calls; None if none needs an approval."""
    names = sorted(each.name for each in workflows if each.approval is not None and each.approval.to != "caller")
    return f"approval, set by {_listed(names)}, is given by every caller: {_AUTHENTICATION} is off" if names else None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f'"{name}"' for name in names[:_SHOWN]) + more
