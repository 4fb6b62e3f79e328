"""An empty secret is no secret, in every option of every plugin, wherever it is set."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pydantic import Field, SecretBytes, SecretStr

from nexus_core import ConfigurationError, Nexus, hookimpl
from nexus_core.options.settings import PluginSettings

BLANK = ("", " ", "\t \n", SecretStr(""), SecretStr("  "))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("NEXUS_METRICS_TOKEN", "NEXUS_REDIS_URL", "REDIS_URL", "NEXUS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)


def secrets_of(nexus):
    return {
        (type(settings), name)
        for settings in nexus.every_settings
        for name, field in type(settings).model_fields.items()
        if "Secret" in str(field.annotation)
    }


@pytest.mark.parametrize("blank", BLANK, ids=repr)
def test_every_option_with_a_secret_is_not_set_when_it_is_empty(blank):
    every = secrets_of(Nexus())
    assert {"jwt_secret", "metrics_token", "redis_url", "oauth2_client_secret"} <= {name for _, name in every}
    nexus = Nexus(**{name: blank for _, name in every})
    assert {name: getattr(nexus.settings(model), name) for model, name in every} == {name: None for _, name in every}


def test_an_empty_variable_hides_no_secret_of_another_source(monkeypatch, caplog):
    from nexus_metrics.settings import MetricsSettings

    monkeypatch.setenv("NEXUS_METRICS_TOKEN", "")
    nexus = Nexus(config={"metrics_token": "a long token"})
    assert nexus.settings(MetricsSettings).metrics_token.get_secret_value() == "a long token"
    assert "NEXUS_METRICS_TOKEN is empty and therefore ignored" in caplog.text
    assert nexus.option_sources()["metrics_token"] == "metrics_token of dict"


class OwnSettings(PluginSettings):
    own_token: SecretStr = Field(SecretStr("a default that everybody can read"))
    own_key: SecretBytes | None = None


def own(model):
    return SimpleNamespace(__name__="own", nexus_register_settings=hookimpl(lambda: model))


@pytest.mark.parametrize("blank", BLANK, ids=repr)
def test_one_that_must_be_set_is_refused_when_it_is_empty(blank):
    with pytest.raises(ConfigurationError, match="argument own_token: an empty secret protects nothing"):
        Nexus(plugins=[own(OwnSettings)], discover=False, own_token=blank)
    assert Nexus(plugins=[own(OwnSettings)], discover=False, own_key=blank).settings(OwnSettings).own_key is None
