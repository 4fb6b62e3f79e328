"""``nexus keys`` and ``nexus why``, as people and programs use them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import textwrap
import time

import pytest
from token_issuer import AUDIENCE, SECRET, secret_token

main = pytest.importorskip("nexus_cli.main").main

APP = """
from nexus_auth import AuthProvider
from nexus_core import Nexus
from nexus_core.plugins.markers import hookimpl

{before}

nexus = Nexus({options})

@nexus.workflow
async def free() -> int:
    return 1

@nexus.workflow(required_permissions=["data.read", "data.write"])
async def guarded() -> int:
    return 2
"""


@pytest.fixture
def app(tmp_path, monkeypatch):
    """A function that makes the application that commands are for."""

    def make(options="", before=""):
        path = tmp_path / "app.py"
        path.write_text(APP.format(options=options, before=textwrap.dedent(before)))
        monkeypatch.setenv("NEXUS_APP", f"{path}:nexus")
        monkeypatch.setenv("NEXUS_DISABLED_PLUGINS", "mcp,kailash,redis")

    return make


@pytest.fixture
def nexus(capfd):
    """A function that runs a command line: its exit code, what it writes, its complaints."""

    def run(*words):
        capfd.readouterr()
        code = main(list(words))
        out, err = capfd.readouterr()
        return code, json.loads(out) if out.startswith("{") else out, err

    return run


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "keys.json"
    monkeypatch.setenv("NEXUS_API_KEY_FILE", str(path))
    monkeypatch.setenv("NEXUS_DISABLED_PLUGINS", "mcp,kailash,redis")
    return path


# nexus keys


def test_a_key_from_its_making_to_its_end(nexus, file, monkeypatch):
    code, made, err = nexus(
        "keys", "create", "--user", "ci", "--tenant", "acme", "--permission", "data.read,data.write",
        "--permission", "x.*", "--name", "the CI", "--expires", "90d",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert made["key"].startswith(f"nxk_{made['id']}_")
    assert made["permissions"] == ["data.read", "data.write", "x.*"]
    assert (made["user"], made["tenant"], made["name"], made["status"]) == ("ci", "acme", "the CI", "active")
    assert made["expires_at"] == pytest.approx(time.time() + 90 * 86_400, abs=30)
    assert "hash" not in made

    code, listed, _ = nexus("keys", "list")
    assert code == 0
    assert listed == {"keys": [{name: value for name, value in made.items() if name != "key"}]}

    code, revoked, _ = nexus("keys", "revoke", made["id"])
    assert (code, revoked["status"]) == (0, "revoked")
    assert nexus("keys", "revoke", made["key"])[0] == 0, "again, and by all of it"
    assert nexus("keys", "list")[1]["keys"][0]["status"] == "revoked"
    assert made["key"].split("_", 2)[2] not in file.read_text()


def test_a_key_that_was_made_here_lets_its_owner_in(nexus, file, app):
    app("enable_auth=True, auth_strategy='api_key'")
    key = nexus("keys", "create", "--user", "ci", "--permission", "data.*")[1]["key"]
    assert nexus("execute", "guarded", "--token", key)[1]["result"] == 2
    assert nexus("execute", "guarded")[0] == 77
    nexus("keys", "revoke", key)
    assert nexus("execute", "guarded", "--token", key)[0] == 77


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["create"], 2, "--user"),
        (["create", "--user", ""], 2, "--user"),
        (["create", "--user", "a\nb"], 2, "--user, --tenant or --name: must not be empty, longer than 255"),
        (["create", "--user", "a", "--tenant", "x" * 300], 2, "--tenant"),
        (["create", "--user", "a", "--name", "x\x1b[31m"], 2, "--name"),
        (["create", "--user", "a", "--permission", "x" * 300], 2, "--permission: must not be longer than"),
        (["create", "--user", "a", "--expires", "tomorrow"], 2, "--expires must be a number with d, h, m or s"),
        (["create", "--user", "a", "--expires", "0d"], 2, "--expires"),
        (["create", "--user", "a", "--expires", "-1d"], 2, "--expires"),
        (["create", "--user", "a", "--expires", "9999999999d"], 2, "100 years"),
        (["revoke"], 2, "ID"),
        (["revoke", "unknown"], 66, "There is no API key with this id"),
        (["remove", "x"], 2, "remove"),
    ],
)
def test_what_is_wrong_is_said(nexus, file, words, code, complaint):
    found, out, err = nexus("keys", *words)
    assert (found, out) == (code, "")
    assert complaint in err
    assert not file.exists() or json.loads(file.read_text())["keys"] == []


def test_without_a_file(nexus, monkeypatch):
    monkeypatch.setenv("NEXUS_DISABLED_PLUGINS", "mcp,kailash,redis")
    code, _, err = nexus("keys", "list")
    assert code == 1
    assert "api_key_file (NEXUS_API_KEY_FILE)" in err


def test_a_file_of_something_else_is_left_alone(nexus, file):
    file.write_text('{"name": "package"}')
    code, _, err = nexus("keys", "create", "--user", "ci")
    assert code == 1
    assert "is not a valid key file" in err
    assert file.read_text() == '{"name": "package"}'


def on_a_terminal(*words):
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nexus_core", *words], stdin=inner, stdout=inner, stderr=inner,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "140"},
    )  # fmt: skip
    os.close(inner)
    shown = b""
    while True:
        try:
            piece = os.read(outer, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(outer)
    return process.wait(30), shown.decode().replace("\r\n", "\n")


def test_people_see_tables(file):
    code, shown = on_a_terminal("keys", "create", "--user", "ci", "--permission", "data.read")
    assert code == 0
    assert "it is not shown again" in shown
    assert "API keys are not accepted with these options" in shown
    (key,) = [line for line in shown.split("\n") if line.startswith("nxk_")]
    code, shown = on_a_terminal("keys", "list")
    head, row = shown.strip().split("\n")
    assert head.split() == ["ID", "USER", "TENANT", "STATUS", "NAME", "PERMISSIONS", "EXPIRES_AT"]
    assert row.split() == [key.split("_")[1], "ci", "-", "active", "data.read", "-"]


# nexus why


def test_why_a_user_may_or_may_not(nexus, app):
    app(f"enable_auth=True, jwt_secret={SECRET!r}")
    code, found, _ = nexus("why", "alice", "guarded", "--permission", "data.*", "--scope", "data.read")
    assert code == 77
    assert found == {
        "workflow": "guarded",
        "allowed": False,
        "identity": "given by the options of this command",
        "principal": {"user_id": "alice", "tenant_id": None, "permissions": ["data.*"], "scopes": ["data.read"]},
        "rules": ["the permissions and scopes of the caller's credential decide"],
        "permissions": [
            {"permission": "data.read", "granted": True, "why": "granted by data.*, scope data.read"},
            {"permission": "data.write", "granted": False, "why": "granted by data.*, but no scope allows it"},
        ],
        "missing_permissions": ["data.write"],
    }
    code, found, _ = nexus("why", "alice", "guarded", "--permission", "data.read,data.write", "--tenant", "acme")
    assert (code, found["allowed"], found["principal"]["tenant_id"]) == (0, True, "acme")
    code, found, _ = nexus("why", "alice", "free", "--tenant", "acme")
    assert (code, found["allowed"], found["rules"]) == (0, True, ["the workflow requires no permission"])


def test_why_a_token_is_accepted_or_refused(nexus, app, monkeypatch):
    app(f"enable_auth=True, jwt_secret={SECRET!r}")
    code, found, _ = nexus("why", secret_token(), "guarded")
    assert (code, found["identity"]) == (77, "the credential is accepted (jwt)")
    assert found["principal"]["user_id"] == "alice"
    assert found["missing_permissions"] == ["data.write"]
    code, found, _ = nexus("why", secret_token(permissions=["*"]), "guarded")
    assert (code, found["permissions"][0]["why"]) == (0, "granted by *")
    for token, reason in {
        secret_token(exp=1): "jwt: expired_token",
        secret_token(aud="x"): "jwt_audience is not set",
        secret_token(secret="another secret, which is long enough"): "not signed by a known key",
        "alice": "no authentication method takes",
    }.items():
        code, found, _ = nexus("why", token, "guarded")
        assert (code, found["allowed"], found["principal"]) == (77, False, None)
        assert reason in found["identity"]
        assert token not in found["identity"] or token == "alice"
    monkeypatch.setenv("NEXUS_TOKEN", secret_token())
    assert nexus("why", "-", "free")[1]["principal"]["user_id"] == "alice"
    assert nexus("why", f"Bearer {secret_token()}", "free")[0] == 0


def test_why_an_api_key(nexus, app, file):
    app("enable_auth=True, auth_strategy='api_key'")
    key = nexus("keys", "create", "--user", "ci", "--permission", "data.read")[1]["key"]
    code, found, _ = nexus("why", key, "guarded")
    assert (code, found["identity"]) == (77, "the credential is accepted (api_key)")
    assert found["missing_permissions"] == ["data.write"]
    nexus("keys", "revoke", key)
    assert "is revoked" in nexus("why", key, "guarded")[1]["identity"]


def test_why_with_rules_of_one_s_own_and_another_plugin_s(nexus, app):
    app(
        "enable_auth=True, auth_provider=Own(), plugins=[Other()]",
        """
        class Own(AuthProvider):
            def authenticate(self, credentials):
                if credentials["token"] != "good":
                    raise ValueError("the password is hunter2")
                return {"user_id": "alice"}
            def authorize(self, user, resource, action):
                return action == "read"

        class Other:
            @hookimpl
            def nexus_register_authorizers(self, nexus):
                return [self]
            async def granted(self, principal, permissions):
                return [permission for permission in permissions if permission != "data.read"]
        """,
    )
    code, found, _ = nexus("why", "good", "guarded")
    assert code == 77
    assert sorted(found["rules"]) == ["Own.authorize decides", "the plugin Other decides"]
    assert found["missing_permissions"] == ["data.read", "data.write"]
    read, write = (set(each["why"].split("; ")) for each in found["permissions"])
    assert read == {"authorize(user, 'data', 'read') returned True", "Other: not granted"}
    assert write == {"authorize(user, 'data', 'write') returned something else than True", "Other: granted"}
    code, found, err = nexus("why", "bad", "guarded")
    assert (code, found["identity"]) == (77, "the credential is rejected: Own: it raised ValueError")
    assert "hunter2" not in err


def test_why_where_nobody_is_asked(nexus, app):
    app("insecure=True")
    code, found, _ = nexus("why", "alice", "guarded")
    assert (code, found["allowed"], found["identity"]) == (0, True, "authentication is off: enable_auth is not set")


def test_why_of_what_there_is_not(nexus, app, issuer):
    app(f"enable_auth=True, auth_service_url={issuer.url!r}, jwt_audience={AUDIENCE!r}")
    code, out, err = nexus("why", "alice", "guardet", "--tenant", "x")
    assert (code, out) == (66, "")
    assert "guardet" in err
    assert nexus("why", "alice")[0] == 2
    assert nexus("why", "a\nb", "free", "--tenant", "x")[0] == 2
    token = issuer.token()
    issuer.close()
    code, out, err = nexus("why", token, "free")
    assert (code, out) == (75, "")
    assert "can't be verified" in err


def test_people_read_why_in_lines(app):
    app(f"enable_auth=True, jwt_secret={SECRET!r}")
    code, shown = on_a_terminal("why", secret_token(), "guarded")
    assert code == 77
    assert shown.strip().split("\n")[-3:] == [
        "yes  data.read: granted by data.read",
        "NO   data.write: missing",
        "This caller may not run guarded.",
    ]
