"""Options: their values, what they do, and what is said of wrong ones."""

from __future__ import annotations

import stat

import pytest
from nexus_sessions import SessionManager
from nexus_sessions.settings import SessionSettings

from nexus_core import ConfigurationError, Invocation, NotFound, SessionNotFound, ValidationError
from nexus_core.state.sessions import Session


@pytest.mark.parametrize(
    ("option", "value"),
    [("session_ttl", 0), ("session_ttl", -1), ("session_ttl", "soon"), ("session_ttl", float("nan")),
     ("session_ttl", 1e9), ("session_cleanup_interval", 0), ("session_cleanup_interval", "inf"),
     ("session_max_bytes", 1), ("session_max_bytes", "many"), ("session_manager_timeout", 0),
     ("enable_sessions", "perhaps"), ("session_backend", 5), ("session_backend", {}), ("sqlite_path", 5)],
)  # fmt: skip
def test_wrong_values_are_refused(make, option, value):
    with pytest.raises(ConfigurationError, match=f"^argument {option}: "):
        make(**{option: value})


async def test_a_store_that_is_not_there_stops_the_start(make):
    for options, message in (
        ({"session_backend": "redis"}, "session_backend: there is no store 'redis'.*pip install nexus-hub-redis"),
        ({"session_backend": "sqlight"}, "session_backend: there is no store 'sqlight', only memory, sqlite"),
        ({"store": "postgres"}, "store: there is no store 'postgres'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            async with make(**options):
                pass


@pytest.mark.parametrize("option", ["session_backend", "store"])
async def test_a_file_that_can_not_be_used_stops_the_start(make, tmp_path, option):
    (tmp_path / "text").write_text("not a database " * 100)
    for path, message in ((tmp_path, "unable to open"), (tmp_path / "text" / "db", ""), (tmp_path / "text", "not a")):
        with pytest.raises(ConfigurationError, match=f"^sqlite_path: {path} can't be used: .*{message}"):
            async with make(**{option: "sqlite"}, sqlite_path=str(path)):
                pass
    async with make(sqlite_path=str(tmp_path)):
        pass  # nobody uses it


async def test_the_environment_sets_them(make, monkeypatch, tmp_path):
    for name, value in {"SESSION_TTL": "5", "SESSION_BACKEND": " ", "SQLITE_PATH": "~/x.db"}.items():
        monkeypatch.setenv(f"NEXUS_{name}", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with make() as nexus:
        settings, path = nexus.settings(SessionSettings), nexus.store("sqlite", "store").path
    assert (settings.session_ttl, settings.session_backend, path) == (5.0, None, tmp_path / "x.db")


async def test_the_file_is_where_state_belongs_and_its_users_alone(make, monkeypatch, tmp_path):
    async with make(session_backend="sqlite"):
        pass
    path = tmp_path / "state" / "nexus" / "state.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for relative in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", relative)
        monkeypatch.setenv("HOME", str(tmp_path))
        async with make() as nexus:
            assert nexus.store("sqlite", "store").path == tmp_path / ".local" / "state" / "nexus" / "state.db"


async def test_no_file_is_made_where_nobody_needs_one(make, tmp_path):
    async with make() as nexus:
        await (await nexus.session_store()).create("api")
    assert not (tmp_path / "state").exists()


async def test_switched_off_no_session_is_made_and_none_is_known(start, view, call):
    nexus = await start(enable_sessions=False, session_backend="nowhere")
    me = await view(nexus)
    with pytest.raises(NotFound, match="enable_sessions") as refused:
        await me.create_session("api")
    assert refused.value.status == 404
    for attempt in (me.session, me.renew_session, me.remove_session, lambda each: me.update_session(each, {})):
        with pytest.raises(SessionNotFound, match=r"^There is no session with this id\.$"):
            await attempt("x")
    with pytest.raises(SessionNotFound):
        await call(nexus, Session("x"))
    nexus.register("one", lambda: 1)
    assert (await nexus.invoke("one")).value == 1


async def test_sessions_have_the_time_and_the_size_that_options_say(start, view):
    nexus = await start(session_ttl=100, session_max_bytes=50)
    me = await view(nexus)
    made = await me.create_session("api")
    assert made.expires_at - made.created_at == pytest.approx(100, abs=1)
    with pytest.raises(ValidationError, match="at most 50 bytes"):
        await me.update_session(made.id, {"a": "x" * 50})


@pytest.mark.parametrize(("backend", "store"), [("sqlite", "memory"), (None, "sqlite")])
async def test_the_store_is_the_one_that_options_say(start, tmp_path, backend, store):
    nexus = await start(session_backend=backend, store=store, sqlite_path=str(tmp_path / "db"))
    assert (await nexus.session_store()).store_name == "sqlite"
    if store == "sqlite":  # answers to repeated calls are kept there too
        nexus.register("one", lambda: 1)
        for replayed in (False, True):
            result = await nexus.invoke(Invocation("one", {}, idempotency_key="k"))
            assert (result.value, result.replayed) == (1, replayed)


@pytest.mark.parametrize("manager", [SessionManager, "manager", object()])
async def test_only_a_session_manager_is_one(make, manager):
    nexus = make(manager=manager)
    with pytest.raises(ConfigurationError, match="register_session_manager takes an instance of a SessionManager"):
        async with nexus:
            pass
