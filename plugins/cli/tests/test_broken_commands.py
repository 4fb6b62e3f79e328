"""Plugins whose commands do not work: the plugin is named, and nobody is shown a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

APP = """
import typer
from nexus_core import Command, Nexus, WorkflowNotFound, hookimpl

def raising():
    raise ValueError("no such table")

async def later():
    raise ValueError("no such table")

def told():
    raise WorkflowNotFound("There is nothing.")

def leaving():
    raise typer.Exit(5)

group = typer.Typer()

@group.command()
def inner():
    raise ValueError("no such table")

@group.command()
def other():
    print("fine")

class Stock:
    @hookimpl
    def nexus_register_commands(self, nexus):
        given = {"raising": raising, "later": later, "told": told, "leaving": leaving, "group": group}
        return [Command(name, callback) for name, callback in given.items()]

class Wrong:
    @hookimpl
    def nexus_register_commands(self, nexus):
        return ["inventory"]

class Broken:
    @hookimpl
    def nexus_register_commands(self, nexus):
        raise ValueError("no such file")

nexus = Nexus(plugins=[Stock(), Wrong(), Broken()])
"""


@pytest.fixture(name="nexus")
def nexus_fixture(tmp_path):
    (tmp_path / "app.py").write_text(APP)

    def nexus(*words):
        command = [sys.executable, "-m", "nexus_core", "--app", "app:nexus", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    return nexus


@pytest.mark.parametrize("words", [("raising",), ("later",), ("group", "inner")])
def test_a_command_that_raises_names_its_plugin(nexus, words):
    done = nexus(*words)
    message = f'The command {words[0]!r} of the plugin "Stock" failed: ValueError: no such table.'
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    debugged = nexus("--debug", *words)
    assert message in debugged.stderr
    assert 'raise ValueError("no such table")' in debugged.stderr


def test_what_is_meant_for_users_stays_theirs(nexus):
    assert nexus("group", "other").stdout == "fine\n"
    assert nexus("leaving").returncode == 5
    told = nexus("told")
    assert told.returncode == 66
    assert "There is nothing." in told.stderr


def test_plugins_that_give_no_commands_are_named(nexus):
    done = nexus("inventory")
    assert done.returncode == 2
    assert (
        'The plugin "Wrong" is not active: nexus_register_commands returned a str, which is not a Command.'
        in done.stderr
    )
    assert 'The plugin "Broken" is not active: nexus_register_commands failed: ValueError: no such file.' in done.stderr
    assert "Traceback" not in done.stderr
