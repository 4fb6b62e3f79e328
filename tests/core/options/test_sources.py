from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from nexus_core import ConfigurationError, PluginError, PluginSettings, hookimpl


class ShopSettings(PluginSettings):
    shop_names: list[str] = Field([], description="Names.")
    shop_size: int = Field(1, ge=1, description="Size.")
    shop_key: SecretStr | None = Field(None, description="Key.")


class Shop:
    @hookimpl
    def nexus_register_settings(self) -> type[PluginSettings]:
        return ShopSettings


def shop(nexus: Any) -> ShopSettings:
    settings: ShopSettings = nexus.settings(ShopSettings)
    return settings


def test_precedence(make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "nexus.yaml"
    file.write_text("shop_size: 3\n")

    class Config:
        shop_size = 2

        def __init__(self) -> None:
            self.shop_size = 2

    assert shop(make(Shop())).shop_size == 1
    assert shop(make(Shop(), config=Config())).shop_size == 2
    assert shop(make(Shop(), config={"shop_size": 2})).shop_size == 2
    monkeypatch.setenv("NEXUS_CONFIG_FILE", str(file))
    assert shop(make(Shop(), config=Config())).shop_size == 3
    monkeypatch.setenv("NEXUS_SHOP_SIZE", "4")
    nexus = make(Shop(), config=Config())
    assert shop(nexus).shop_size == 4
    assert nexus.option_sources()["shop_size"] == "environment variable NEXUS_SHOP_SIZE"
    assert shop(make(Shop(), config=Config(), shop_size=5)).shop_size == 5


@pytest.mark.parametrize("text", ["a,b", " a , b ", '["a", "b"]'])
def test_lists_in_the_environment(make: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("NEXUS_SHOP_NAMES", text)
    assert shop(make(Shop())).shop_names == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shop_sise": 1}, ["shop_sise", "shop_size"]),
        ({"shop_size": "big"}, ["argument shop_size", "integer"]),
        ({"shop_size": 0}, ["argument shop_size", "greater"]),
        ({"cache_ttl": 3}, ["cache_ttl", "nexus-hub-cache"]),
        ({"enable_caching": True}, ["enable_caching", "nexus-hub-cache"]),
        ({"max_concurrent_workflows": 0}, ["max_concurrent_workflows"]),
        ({"log_level": "LOUD"}, ["log_level", "DEBUG"]),
    ],
)
def test_wrong_options_say_which_and_where(make: Any, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(Shop(), **options)
    for word in words:
        assert word in str(caught.value)


def test_values_are_not_repeated(make: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(Shop(), shop_key=["hunter2"])
    assert "hunter2" not in str(caught.value)


def test_features_that_are_off_need_no_plugin(make: Any) -> None:
    make(enable_auth=False, enable_rate_limiting=False, enable_caching="false")


def test_access_control_fails_closed(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match="auth"):
        make(enable_auth=True)
    monkeypatch.setenv("NEXUS_ENABLE_AUTH", "true")
    with pytest.raises(PluginError, match="auth"):
        make()


def test_misspelt_variables(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_HOSTT", "x")
    with pytest.raises(ConfigurationError, match=r"NEXUS_HOSTT.*host"):
        make()


@pytest.mark.parametrize(
    ("content", "word"),
    [("a: [", "YAML"), ("- a", "mapping"), ("1: 2", "mapping"), ("hosst: x", "host"), ("host: [1]", "host in")],
)
def test_wrong_files(make: Any, tmp_path: Path, content: str, word: str) -> None:
    file = tmp_path / "nexus.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=word):
        make(config_file=str(file))


def test_a_missing_file(make: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        make(config_file=str(tmp_path / "none.yaml"))


def test_an_empty_file_and_the_command_lines_own_entry(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "nexus.yaml"
    file.write_text("")
    make(config_file=str(file))
    file.write_text("app: shop:nexus\n")
    make(config_file=str(file))


def test_options_of_a_plugin_that_is_not_loaded_are_a_warning(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    from nexus_core import Nexus

    with caplog.at_level(logging.WARNING):
        Nexus(disabled_plugins=["api", "mcp", "cli", "hypercorn", "kailash"], api_port=1)
    assert 'it belongs to the plugin "api", which is not loaded' in caplog.text
