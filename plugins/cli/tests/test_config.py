"""``nexus config``: every option with its source, and a schema that says the same as the platform."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from nexus_toolkit.option_list import options, schema
from served_process import clean_environment

from nexus_core import ConfigurationError, Nexus

APP = """
from nexus_core import ChannelConfig, Nexus
nexus = Nexus(run_history=7, jwt_secret="a secret of the tests, quite long", cli_config=ChannelConfig(name="shop"))
"""


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """A function that runs ``nexus config`` in a folder with an application and a file."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "nexus.yaml").write_text("run_history: 3\nmax_body_bytes: 1000\nenable_caching: true\n")

    def run(*words: str, code: int = 0, **variables: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "nexus_core", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60,
            env=clean_environment() | variables, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stderr if code else json.loads(done.stdout)

    return run


def found(reply: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in reply["options"]}


def test_show_without_an_application(config: Any) -> None:
    shown = found(config("config", "show", "--config", "nexus.yaml", NEXUS_MAX_BODY_BYTES="2000"))
    assert shown["run_history"] == {
        "name": "run_history", "value": 3, "source": "run_history in nexus.yaml", "default": 1000, "plugin": "core",
        "description": "Maximum number of ended runs in the history.",
    }  # fmt: skip
    assert shown["max_body_bytes"]["source"] == "environment variable NEXUS_MAX_BODY_BYTES"
    assert (shown["enable_caching"]["value"], shown["enable_caching"]["plugin"]) == (True, "cache")
    assert (shown["api_port"]["value"], shown["api_port"]["source"]) == (8000, None)
    assert len(shown) > 140


def test_show_what_an_application_sets(config: Any) -> None:
    shown = found(config("--app", "app.py", "config", "show", "--changed", NEXUS_CONFIG_FILE="nexus.yaml"))
    assert {name: (each["value"], each["source"]) for name, each in shown.items()} == {
        "run_history": (7, "argument run_history"),
        "max_body_bytes": (1000, "max_body_bytes in nexus.yaml"),
        "enable_caching": (True, "enable_caching in nexus.yaml"),
        "jwt_secret": ("***", "argument jwt_secret"),
        "cli_name": ("shop", "name of argument cli_config"),
    }


@pytest.mark.parametrize("words", [("config", "show"), ("config", "schema")])
def test_what_is_wrong_with_a_file_is_said(config: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "wrong.yaml").write_text("run_histori: 3\n")
    said = config(*words, "--config", "wrong.yaml", code=1)
    assert "run_histori in wrong.yaml: there is no option" in said
    assert "did you mean 'run_history'" in said
    assert "can't be read" in config(*words, "--config", "missing.yaml", code=1)


def test_the_schema_fits_a_file_with_every_option(config: Any, tmp_path: Path) -> None:
    described = config("config", "schema")
    jsonschema.Draft202012Validator.check_schema(described)
    every = {each.name: each.default for each in options(Nexus())}
    assert described["properties"].keys() - every.keys() == {"app", "api_config", "cli_config", "mcp_config"}
    jsonschema.validate(every | {"app": "shop:nexus", "api_config": {"port": 9000, "cors_origins": []}}, described)
    file = tmp_path / "every.yaml"
    file.write_text(yaml.safe_dump(every | {"app": "shop:nexus"}))
    loaded = Nexus(config_file=str(file))
    assert [each.name for each in options(loaded) if each.value != each.default] == []
    assert all(each.source == f"{each.name} in {file}" for each in options(loaded))


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_port": 70000}, {"api_port": "many"}, {"enable_auth": 7}, {"cors_origins": 3}, {"no_such_option": 1},
        {"rate_limit_strategy": "leaky"}, {"workflow_timeout": 0}, {"log_level": []}, {"api_config": {"porrt": 1}},
        {"api_config": 3}, {"compression_level": 10}, {"history_size": None},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_schema_refuses_the_platform_refuses(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema(Nexus()))
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(wrong))
    with pytest.raises(ConfigurationError):
        Nexus(config_file=str(file))


def test_a_table_on_a_terminal(terminal: Any) -> None:
    shown = terminal("config", "show", "--changed")
    shown.expect("OPTION +VALUE +SOURCE +DEFAULT +PLUGIN|All options have their defaults")
    assert shown.end() == 0
