"""The list of options: nothing secret in it, and there when a plugin is not."""

from __future__ import annotations

from typing import Any

from nexus_toolkit.option_list import options, schema
from pydantic import Field

from nexus_core import Nexus, PluginSettings, hookimpl


class ShopSettings(PluginSettings):
    shop_passwords: list[str] = Field(default_factory=list)
    shop_credentials: dict[str, str] = Field(default_factory=dict)
    shop_password: int | None = None
    shop_size: int = 3


class Shop:
    @hookimpl
    def nexus_register_settings(self) -> type:
        return ShopSettings


class Fails(Shop):
    @hookimpl
    def nexus_register_workflow_adapters(self) -> Any:
        raise RuntimeError("it does not work")


def shown(nexus: Nexus) -> dict[str, Any]:
    return {option.name: option.value for option in options(nexus)}


def test_whatever_is_called_a_secret_is_hidden() -> None:
    given = {"shop_passwords": ["hunter2"], "shop_credentials": {"ada": "hunter2"}, "shop_password": 123456}
    found = shown(Nexus(discover=False, plugins=[Shop()], **given))
    assert "hunter2" not in str(found)
    assert "123456" not in str(found)
    assert found["shop_size"] == 3
    assert shown(Nexus(discover=False, plugins=[Shop()]))["shop_passwords"] == []


def test_a_plugin_that_fails_is_listed_with_its_options() -> None:
    nexus = Nexus(discover=False, plugins=[Fails()])
    assert nexus.plugins.inactive()
    assert {option.plugin for option in options(nexus) if option.name.startswith("shop_")} == {"inactive"}
    assert "shop_size" in schema(nexus)["properties"]
