"""Options set in odd places and odd ways: what is wrong is said in one line that holds no value."""

from __future__ import annotations

import dataclasses
import types
from typing import TYPE_CHECKING, Any

import pydantic
import pytest
from pydantic import Field, SecretStr

from nexus_core import ConfigurationError, PluginError, PluginSettings, hookimpl

if TYPE_CHECKING:
    from pathlib import Path


class DepotSettings(PluginSettings):
    depot_name: str = Field("", description="Name.")
    depot_map: dict[str, int] = Field({}, description="Map.")
    depot_numbers: set[int] | None = Field(None, description="Numbers.")
    depot_key: SecretStr | None = Field(None, description="Key.")


class Depot:
    @hookimpl
    def nexus_register_settings(self) -> type[PluginSettings]:
        return DepotSettings


@pytest.fixture(name="read")
def read_fixture(make: Any) -> Any:
    """Return the depot's options as a platform reads them."""
    return lambda **options: make(Depot(), **options).settings(DepotSettings)


@pytest.fixture(name="file")
def file_fixture(tmp_path: Path) -> Any:
    def write(content: str | bytes) -> str:
        path = tmp_path / "nexus.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_structures_in_the_environment(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_DEPOT_MAP", '{"a": 1}')
    monkeypatch.setenv("NEXUS_DEPOT_NUMBERS", "1, 2,,")
    settings = read()
    assert settings.depot_map == {"a": 1}
    assert settings.depot_numbers == {1, 2}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DEPOT_MAP", '{"hunter2": '),
        ("DEPOT_MAP", "hunter2"),
        ("DEPOT_NUMBERS", "1,hunter2"),
        ("DEPOT_NUMBERS", "[hunter2"),
    ],
)
def test_wrong_structures_are_not_repeated(read: Any, monkeypatch: Any, variable: str, value: str) -> None:
    monkeypatch.setenv(f"NEXUS_{variable}", value)
    with pytest.raises(ConfigurationError, match=f"environment variable NEXUS_{variable}") as caught:
        read()
    assert "hunter2" not in str(caught.value)


def test_small_letters_in_the_environment_count_everywhere(read: Any, make: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("nexus_depot_name", "small")
    assert read().depot_name == "small"
    monkeypatch.setenv("nexus_enable_auth", "true")
    with pytest.raises(PluginError, match="auth"):
        read()
    monkeypatch.delenv("nexus_enable_auth")
    monkeypatch.setenv("Nexus_Depot_Nam", "misspelt")
    with pytest.raises(ConfigurationError, match="Nexus_Depot_Nam"):
        read()


@dataclasses.dataclass(slots=True)
class Slotted:
    depot_name: str = "here"


class Model(pydantic.BaseModel):
    depot_name: str = "here"


@pytest.mark.parametrize(
    "config",
    [
        Slotted(), Model(), types.SimpleNamespace(depot_name="here"), {"depot_name": "here"},
        types.MappingProxyType({"depot_name": "here"}),
        DepotSettings(depot_name="here"),
    ],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_configuration_objects(read: Any, config: Any) -> None:
    assert read(config=config).depot_name == "here"


@pytest.mark.parametrize("config", [(1, 2), 7, "text"])
def test_what_is_no_configuration_object(read: Any, config: Any) -> None:
    with pytest.raises(ConfigurationError, match="config must be"):
        read(config=config)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("depot_name: a\ndepot_name: b\n", "sets 'depot_name' twice: again in line 2"),
        ("depot_key: hunter2\n  depot_name: [", "not YAML: line 2"),
        ("depot_name: !!python/object/apply:os.system [hunter2]", "not YAML: line 1"),
        ("depot_name: \x00hunter2", "not YAML"), (b"\xff\xfe\x00", "not"),
        ("depot_name: 2026-99-99T99:99:99Z\n", "not YAML"),
        ("? [a, b]\n: 1\n", "YAML"), ("a: 1\n---\nb: 2\n", "YAML"),
        ("depot_numbers: [" + "hunter2, " * 500 + "]", "depot_numbers in"),
    ],
)  # fmt: skip
def test_wrong_files_are_named_in_one_line_that_repeats_nothing(read: Any, file: Any, content: Any, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(config_file=file(content))
    message = str(caught.value)
    assert words in message
    assert message.isprintable()
    assert len(message) < 500
    assert "hunter2" not in message


def test_secrets_are_not_shown(read: Any) -> None:
    settings = read(depot_key="hunter2")
    assert settings.depot_key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings)


@pytest.mark.parametrize("service", ["NEXUS", "NEXUS_DEPOT", "NEXUS_DEPOT_NAME"])
def test_variables_that_kubernetes_makes_of_services_are_no_options(
    read: Any, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    made = {
        "SERVICE_HOST": "10.0.0.1", "SERVICE_PORT": "8000", "SERVICE_PORT_METRICS_2": "9090", "PORT": "tcp://10.0.0.1:8000",
        "PORT_8000_TCP": "tcp://10.0.0.1:8000", "PORT_8000_TCP_PROTO": "tcp", "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_ADDR": "10.0.0.1",
    }  # fmt: skip
    for name, value in made.items():
        monkeypatch.setenv(f"{service}_{name}", value)
    monkeypatch.setenv("NEXUS_DEPOT_NAME", "east")
    assert read().depot_name == "east"


def test_a_port_of_ones_own_is_none_of_a_service(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings(PluginSettings):
        depot_port: int = Field(1, description="Port.")

    class Port:
        @hookimpl
        def nexus_register_settings(self) -> type[PluginSettings]:
            return Settings

    monkeypatch.setenv("NEXUS_DEPOT_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("NEXUS_DEPOT_PORT", "tcp://10.0.0.1:8000")
    assert make(Port()).settings(Settings).depot_port == 1
    monkeypatch.setenv("NEXUS_DEPOT_PORT", "8000")
    assert make(Port()).settings(Settings).depot_port == 8000


@pytest.mark.parametrize("name", ["NEXUS_DEPOT_PORT", "NEXUS_DEPOT_SERVICE_PORT", "NEXUS_DEPOT_SERVICE_HOSTS"])
def test_what_only_looks_like_it_is_refused(read: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:8000")
    with pytest.raises(ConfigurationError, match=name):
        read()


def test_everything_that_is_wrong_is_said_at_once(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_DEPOT_NUMBERS", "1, x")
    monkeypatch.setenv("NEXUS_RUN_HISTORY", "many")
    monkeypatch.setenv("NEXUS_DEPOT_NAM", "north")
    with pytest.raises(ConfigurationError) as caught:
        make(Depot(), workflow_timeout="soon", shutdown_grac=3, depot_map=3)
    for complaint in (
        "environment variable NEXUS_DEPOT_NUMBERS: ",
        "environment variable NEXUS_RUN_HISTORY: ",
        "environment variable NEXUS_DEPOT_NAM: there is no option 'depot_nam'; did you mean 'depot_name'?",
        "argument workflow_timeout: ",
        "argument shutdown_grac: there is no option 'shutdown_grac'; did you mean 'shutdown_grace'?",
        "argument depot_map: ",
    ):
        assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_loaded_by_wrong_options(make: Any) -> None:
    loaded = []

    class Noted:
        @hookimpl
        def nexus_register_settings(self) -> type[PluginSettings]:
            loaded.append(True)
            return DepotSettings

    with pytest.raises(ConfigurationError, match="argument plugin_timeout: "):
        make(Noted(), plugin_timeout="soon", depot_map=3)
    assert loaded == []


def test_variables_of_plugins_that_are_not_installed_are_reported(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NEXUS_MCP_PORT", "3001")
    monkeypatch.setenv("NEXUS_CACHE_TTL", "5")
    make()
    assert 'environment variable NEXUS_MCP_PORT: it needs the plugin "mcp": pip install nexus-hub-mcp' in caplog.text
    assert "NEXUS_CACHE_TTL" in caplog.text
    with pytest.raises(ConfigurationError, match='argument mcp_port: it needs the plugin "mcp"'):
        make(mcp_port=3001)
    monkeypatch.setenv("NEXUS_ENABLE_RATE_LIMITING", "1")  # a policy that somebody relies on
    with pytest.raises(ConfigurationError, match='NEXUS_ENABLE_RATE_LIMITING: it needs the plugin "ratelimit"'):
        make()


def test_a_required_plugin_that_is_not_installed_names_what_to_install(make: Any) -> None:
    with pytest.raises(PluginError, match='"auth" is not installed: pip install nexus-hub-auth'):
        make(enable_auth=True)
    with pytest.raises(PluginError, match=r'"acme" is not installed\.$'):
        make(required_plugins=["acme"])


def test_an_asgi_application_without_any_channel_is_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no active plugin has a channel\. pip install nexus-hub-api"):
        make().asgi_app()
