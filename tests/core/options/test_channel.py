"""Configurations of channels: the same options, wherever and however they are set."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

import nexus_core.options.first_party
from nexus_core import ChannelConfig, ConfigurationError, Nexus, PluginSettings, ProductionConfig, hookimpl
from nexus_core.options.sources import OptionSources


class ShopSettings(PluginSettings):
    shop_port: int = 1
    shop_name: str = "shop"
    opening: str = "late"


class Shop:
    """A channel of a stranger's."""

    @hookimpl
    def nexus_register_settings(self) -> type:
        return ShopSettings


@pytest.fixture(name="read")
def read_fixture() -> Any:
    def read(**options: Any) -> tuple[ShopSettings, dict[str, str]]:
        nexus = Nexus(discover=False, plugins=[Shop()], **options)
        return nexus.settings(ShopSettings), nexus.option_sources()

    return read


@dataclass
class Data:
    port: int = 7
    opening: str | None = None


@pytest.mark.parametrize(
    "config",
    [ChannelConfig(port=7), ChannelConfig(None, 7), {"port": 7}, {"shop_port": 7}, SimpleNamespace(port=7), Data()],
    ids=repr,
)
def test_what_a_configuration_may_be(read: Any, config: Any) -> None:
    settings, sources = read(shop_config=config)
    assert (settings.shop_port, settings.opening) == (7, "late")
    assert list(sources) == ["shop_port"]
    assert sources["shop_port"].endswith("of argument shop_config")


def test_names_without_the_channels_in_front_keep_theirs(read: Any) -> None:
    settings, sources = read(shop_config=ChannelConfig(name="corner", opening="early"))
    assert (settings.shop_name, settings.opening) == ("corner", "early")
    assert sources == {"shop_name": "name of argument shop_config", "opening": "opening of argument shop_config"}


def test_every_place_has_them_in_the_usual_order(read: Any, monkeypatch: Any, tmp_path: Any) -> None:
    file = tmp_path / "nexus.yaml"
    file.write_text("shop_config:\n  port: 3\n  name: file\n  opening: file\n")
    config = {"shop_config": {"port": 4, "name": "object", "opening": "object"}}
    monkeypatch.setenv("NEXUS_SHOP_CONFIG", '{"port": 2, "name": "environment"}')
    settings, sources = read(shop_config={"port": 1}, config_file=str(file), config=config)
    assert (settings.shop_port, settings.shop_name, settings.opening) == (1, "environment", "file")
    assert sources == {
        "shop_port": "port of argument shop_config",
        "shop_name": "name of environment variable NEXUS_SHOP_CONFIG",
        "opening": f"opening of shop_config in {file}",
    }
    monkeypatch.setenv("NEXUS_SHOP_NAME", "flat")
    with pytest.raises(ConfigurationError, match="NEXUS_SHOP_NAME and name of environment variable NEXUS_SHOP_CONFIG"):
        read()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"shop_port": 2, "shop_config": {"port": 3}},
            "argument shop_port and port of argument shop_config are set to different",
        ),
        (
            {"shop_config": {"prt": 3}},
            "prt of argument shop_config: there is no option 'shop_prt'; did you mean 'shop_port'",
        ),
        ({"shop_config": 3}, "argument shop_config: must be a ChannelConfig"),
        ({"shop_config": [1]}, "argument shop_config: must be a ChannelConfig"),
        ({"shop_config": ChannelConfig}, "argument shop_config: must be a ChannelConfig"),
        ({"shop_config": "file.yaml"}, "argument shop_config: must be a ChannelConfig"),
        ({"shop_config": "{"}, "argument shop_config: it is not JSON"),
        ({"shop_config": {1: 2}}, "argument shop_config: 1 is not the name"),
        ({"shop_config": {"port": "many"}}, "port of argument shop_config: Input should be a valid integer"),
        ({"shop_config": {"cache_ttl": 3}}, 'cache_ttl of argument shop_config: it needs the plugin "cache"'),
    ],
)
def test_what_is_wrong_is_said_where_it_is(read: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**options)
    assert said in str(caught.value)


def test_the_same_value_twice_is_no_contradiction(read: Any) -> None:
    assert read(shop_port=2, shop_config={"port": 2, "shop_port": 2})[0].shop_port == 2


def test_the_same_value_as_text_is_none_either(read: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("NEXUS_SHOP_PORT", "2")
    monkeypatch.setenv("NEXUS_SHOP_CONFIG", '{"port": 2}')
    assert read()[0].shop_port == 2
    sources = OptionSources({"enable_auth": "true", "api_config": {"middleware": "cors, auth"}})
    assert sources.value("enable_auth") == "true"
    with pytest.raises(ConfigurationError, match="are set to different values"):
        OptionSources({"enable_auth": "off", "api_middleware": ["auth"]}).value("enable_auth")


@pytest.mark.parametrize(("name", "said"), [("auth", '"auth"'), ("rate_limit", 'needs the plugin "ratelimit"')])
def test_policies_that_middleware_asks_for_need_their_plugins(name: str, said: str) -> None:
    api = pytest.importorskip("nexus_api.plugin").ApiPlugin
    with pytest.raises(ConfigurationError, match=said):
        Nexus(discover=False, plugins=[api], api_config={"middleware": [name]})


def test_every_policy_is_an_option() -> None:
    assert set(nexus_core.options.first_party.POLICIES.values()) <= nexus_core.options.first_party.every_option()


def test_no_configuration_shows_its_values() -> None:
    assert "hidden" not in repr(ChannelConfig(port=1, token="hidden"))
    assert "hidden" not in repr(ProductionConfig(jwt_secret="hidden"))


def test_production_asks_who_calls_unless_it_says_otherwise() -> None:
    with pytest.raises(ConfigurationError, match='"auth"'):  # whose plugin is not there
        Nexus(discover=False, config=ProductionConfig(log_format=None))
    nexus = Nexus(discover=False, config=ProductionConfig(enable_auth=None, log_format=None, run_history=5))
    assert nexus.option_sources() == {"run_history": "run_history of ProductionConfig"}


@pytest.mark.parametrize("word", ["1", "true", "t", "yes", "y", "on", "T", " Y "])
def test_every_word_that_pydantic_takes_for_on_asks_for_the_guard(monkeypatch: Any, word: str) -> None:
    monkeypatch.setenv("NEXUS_ENABLE_AUTH", word)
    with pytest.raises(ConfigurationError, match='"auth"'):
        Nexus(discover=False)


def test_what_is_switched_off_must_exist_all_the_same() -> None:
    with pytest.raises(ConfigurationError, match="enable_auht"):
        Nexus(discover=False, enable_auht=False)


@pytest.mark.parametrize("kind", [set, frozenset, tuple, list])
def test_middleware_may_be_any_collection_of_names(kind: Any) -> None:
    found = OptionSources({"api_middleware": kind(["auth", "cors"])})
    assert found.value("enable_auth") is True


def test_the_order_of_middleware_says_both_things() -> None:
    assert OptionSources({"api_middleware": ["rate_limit", "auth"]}).value("rate_limit_before_auth") is True
    assert OptionSources({"api_middleware": ["auth", "rate_limit"]}).value("rate_limit_before_auth") is False
    with pytest.raises(ConfigurationError, match="rate_limit_before_auth"):
        OptionSources({"rate_limit_before_auth": True, "api_middleware": ["auth", "rate_limit"]}).value(
            "rate_limit_before_auth"
        )


class OurShop:
    port = 9000


class OurProduction(ProductionConfig):
    max_concurrent_workflows = 7


def test_what_classes_of_configurations_define_counts(read: Any) -> None:
    assert read(shop_config=OurShop())[0].shop_port == 9000
    nexus = Nexus(discover=False, config=SimpleNamespace(max_concurrent_workflows=3))
    assert nexus.options.max_concurrent_workflows == 3
    assert OptionSources({}, config=OurProduction()).value("max_concurrent_workflows") == 7


@pytest.mark.parametrize("config", [ProductionConfig, OurShop], ids=repr)
def test_a_class_is_no_configuration(config: Any) -> None:
    with pytest.raises(ConfigurationError, match="config must be"):
        Nexus(discover=False, config=config)


def test_what_is_nested_too_deeply_is_no_configuration(read: Any) -> None:
    with pytest.raises(ConfigurationError, match="it is not JSON"):
        read(shop_config='{"a":' * 200_000)
