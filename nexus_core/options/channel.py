"""`ChannelConfig`: options of one channel together; and what each source of options sets, such configurations included.

``Nexus(api_config=ChannelConfig(port=8080))`` is ``Nexus(api_port=8080)``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from nexus_core.errors import ConfigurationError
from nexus_core.options import first_party

SUFFIX = "_config"
"""Ends the name of an option that holds the configuration of a channel: ``api_config``, ``cli_config``, ..."""


_OFF = frozenset({"", "0", "false", "f", "no", "n", "off", "none", "null"})
"""How text says that an option is off, or not set."""


class ChannelConfig:
    """Options of one channel. Which channel it is, is said where it is handed over: ``Nexus(api_config=...)``.

    Options that begin with the channel's name are written without it: ``port`` is ``api_port``, ``cli_port`` or
    ``mcp_port``. Others keep their name. What is None is not set.

    Args:
        name: What the channel calls itself.
        port: Where it listens.
        options: Any other option, see ``docs/reference/options.md``.
    """

    def __init__(self, name: str | None = None, port: int | None = None, **options: Any) -> None:
        given = {"name": name, "port": port} | options
        vars(self).update({option: value for option, value in given.items() if value is not None})

    def __repr__(self) -> str:
        return f"ChannelConfig({', '.join(vars(self))})"  # values may be secrets


class OptionSource:
    """What one source sets.

    Args:
        values: Options, and configurations of channels.
        where: Returns how an option of it is called in messages.

    Raises:
        ConfigurationError: The configuration of a channel is invalid.
    """

    def __init__(self, values: Mapping[str, Any], where: Callable[[str], str]) -> None:
        self._where = where
        self._values = {name: value for name, value in values.items() if not name.endswith(SUFFIX)}
        self._configs = {
            name.removesuffix(SUFFIX): _members(value, where(name))
            for name, value in values.items()
            if name.endswith(SUFFIX) and value is not None
        }

    def find(self, option: str) -> tuple[Any, str] | None:
        """Return the value of an option and where it was set, or None if it was not.

        Raises:
            ConfigurationError: It is set more than once, to different values.
        """
        hits = list(self._hits(option))
        for value, source in hits[1:]:
            if not _same(value, hits[0][0]):
                raise ConfigurationError(f"{hits[0][1]} and {source} are set to different values.")
        return hits[0] if hits else None

    def _hits(self, option: str) -> Iterator[tuple[Any, str]]:
        if option in self._values:
            yield self._values[option], self._where(option)
        for channel, members in self._configs.items():
            for name in dict.fromkeys((option.removeprefix(f"{channel}_"), option)):
                if name in members:
                    yield members[name], self._of(channel, name)
        yield from self._policy_in_a_list(option)

    def _policy_in_a_list(self, option: str) -> Iterator[tuple[Any, str]]:
        """Yield what lists of middleware say of the policies of all channels: those they name are switched on."""
        rule = next((names for names, meant in first_party.POLICIES.items() if meant == option), None)
        if rule is None:
            return
        for found in filter(None, map(self.find, first_party.POLICY_LISTS)):
            listed = _words(found[0])
            places = [listed.index(name) for name in rule if name in listed]
            if len(places) == len(rule):
                yield places == sorted(places), f"{' and '.join(rule)} in {found[1]}"

    def given(self, known: Container[str]) -> Iterator[tuple[str, str]]:
        """Yield the name of each option that is set, and where, whether anything knows it or not.

        Args:
            known: Every option there is, to decide whether a channel's name belongs in front.
        """
        for option in self._values:
            yield option, self._where(option)
        for channel, members in self._configs.items():
            for name in members:
                full = f"{channel}_{name}"
                yield name if name in known and full not in known else full, self._of(channel, name)
        for option in first_party.POLICIES.values():
            for _, source in self._policy_in_a_list(option):
                yield option, source

    def _of(self, channel: str, name: str) -> str:
        return f"{name} of {self._where(channel + SUFFIX)}"


def is_enabled(value: Any) -> bool:
    """Whether a raw option value means "on": any but the words for "off". A misspelt one must switch nothing off."""
    return value.strip().lower() not in _OFF if isinstance(value, str) else bool(value)


def _same(one: Any, other: Any) -> bool:
    """Whether two raw values mean the same: one may be text where the other is not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return is_enabled(one) == is_enabled(other)
    return bool(one == other) or str(one).strip() == str(other).strip()


def attributes(config: object) -> dict[str, Any]:
    """Return the public attributes of an object, with values that its classes define."""
    found: dict[str, Any] = {}
    if not isinstance(config, BaseModel):
        for kind in reversed(type(config).__mro__):
            found |= {name: value for name, value in vars(kind).items() if not hasattr(value, "__get__")}
    found |= vars(config)
    return {name: value for name, value in found.items() if not name.startswith("_")}


def _members(config: object, source: str) -> dict[str, Any]:
    if isinstance(config, str) and config.lstrip().startswith("{"):
        try:
            config = json.loads(config)
        except (ValueError, RecursionError):
            raise ConfigurationError(f"{source}: it is not JSON.") from None
    if isinstance(config, Mapping):
        members = dict(config)
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        members = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    elif hasattr(config, "__dict__") and not isinstance(config, type):
        members = attributes(config)
    else:
        raise ConfigurationError(f"{source}: must be a ChannelConfig, a mapping, or an object with attributes.")
    if wrong := next((name for name in members if not isinstance(name, str)), None):
        raise ConfigurationError(f"{source}: {wrong!r} is not the name of an option.")
    return {name: value for name, value in members.items() if value is not None}


def _words(value: Any) -> list[Any]:
    """Return the items of a list as it may be written."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, Collection) and not isinstance(value, (Mapping, bytes)) else []
    if value.lstrip().startswith("["):
        try:
            return list(json.loads(value))
        except (ValueError, TypeError):
            return []  # the option's own model says what is wrong with it
    return [word.strip() for word in value.split(",")]
