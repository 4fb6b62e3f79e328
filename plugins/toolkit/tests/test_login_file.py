"""The file with the tokens of people who have logged in."""

from __future__ import annotations

import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from nexus_toolkit.login_file import LEEWAY, Logins, default_path, has_expired, server_of

from nexus_core import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://127.0.0.1:8001"


@pytest.fixture(name="logins")
def logins_fixture(tmp_path: Path) -> Logins:
    return Logins(tmp_path / "new" / "logins.json")


def test_logins_are_kept_by_server_and_for_their_owner_alone(logins: Logins) -> None:
    assert logins.get(URL) is None
    assert not logins.remove(URL)
    logins.set(URL, {"access_token": "a", "refresh": {"more": 1}})
    logins.set("https://example.com", {"access_token": "b"})
    assert logins.get(URL) == {"access_token": "a", "refresh": {"more": 1}}
    assert stat.S_IMODE(logins.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(logins.path.parent.stat().st_mode) == 0o700
    assert logins.remove(URL)
    assert logins.get(URL) is None
    assert logins.get("https://example.com/") == {"access_token": "b"}
    assert os.listdir(logins.path.parent) == ["logins.json"]


@pytest.mark.parametrize(
    "other",
    ["https://127.0.0.1:8001", "http://127.0.0.1:8002", "http://127.0.0.2:8001", "http://127.0.0.1.example.com:8001",
     "http://127.0.0.1:8001@example.com"],
)  # fmt: skip
def test_no_other_server_has_the_login(logins: Logins, other: str) -> None:
    logins.set(URL, {"access_token": "a"})
    assert logins.get(other) is None


@pytest.mark.parametrize("same", [URL, URL + "/", URL + "/cli", URL.upper(), "http://x@127.0.0.1:8001"])
def test_the_same_server_under_another_spelling(logins: Logins, same: str) -> None:
    logins.set(URL, {"access_token": "a"})
    assert logins.get(same) == {"access_token": "a"}


def test_names_of_servers() -> None:
    assert server_of("https://Example.com/x") == "https://example.com:443"
    assert server_of("http://[::1]:80") == "http://[::1]:80"
    for wrong in ("", "example.com", "ftp://example.com", "http://", "http://a:b", "http://[", "file:///x"):
        with pytest.raises(ConfigurationError, match="URL"):
            server_of(wrong)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": {"access_token": 1}}', "\udcff", "[" * 100_000])
def test_a_broken_file_says_what_to_do(logins: Logins, text: str) -> None:
    logins.path.parent.mkdir()
    logins.path.write_bytes(text.encode(errors="surrogateescape"))
    logins.path.chmod(0o600)
    for attempt in (lambda: logins.get(URL), lambda: logins.set(URL, {}), lambda: logins.remove(URL)):
        with pytest.raises(ConfigurationError, match=r"logins\.json can't be read.*log in again"):
            attempt()


def test_a_login_without_a_token_is_not_kept(logins: Logins) -> None:
    logins.set(URL, {"access_token": "a"})
    with pytest.raises(ConfigurationError, match="access_token"):
        logins.set(URL, {"token": "b"})
    assert logins.get(URL) == {"access_token": "a"}


def test_a_change_that_fails_leaves_the_file_as_it_is(logins: Logins) -> None:
    logins.set(URL, {"access_token": "a"})

    def change(login: dict[str, Any] | None) -> None:
        assert login is not None
        login["access_token"] = "b"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        logins.change(URL, change)
    assert logins.get(URL) == {"access_token": "a"}
    logins.set(URL, {"access_token": "c"})  # nor is it locked any more


def test_one_at_a_time_changes_logins(logins: Logins) -> None:
    """Several that find a login expired: the second sees what the first has made of it."""
    logins.set(URL, {"access_token": "0"})
    entered, go_on = threading.Event(), threading.Event()

    def first(login: dict[str, Any] | None) -> dict[str, Any] | None:
        entered.set()
        assert go_on.wait(10)
        return login and {"access_token": login["access_token"] + "1"}

    def second(login: dict[str, Any] | None) -> dict[str, Any] | None:
        return login and {"access_token": login["access_token"] + "2"}

    with ThreadPoolExecutor() as threads:
        one = threads.submit(logins.change, URL, first)
        assert entered.wait(10)
        two = threads.submit(logins.change, URL, second)
        with pytest.raises(TimeoutError):
            two.result(0.1)
        go_on.set()
        assert (one.result(10), two.result(10)) == ({"access_token": "01"}, {"access_token": "012"})


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606])
def test_a_file_that_others_can_read_is_not_used(logins: Logins, mode: int) -> None:
    logins.set(URL, {"access_token": "a"})
    logins.path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        logins.get(URL)


def test_a_place_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"can't be (read|written)"):
        Logins(tmp_path / "file" / "logins.json").set(URL, {})


@pytest.mark.parametrize(
    ("end", "expired"), [(None, False), ("soon", False), (-1, True), (LEEWAY - 1, True), (LEEWAY + 60, False)]
)
def test_when_a_login_has_expired(end: Any, expired: bool) -> None:
    assert has_expired({"expires_at": time.time() + end if isinstance(end, (int, float)) else end}) == expired


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert str(default_path()) == "/home/somebody/.config/nexus/logins.json"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/conf")
    assert str(default_path()) == "/conf/nexus/logins.json"
