"""What permissions and scopes grant, and what a caller sees of what it may not run."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_auth.permissions import Grants
from nexus_auth.provider import AuthProvider, split_permission
from token_issuer import SECRET, secret_token

from nexus_core import PermissionDenied, Principal, WorkflowNotFound

GRANTED = [
    (["data.read"], "data.read"),
    (["data:read"], "data.read"),
    (["data.read"], "data:read"),
    (["*"], "data.read"),
    (["*"], "anything"),
    (["data.*"], "data.read"),
    (["data:*"], "data.read"),
    (["data.*"], "data.deep.read"),
    (["data.deep.*"], "data.deep.read"),
    (["x", "data.*", "y.*"], "data.read"),
]
NOT_GRANTED = [
    ([], "data.read"),
    (["data"], "data.read"),
    (["data.reader"], "data.read"),
    (["data.rea"], "data.read"),
    (["data.*"], "data"),
    (["data.*"], "database.read"),
    (["data.*"], "other.data.read"),
    (["*.read"], "data.read"),
    (["data.re*"], "data.read"),
    (["**"], "data.read"),
    ([".*"], "data.read"),
    (["Data.Read"], "data.read"),
    (["data.read "], "data.read"),
    ([""], "data.read"),
    (["data.deep.*"], "data.read"),
]


@pytest.mark.parametrize(("permissions", "asked"), GRANTED)
def test_granted(permissions, asked):
    assert Grants(permissions).contain(asked)
    assert Grants(permissions).explain(asked).startswith("granted by ")


@pytest.mark.parametrize(("permissions", "asked"), NOT_GRANTED)
def test_not_granted(permissions, asked):
    assert not Grants(permissions).contain(asked)
    assert Grants(permissions).explain(asked) == "missing"


SCOPED = [
    (["data.*"], ["data.read"], "data.read", True),
    (["data.*"], ["data.read"], "data.write", False),
    (["data.read"], ["*"], "data.read", True),
    (["data.read"], ["*"], "data.write", False),
    (["data.read"], ["openid", "profile", "offline_access"], "data.read", True),
    (["data.read"], ["openid", "other"], "data.read", False),
    (["data.read"], [], "data.read", True),
]


@pytest.mark.parametrize(("permissions", "scopes", "asked", "granted"), SCOPED)
def test_scopes_limit_what_permissions_grant(permissions, scopes, asked, granted):
    assert Grants(permissions, scopes).contain(asked) is granted


def test_it_is_explained_in_words():
    grants = Grants(["data.*", "x"], ["data.read"])
    assert grants.explain("data.read") == "granted by data.*, scope data.read"
    assert grants.explain("data.write") == "granted by data.*, but no scope allows it"
    assert grants.explain("y") == "missing"


words = st.text("ab.:*", max_size=6)


@given(st.lists(words, max_size=4), words)
def test_it_grants_what_the_rule_says(permissions, asked):
    """The rule, written once more and slowly."""
    asked_parts = asked.replace(":", ".").split(".")

    def grants(permission):
        parts = permission.replace(":", ".").split(".")
        if parts == ["*"] or parts == asked_parts:
            return True
        return (
            len(parts) > 1
            and parts[-1] == "*"
            and asked_parts[: len(parts) - 1] == parts[:-1]
            and (len(asked_parts) >= len(parts))
        )

    assert Grants(permissions).contain(asked) == any(grants(permission) for permission in permissions)


@pytest.mark.parametrize(
    ("permission", "parts"),
    [
        ("data.read", ("data", "read")),
        ("data:read", ("data", "read")),
        ("a.b.c", ("a.b", "c")),
        ("a:b.c", ("a:b", "c")),
        ("a.b:c", ("a.b", "c")),
        ("admin", ("admin", "")),
        ("data.", ("data", "")),
        (".read", ("", "read")),
        ("", ("", "")),
    ],
)
def test_resource_and_action(permission, parts):
    assert split_permission(permission) == parts


@pytest.mark.parametrize("permission", ["data.read", "data:read", "a.b.c", "admin"])
def test_the_base_class_decides_by_the_built_in_rule(permission):
    user = {"permissions": [permission], "scopes": []}
    assert AuthProvider().authorize(user, *split_permission(permission)) is True
    assert AuthProvider().authorize({"permissions": "other more"}, *split_permission(permission)) is False
    assert AuthProvider().authorize({}, *split_permission(permission)) is False


# What callers see


async def listed(started, token):
    view = await started.nexus.view(started.invocation("", token))
    return [workflow.name for workflow in await view.workflows()]


async def test_the_list_shows_what_a_caller_may_run(platform):
    started = await platform(jwt_secret=SECRET)
    for name, required in {"both": ["data.read", "data.write"], "admin": ["admin"]}.items():
        started.nexus.register(name, lambda: 1, {"required_permissions": required})
    for permissions, expected in {
        (): ["whoami"],
        ("data.read",): ["read", "whoami"],
        ("data.*",): ["both", "read", "whoami", "write"],
        ("*",): ["admin", "both", "read", "whoami", "write"],
    }.items():
        token = secret_token(permissions=list(permissions))
        assert await listed(started, token) == expected
        view = await started.nexus.view(started.invocation("", token))
        for name in started.nexus.list_workflows():
            if name in expected:
                assert (await view.workflow(name)).name == name
            else:
                with pytest.raises(WorkflowNotFound) as raised:
                    await view.workflow(name)
                assert 'Did you mean "admin"' not in raised.value.message
                assert isinstance(await started.call(name, token), PermissionDenied)


async def test_a_workflow_needs_every_permission_and_the_error_names_those_that_are_missing(platform):
    started = await platform(jwt_secret=SECRET)
    started.nexus.register("both", lambda: 1, {"required_permissions": ["data.read", "data.write", "z"]})
    denied = await started.call("both", secret_token(permissions=["data.write"]))
    assert denied.details == {"missing_permissions": ["data.read", "z"]}


async def test_permissions_that_change_hold_for_the_next_call(platform):
    started = await platform(jwt_secret=SECRET)
    token = secret_token(permissions=["data.read"])
    assert await started.call("read", token) == "data"
    started.nexus.register("read", lambda: "data", {"required_permissions": ["data.more"]}, replace=True)
    assert isinstance(await started.call("read", token), PermissionDenied)


async def test_a_principal_of_code_needs_permissions_too(platform):
    started = await platform(jwt_secret=SECRET)
    assert isinstance(await started.call("read", principal=Principal("x")), PermissionDenied)
    assert await started.call("read", principal=Principal("x", frozenset({"data.read"}))) == "data"


async def test_many_callers_at_a_time_are_not_taken_for_each_other(platform):
    started = await platform(jwt_secret=SECRET, max_concurrent_workflows=1000)
    tokens = {f"user-{number}": secret_token(sub=f"user-{number}", permissions=[]) for number in range(60)}
    users = list(tokens) * 5
    assert await asyncio.gather(*(started.user(tokens[user]) for user in users)) == users
