"""The catalog of first-party options against the plugins themselves."""

from __future__ import annotations

import pytest
from nexus_cli.commands.declared_commands import declared_commands

from nexus_core import Nexus
from nexus_core.options import first_party
from nexus_core.options.sources import unknown_option
from nexus_core.plugins.discovery import discover

FIRST_PARTY = [each for each in discover() if each.distribution.startswith(first_party.DISTRIBUTION_PREFIX)]


def test_the_first_party_plugins_are_found() -> None:
    assert {"api", "cli", "hypercorn", "kailash", "mcp"} <= {record.name for record in FIRST_PARTY}


def test_it_has_the_commands_that_plugins_declare_and_register() -> None:
    declared = {each.name: each.plugin for each in declared_commands() if each.plugin in first_party.OPTIONS}
    assert first_party.COMMANDS == declared
    nexus = Nexus()
    registered = nexus.plugins.collect("nexus_register_commands")
    assert first_party.COMMANDS == {
        command.name: plugin for plugin, command in registered if plugin in first_party.OPTIONS
    }
    assert all(each.help for each in declared_commands())


def test_each_service_names_the_option_that_switches_it_on() -> None:
    nexus = Nexus()
    provided = {name for _, services in nexus.plugins.collect("nexus_register_services") for name in services}
    assert provided <= first_party.SERVICES.keys()
    assert {option for _, option in first_party.SERVICES.values() if option} <= first_party.every_option()


def test_no_option_has_two_owners() -> None:
    every = [option for options in first_party.OPTIONS.values() for option in options]
    assert len(every) == len(set(every))
    assert all(
        first_party.owner_of(option) == plugin for plugin, options in first_party.OPTIONS.items() for option in options
    )


@pytest.mark.parametrize("option", ["mcp_allowed_origins", "mcp_session_idle_timeout", "drain_seconds"])
def test_an_option_of_a_plugin_that_is_not_installed_names_what_to_install(option: str) -> None:
    complaint, _ = unknown_option(option, f"argument {option}", [], {})
    assert f"pip install {first_party.DISTRIBUTION_PREFIX}{first_party.owner_of(option)}" in complaint
