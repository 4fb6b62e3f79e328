"""A plugin for tests that knows callers by their tokens: what channels do with callers can be tested without `auth`.

Tests import it as ``callers``.
"""

from __future__ import annotations

from nexus_core import AuthenticationError, Principal, Stage, hookimpl

ALICE, BOB = Principal("alice", frozenset({"data.read"})), Principal("bob")
TOKENS = {"Bearer alice": ALICE, "Bearer bob": BOB}


class Callers:
    """Asks each caller for one of the tokens, and grants what its principal's permissions say."""

    stage = Stage.AUTHENTICATE

    def __init__(self):
        self.asked = []
        self.passed = []

    @hookimpl
    def nexus_register_interceptors(self):
        return [self]

    @hookimpl
    def nexus_register_authorizers(self):
        return [self]

    async def __call__(self, invocation, call_next):
        if invocation.principal is not None:  # found out before: only code of this process can set it
            self.passed.append(invocation)
            return await call_next(invocation)
        self.asked.append(invocation)
        sent = (invocation.credentials or {}).get("authorization")
        if sent not in TOKENS:
            raise AuthenticationError("Who are you?", challenge='Bearer realm="test", origin="{origin}"')
        invocation.principal = TOKENS[sent]
        return await call_next(invocation)

    async def granted(self, principal, permissions):
        return permissions & principal.permissions


def register(nexus):
    """Register a workflow for everybody, one for alice, and one that takes its time."""

    @nexus.workflow
    async def open_to_all(value: int = 1) -> int:
        return value

    @nexus.workflow(required_permissions=["data.read"])
    async def read_data(value: int = 1) -> int:
        return value
