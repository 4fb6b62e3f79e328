"""Metadata of workflows: what is misspelt is refused, and what nothing on the platform does is reported."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from nexus_core import ConfigurationError, MetadataKey, PluginSettings, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable


def work() -> int:
    return 1


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("require_permissions", "required_permissions"),
        ("requiredPermissions", "required_permissions"),
        ("required-permissions", "required_permissions"),
        ("permissions", "required_permissions"),
        ("Permissions", "required_permissions"),
        ("required_scopes", "required_permissions"),
        ("requiredRole", "required_permissions"),
        ("rate_limt", "rate_limit"),
        ("timout", "timeout"),
        ("cach", "cache"),
        ("cache_tll", "cache_ttl"),
        ("circuit_braker", "circuit_breaker"),
        ("sensitive_parameter", "sensitive_parameters"),
        ("tag", "tags"),
    ],
)
def test_a_misspelt_key_is_refused(make: Callable[..., Any], key: str, meant: str) -> None:
    nexus = make()
    for register in (
        lambda: nexus.register("work", work, {key: 1}),
        lambda: nexus.workflow(**{key: 1})(work),
        lambda: nexus.workflow(metadata={key: 1})(work),
    ):
        with pytest.raises(ConfigurationError, match=f"{key}.*did you mean '{meant}'"):
            register()
    assert nexus.list_workflows() == []


@pytest.mark.parametrize(
    "key", ["owner", "author", "stage", "page", "rate", "cost_center", "sensitivity", "priority", "required_parts"]
)
def test_a_key_of_ones_own_is_not(make: Callable[..., Any], key: str) -> None:
    nexus = make()
    nexus.register("work", work, {key: 1})
    assert nexus.workflows.get("work").metadata == {key: 1}


def test_the_decorator_takes_a_mapping_and_keywords(make: Callable[..., Any]) -> None:
    nexus = make()
    nexus.workflow(name="one", metadata={"required_permissions": ["a"], "owner": "us"}, timeout=3)(work)
    one = nexus.workflows.get("one")
    assert one.metadata == {"required_permissions": ["a"], "owner": "us", "timeout": 3}
    assert one.required_permissions == {"a"}
    nexus.workflow(metadata={"tags": ["a"]})(work)
    assert nexus.workflows.get("work").metadata == {"tags": ["a"]}
    with pytest.raises(ConfigurationError, match="'timeout' is set in metadata= and as a keyword"):
        nexus.workflow(name="two", metadata={"timeout": 2}, timeout=3)(work)
    with pytest.raises(ConfigurationError, match="metadata must be a mapping"):
        nexus.workflow(name="two", metadata=["timeout"], timeout=3)(work)
    with pytest.raises(ConfigurationError, match="move its members one level up"):
        nexus.register("two", work, {"metadata": {"required_permissions": ["a"]}})


async def test_permissions_that_nothing_checks_stop_the_start(make: Callable[..., Any]) -> None:
    nexus = make()
    nexus.register("guarded", work, {"required_permissions": ["a"]})
    with pytest.raises(ConfigurationError, match=r'"guarded", are not enforced: enable_auth is off\. Set enable_auth'):
        await nexus.invoke("guarded")
    with pytest.raises(ConfigurationError, match="are not enforced"):
        async with nexus:
            pass
    mounted = make(pytest.importorskip("nexus_api.plugin").ApiPlugin)
    mounted.register("guarded", work, {"required_permissions": ["a"]})
    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        messages.append(message)

    await mounted.asgi_app()({"type": "lifespan"}, receive, send)
    assert messages[0]["type"] == "lifespan.startup.failed"
    assert "are not enforced" in messages[0]["message"]


async def test_permissions_are_refused_while_the_platform_runs_too(make: Callable[..., Any]) -> None:
    async with make() as nexus:
        with pytest.raises(ConfigurationError, match="are not enforced"):
            nexus.register("guarded", work, {"required_permissions": ["a"]})
        assert nexus.list_workflows() == []


async def test_insecure_runs_them_with_a_warning(make: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    nexus = make(insecure=True)
    nexus.register("guarded", work, {"required_permissions": ["a"]})
    with caplog.at_level(logging.WARNING):
        assert (await nexus.invoke("guarded")).value == 1
    assert 'required_permissions, set by "guarded", are not enforced' in caplog.text


async def test_an_authorizer_of_any_plugin_enforces_them(make: Callable[..., Any]) -> None:
    class Nothing:
        async def granted(self, principal: Any, permissions: frozenset[str]) -> frozenset[str]:
            return frozenset()

    class Plugin:
        @hookimpl
        def nexus_register_authorizers(self) -> list[Any]:
            return [Nothing()]

    async with make(Plugin()) as nexus:
        nexus.register("guarded", work, {"required_permissions": ["a"]})


class GreetingSettings(PluginSettings):
    workflow_metadata: ClassVar[dict[str, MetadataKey]] = {
        "greeting_words": MetadataKey("Words of greetings.", "enable_greetings"),
        "greeting_lang": MetadataKey("Language of greetings."),
    }
    enable_greetings: bool = False


def test_a_declaration_that_is_no_metadata_key_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Wrong.workflow_metadata\['greeting'\] must be a MetadataKey"):

        class Wrong(PluginSettings):
            workflow_metadata: ClassVar[dict[str, Any]] = {"greeting": "enable_greetings"}


class Greetings:
    @hookimpl
    def nexus_register_settings(self) -> type[PluginSettings]:
        return GreetingSettings


async def test_keys_without_effect_are_reported(make: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    nexus = make(Greetings())
    for number in range(5):
        nexus.register(f"limited{number}", work, {"rate_limit": 5, "circuit_breaker": False, "cache": None})
    nexus.register("cached", work, {"cache": True, "greeting_words": 3, "greeting_lang": "en"})
    with pytest.raises(ConfigurationError, match="did you mean 'greeting_words'"):
        nexus.register("other", work, {"greetings_words": 3})
    with caplog.at_level(logging.WARNING):
        async with nexus:
            lines = [record.getMessage() for record in caplog.records]
            assert lines == [
                'Workflow metadata cache, set by "cached", has no effect: '
                'the plugin "cache" is not active: pip install nexus-hub-cache',
                'Workflow metadata greeting_words, set by "cached", has no effect: enable_greetings is off',
                'Workflow metadata rate_limit, set by "limited0", "limited1", "limited2" and 2 more, has no effect: '
                'the plugin "ratelimit" is not active: pip install nexus-hub-ratelimit',
            ]
            caplog.clear()
            nexus.register("late", work, {"rate_limit": 1})
            assert '"late", has no effect' in caplog.text


async def test_keys_whose_option_is_on_are_not(make: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    nexus = make(Greetings(), enable_greetings=True)
    nexus.register("greet", work, {"greeting_words": 3})
    async with nexus:
        assert caplog.text == ""


@pytest.mark.parametrize("keyword", ["metdata", "meta_data", "metadat"])
def test_the_decorators_keyword_for_metadata_is_refused_where_it_is_misspelt(
    make: Callable[..., Any], keyword: str
) -> None:
    nexus = make()
    with pytest.raises(ConfigurationError, match=f"{keyword}.*did you mean 'metadata'"):
        nexus.workflow(**{keyword: {"required_permissions": ["a"]}})(work)
    assert nexus.list_workflows() == []


@pytest.mark.parametrize("given", ["greet", {"timeout": 3}, None])
def test_the_decorator_says_that_it_takes_keywords(make: Callable[..., Any], given: Any) -> None:
    with pytest.raises(ConfigurationError, match="takes keywords"):
        make().workflow(given)


def test_the_decorator_can_replace(make: Callable[..., Any]) -> None:
    nexus = make()
    nexus.workflow(work)
    with pytest.raises(ConfigurationError, match="pass replace=True"):
        nexus.workflow(work)
    nexus.workflow(replace=True, timeout=3)(work)
    assert nexus.workflows.get("work").metadata == {"timeout": 3}
