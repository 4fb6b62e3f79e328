"""The options of the plugin ``runs``, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from nexus_runs.plugin import RunsPlugin

from nexus_core import ConfigurationError, Nexus


def stores(**options):
    nexus = Nexus(discover=False, plugins=[RunsPlugin], **options)
    (plugin,) = nexus.plugins.instances(RunsPlugin)
    return {store.name: store for store in plugin.nexus_register_run_stores()}


def test_sqlite_is_always_there_and_postgres_with_an_address(monkeypatch):
    monkeypatch.delenv("POSTGRES_URL", raising=False)
    assert set(stores()) == set(stores(runs_postgres_url=" ")) == {"sqlite"}
    assert set(stores(runs_postgres_url="postgresql://127.0.0.1/shop")) == {"sqlite", "postgres"}
    monkeypatch.setenv("POSTGRES_URL", "postgresql://127.0.0.1/shop")
    assert set(stores()) == {"sqlite", "postgres"}


def test_where_the_file_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert stores()["sqlite"].path == tmp_path / "nexus" / "runs.db"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert stores(runs_sqlite_path=" ")["sqlite"].path == Path("~/.local/state/nexus/runs.db").expanduser()
    assert stores(runs_sqlite_path="here.db")["sqlite"].path == Path.cwd() / "here.db"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs_postgres_url": "mysql://a/b"}, "must begin with postgresql"),
        ({"runs_postgres_url": "postgresql://a:p#q@b/c"}, "write it as %23|invalid host or port"),
        ({"runs_postgres_schema": "a; DROP TABLE runs"}, "runs_postgres_schema"),
        ({"runs_postgres_connections": 1}, "runs_postgres_connections"),
        ({"runs_max_waiting": 0}, "runs_max_waiting"),
    ],
)
def test_options_that_will_not_do(options, message):
    with pytest.raises(ConfigurationError, match=message):
        stores(**options)
