"""Explains an authorization decision: the caller, the rules, what grants each permission, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nexus_auth.rejection import Rejected, Unavailable
from nexus_core.errors import AuthenticationError, BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nexus_auth.credential_cache import VerifiedCredential
    from nexus_core import Platform
    from nexus_core.pipeline.authorization import Authorizer
    from nexus_core.types.principal import Principal

    Verify = Callable[[str], Awaitable[tuple[str, VerifiedCredential]]]


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about one permission.

    Attributes:
        permission: The permission.
        granted: Whether every rule grants it.
        why: The reason, in words.
    """

    permission: str
    granted: bool
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a caller may run a workflow, or may not.

    Attributes:
        workflow: The workflow.
        allowed: Whether the caller may run it.
        identity: How the caller was authenticated, or why it was not, in words.
        principal: The caller, if authenticated.
        rules: The rules that decide.
        decisions: The decision about each permission that the workflow requires.
    """

    workflow: str
    allowed: bool
    identity: str
    principal: Principal | None = None
    rules: Sequence[str] = ()
    decisions: Sequence[Decision] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON members."""
        return {
            "workflow": self.workflow,
            "allowed": self.allowed,
            "identity": self.identity,
            "principal": None if self.principal is None else _public(self.principal),
            "rules": list(self.rules),
            "permissions": [
                {"permission": each.permission, "granted": each.granted, "why": each.why} for each in self.decisions
            ],
            "missing_permissions": [each.permission for each in self.decisions if not each.granted],
        }

    def lines(self) -> list[str]:
        """Return it as lines of text."""
        found = [f"identity: {self.identity}"]
        if self.principal is not None:
            found += [f"{name}: {_words(value)}" for name, value in _public(self.principal).items()]
        found += [f"rule: {rule}" for rule in self.rules]
        found += [f"{'yes' if each.granted else 'NO '}  {each.permission}: {each.why}" for each in self.decisions]
        verdict = "may" if self.allowed else "may not"
        return [*found, f"This caller {verdict} run {self.workflow}."]


async def explain(platform: Platform, verify: Verify | None, caller: str | Principal, workflow: str) -> Explanation:
    """Explain whether a caller may run a workflow of a started platform.

    Args:
        platform: The platform.
        verify: Verifies a credential; None where authentication is off.
        caller: A credential, as on the command line; or the principal.
        workflow: The workflow's name.

    Raises:
        WorkflowNotFound: There is no workflow of that name.
        BackendUnavailable: The credential can't be verified now.
    """
    required = platform.workflows.get(workflow).required_permissions
    if verify is None:
        return Explanation(workflow, True, "authentication is off: enable_auth is not set")
    if not isinstance(caller, str):
        principal, identity = caller, "given by the options of this command"
    else:
        try:
            method, verified = await verify(caller if " " in caller else f"Bearer {caller}")
        except Unavailable as exc:
            raise BackendUnavailable(f"The credential can't be verified: {exc}.") from None
        except (Rejected, AuthenticationError) as exc:
            return Explanation(workflow, False, f"the credential is rejected: {exc}")
        principal, identity = verified.principal, f"the credential is accepted ({method})"
    rules, decisions = await _decided(platform, principal, required)
    return Explanation(workflow, all(each.granted for each in decisions), identity, principal, rules, decisions)


async def _decided(
    platform: Platform, principal: Principal, required: frozenset[str]
) -> tuple[list[str], list[Decision]]:
    """Return the rules, and the decision about each permission. All rules must grant it."""
    if not required:
        return ["the workflow requires no permission"], []
    rules: list[str] = []
    answers: dict[str, list[tuple[bool, str]]] = {permission: [] for permission in sorted(required)}
    for plugin, authorizer in platform.plugins.collect("nexus_register_authorizers"):
        rules.append(getattr(authorizer, "rule", f"the plugin {plugin} decides"))
        granted = await authorizer.granted(principal, required)
        for permission, found in answers.items():
            found.append((permission in granted, _explained(plugin, authorizer, principal, permission, granted)))
    return rules, [
        Decision(permission, all(yes for yes, _ in found), "; ".join(why for _, why in found))
        for permission, found in answers.items()
    ]


def _explained(plugin: str, authorizer: Authorizer, principal: Principal, permission: str, granted: Any) -> str:
    explanation = getattr(authorizer, "explain", None)
    if explanation is not None:
        return str(explanation(principal, permission, permission in granted))
    return f"{plugin}: {'granted' if permission in granted else 'not granted'}"


def _public(principal: Principal) -> dict[str, Any]:
    return {
        "user_id": principal.user_id,
        "tenant_id": principal.tenant_id,
        "permissions": sorted(principal.permissions),
        "scopes": sorted(principal.scopes),
    }


def _words(value: Any) -> str:
    return (", ".join(value) or "none") if isinstance(value, list) else str(value or "none")
