"""``nexus login`` and ``nexus logout`` as processes, with a real issuer and a server; the browser is an HTTP client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from nexus_auth.commands.login_flow import Client, log_in_person
from nexus_auth.commands.trusted_issuers import IssuerTrust
from nexus_auth.oauth.client import Token, issuer_of, token_of
from nexus_auth.rejection import Unavailable
from nexus_toolkit.login_file import Logins
from token_issuer import AUDIENCE

from nexus_core import AuthenticationError, ConfigurationError


class Process:
    """A running command line."""

    def __init__(self, process):
        self._process = process

    async def address(self):
        """The address that it asks to log in at."""
        while line := (await asyncio.wait_for(self._process.stderr.readline(), 30)).decode():
            if "Log in here: " in line:
                return line.strip().partition("Log in here: ")[2]
        raise AssertionError(f"it has ended: {await self.end()}")

    async def end(self):
        """Its exit code, and what it wrote."""
        out, err = await asyncio.wait_for(self._process.communicate(), 40)
        return self._process.returncode, out.decode(), err.decode()


@pytest.fixture
async def server(served, issuer):
    """A served platform that trusts the issuer."""
    platform = await served(channels=("api", "cli"), auth_service_url=issuer.url, jwt_audience=AUDIENCE)
    platform.url = platform.urls["cli"]
    return platform


@pytest.fixture
async def start(tmp_path):
    """A function that starts a command line with a home of its own."""
    started = []

    async def start(*words, **env):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nexus_core", *words, env=kept | {"XDG_CONFIG_HOME": str(tmp_path)} | env,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=tmp_path,
        )  # fmt: skip
        started.append(process)
        return Process(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def run(start):
    async def run(*words, **env):
        return await (await start(*words, **env)).end()

    return run


async def visit(address):
    """Follow an address as a browser does."""
    async with httpx2.AsyncClient(follow_redirects=True) as browser:
        return await browser.get(address)


ROBOT = {"NEXUS_OAUTH2_CLIENT_ID": "robot", "NEXUS_OAUTH2_CLIENT_SECRET": "robot-secret"}


async def test_a_person_logs_in_calls_and_logs_out(server, issuer, start, run, tmp_path):
    login = await start("--connect", server.url, "login", "--no-browser", "--client-id", "cli", "--scope", "data.read")
    address = await login.address()
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert asked["code_challenge_method"] == "S256"
    assert (asked["resource"], asked["scope"], asked["client_id"]) == (f"{server.url}/cli", "data.read", "cli")
    page = await visit(address)
    assert "You are logged in" in page.text
    assert page.headers["content-security-policy"] == "default-src 'none'"
    code, out, err = await login.end()
    assert code == 0, err
    assert json.loads(out)["expires_at"] > time.time()
    assert issuer.last_form["resource"] == f"{server.url}/cli"

    code, out, _ = await run("--connect", server.url, "execute", "whoami")
    assert (code, json.loads(out)["result"]["user"]) == (0, "alice")
    code, _, _ = await run("--connect", server.url, "logout")
    assert (code, issuer.revoked) == (0, ["refresh-1"])
    assert Logins(tmp_path / "nexus" / "logins.json").get(server.url) is None
    assert (await run("--connect", server.url, "execute", "whoami"))[0] == 77
    code, out, _ = await run("--connect", server.url, "logout")
    assert (code, json.loads(out)["logged_out"]) == (0, False)


BROWSER = """
import os, pathlib, signal, sys, urllib.request
for number in (1, 2):  # what is started by others must not keep their output open
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
urllib.request.urlopen(sys.argv[1]).read()
signal.pause()
"""


async def test_a_browser_is_opened_that_nobody_closes(server, run, tmp_path):
    (tmp_path / "browser.py").write_text(BROWSER)
    command = f"{sys.executable} {tmp_path}/browser.py %s {tmp_path}/pid"
    code, out, err = await run("--connect", server.url, "login", "--client-id", "cli", BROWSER=command)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert (code, "Log in here: http" in err) == (0, True), err
    assert json.loads(out)["server"] == server.url


async def test_an_expired_login_is_renewed(server, issuer, run, start, tmp_path):
    login = await start("--connect", server.url, "login", "--no-browser", "--client-id", "cli")
    await visit(await login.address())
    assert (await login.end())[0] == 0
    logins = Logins(tmp_path / "nexus" / "logins.json")
    expired = logins.get(server.url) | {"access_token": "old", "expires_at": time.time() - 1}
    logins.set(server.url, expired)
    code, _, err = await run("--connect", server.url, "execute", "whoami")
    assert (code, issuer.last_form["grant_type"]) == (0, "refresh_token"), err
    assert logins.get(server.url)["access_token"] != "old"
    logins.set(server.url, expired | {"refresh_token": "another"})
    code, _, err = await run("--connect", server.url, "execute", "whoami")
    assert (code, f"nexus --connect {server.url} login" in err) == (77, True)
    logins.set(server.url, expired)
    issuer.close()
    code, _, err = await run("--connect", server.url, "execute", "whoami")
    assert (code, err.startswith("nexus: The login can't be renewed"), err.count("\n")) == (75, True, 1), err
    assert "another" not in err


async def test_a_program_logs_in(server, issuer, run, tmp_path):
    login = ["--connect", server.url, "login", "--client-credentials", "--issuer", issuer.url]
    code, _, err = await run(*login, **ROBOT)
    assert code == 0, err
    code, out, _ = await run("--connect", server.url, "execute", "whoami")
    assert (code, json.loads(out)["result"]["user"]) == (0, "alice")
    logins = Logins(tmp_path / "nexus" / "logins.json")
    assert "robot-secret" not in logins.path.read_text()
    logins.set(server.url, logins.get(server.url) | {"expires_at": 1.0, "refresh_token": None})
    assert (await run("--connect", server.url, "execute", "whoami", **ROBOT))[0] == 0
    code, out, err = await run(*login, **ROBOT | {"NEXUS_OAUTH2_CLIENT_SECRET": "wrong"})
    assert (code, "invalid_client" in err) == (77, True)
    assert "wrong" not in out + err
    code, _, err = await run(*login, NEXUS_OAUTH2_CLIENT_ID="robot")
    assert (code, "NEXUS_OAUTH2_CLIENT_SECRET" in err) == (1, True)


@pytest.mark.parametrize("words", [["--client-credentials"], ["--no-browser"]], ids=["program", "person"])
async def test_a_secret_goes_to_no_issuer_that_the_server_has_chosen(server, issuer, run, words):
    login = ["--connect", server.url, "login", *words]
    code, _, err = await run(*login, **ROBOT)
    assert (code, f"--issuer {issuer.url}" in err, err.count("\n")) == (1, True, 1), err
    code, _, err = await run(*login, "--issuer", "https://login.example.com", **ROBOT)
    assert (code, "the client secret is not sent" in err) == (1, True), err
    code, _, err = await run(*login, **ROBOT, NEXUS_AUTH_SERVICE_URL="https://login.example.com")
    assert (code, "the client secret is not sent" in err) == (1, True), err
    assert not issuer.asked["/token"]
    if words == ["--client-credentials"]:
        code, _, err = await run(*login, **ROBOT, NEXUS_AUTH_SERVICE_URL=f"{issuer.url}/")
        assert (code, issuer.asked["/token"]) == (0, 1), err


async def test_a_secret_that_comes_later_is_not_sent_to_a_persons_issuer(server, issuer, run, start, tmp_path):
    login = await start("--connect", server.url, "login", "--no-browser", "--client-id", "cli")
    await visit(await login.address())
    assert (await login.end())[0] == 0
    logins = Logins(tmp_path / "nexus" / "logins.json")
    logins.set(server.url, logins.get(server.url) | {"expires_at": time.time() - 1})
    assert (await run("--connect", server.url, "execute", "whoami", **ROBOT))[0] == 0
    assert issuer.last_form["grant_type"] == "refresh_token"
    assert "authorization" not in {name.lower() for name in issuer.last_headers}
    assert "client_secret" not in issuer.last_form


def test_an_issuer_is_confirmed_once_for_each_server(tmp_path):
    asked, answers = [], [False, True, True]

    def ask(question):
        asked.append(question)
        return answers.pop(0)

    path = tmp_path / "new" / "issuers.json"
    trust = IssuerTrust(None, ask, path)
    with pytest.raises(ConfigurationError, match="not sent"):
        trust.check("http://127.0.0.1:8001", "https://a.example")
    trust.check("http://127.0.0.1:8001/cli", "https://a.example")
    for seen in (trust, IssuerTrust(None, None, path)):
        seen.check("http://127.0.0.1:8001", "https://a.example")
        assert len(asked) == 2
    for server, other in (
        ("http://127.0.0.1:8002", "https://a.example"),
        ("http://127.0.0.1:8001", "https://b.example"),
    ):
        with pytest.raises(ConfigurationError, match="--issuer"):
            IssuerTrust(None, None, path).check(server, other)
    trust.check("http://127.0.0.1:8001", "https://b.example")
    IssuerTrust(None, None, path).check("http://127.0.0.1:8001", "https://a.example")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o666)  # others may have written it
    with pytest.raises(ConfigurationError, match="--issuer"):
        IssuerTrust(None, None, path).check("http://127.0.0.1:8001", "https://a.example")
    for broken in ("", "[]", "nothing", '{"http://127.0.0.1:8001": "https://a.example"}'):
        path.write_text(broken)
        path.chmod(0o600)
        with pytest.raises(ConfigurationError, match="--issuer"):
            IssuerTrust(None, None, path).check("http://127.0.0.1:8001", "https://a.example")


async def test_what_is_missing_is_said(server, run):
    for words, hint in (
        (["login", "--client-id", "x"], "--connect"),
        (["--connect", server.url, "login"], "--client-id"),
        (["--connect", "http://auth.example.com:1", "login", "--client-id", "x"], "without TLS"),
        (["logout"], "--connect"),
    ):
        code, _, err = await run(*words)
        assert (code, hint in err) == (1, True), err


async def test_strangers_at_the_address_that_the_browser_comes_back_to(server, start):
    login = await start("--connect", server.url, "login", "--no-browser", "--client-id", "cli")
    address = await login.address()
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    back, state = asked["redirect_uri"], asked["state"]
    async with httpx2.AsyncClient() as other:
        for url in (
            back, f"{back}?code=stolen", f"{back}?code=stolen&state=x", f"{back}?code=stolen&state={state}&state=x",
            f"{back}/more?code=stolen&state={state}", back.replace("/callback", "/?state=") + state,
        ):  # fmt: skip
            assert (await other.get(url)).status_code == 404
        assert (await other.post(f"{back}?code=stolen&state={state}")).status_code == 404
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(back).port)
        writer.write(b"G" * 100_000)
        with contextlib.suppress(ConnectionError):
            assert await reader.read(1000) == b""
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(back).port)
        writer.write(b"GET //[ HTTP/1.1\r\n\r\n")
        assert await reader.read(1000) == b""
        writer.close()
        assert "You are logged in" in (await visit(address)).text
        code, _, err = await login.end()
        assert (code, err) == (0, "")
        with pytest.raises(httpx2.HTTPError):
            await other.get(back)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda url: url.replace("iss=http", "iss=https"), "not from the expected issuer"),
        (lambda url: url[: url.index("&iss=")], "not from the expected issuer"),
        (lambda url: url.replace("code=", "code=other-"), "invalid_grant"),
        (lambda url: url.replace("code=", "x="), "sent no code"),
    ],
    ids=["another issuer", "no issuer", "another code", "no code"],
)
async def test_a_login_that_fails_says_why(server, changed, message):
    address = asyncio.get_running_loop().create_future()
    login = asyncio.create_task(log_in_person(server.url, Client("cli"), address.set_result, browser=False))
    async with httpx2.AsyncClient() as browser:
        sent = await browser.get(await address)
        await browser.get(changed(sent.headers["location"]))
    with pytest.raises(AuthenticationError, match=message):
        await login


async def test_a_login_that_is_denied_leaves_nothing(server, start, tmp_path):
    login = await start("--connect", server.url, "login", "--no-browser", "--client-id", "cli")
    async with httpx2.AsyncClient() as browser:
        back = (await browser.get(await login.address())).headers["location"]
        await browser.get(back.replace("code=", "error=access_denied&error_description=No%1b[31m&x="))
    code, _, err = await login.end()
    assert (code, "access_denied No" in err, "\x1b" in err) == (77, True, False), err
    assert not (tmp_path / "nexus" / "logins.json").exists()


async def test_a_server_that_describes_another_is_not_logged_in_to(served, issuer, run):
    platform = await served(
        channels=("api", "cli"), auth_service_url=issuer.url, jwt_audience=AUDIENCE,
        auth_resource_url="https://nexus.example.com",
    )  # fmt: skip
    code, _, err = await run("--connect", platform.urls["cli"], "login", "--client-id", "x", "--no-browser")
    assert (code, "nexus.example.com" in err) == (75, True), err


async def test_a_server_without_an_issuer(served, run):
    platform = await served(channels=("cli",), jwt_secret="a secret that is long enough for HS256 and more")
    code, _, err = await run("--connect", platform.urls["cli"], "login", "--client-id", "x", "--no-browser")
    assert (code, "status 404" in err, err.count("\n")) == (75, True, 1), err


@pytest.mark.parametrize(
    "answer",
    [None, [], "x", {}, {"access_token": ""}, {"access_token": 1}, {"access_token": "a\r\nb"}, {"access_token": "ä"},
     {"access_token": "x" * 20_000}, {"access_token": "x", "token_type": "mac"},
     {"access_token": "x", "token_type": 1}],
    ids=repr,
)  # fmt: skip
def test_answers_that_are_no_token(answer):
    with pytest.raises(Unavailable):
        token_of(answer)


def test_what_is_optional_in_a_token():
    assert token_of({"access_token": "a"}) == Token("a", None, None)
    for odd in ("soon", float("nan"), float("inf"), 1e300, [], 10**400):
        assert token_of({"access_token": "a", "expires_at": odd, "refresh_token": 3}) == Token("a", None, None)


@pytest.mark.parametrize(
    "found",
    [None, [], {}, {"resource": "r"}, {"resource": "r", "authorization_servers": []},
     {"resource": "r", "authorization_servers": [1]}, {"resource": "other", "authorization_servers": ["https://i"]},
     {"resource": "r", "authorization_servers": "https://i"}],
)  # fmt: skip
def test_metadata_that_name_no_issuer(found):
    with pytest.raises(Unavailable):
        issuer_of(found, "r")
