"""Explains a decision: who a caller is, which rule decides, what grants each permission, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nexus_auth.refusal import Refused, Unavailable
from nexus_auth.settings import AuthSettings
from nexus_core.errors import AuthenticationError, BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core.app.nexus import Nexus
    from nexus_core.pipeline.authorization import Authorizer
    from nexus_core.types.principal import Principal


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one permission.

    Attributes:
        permission: The permission.
        granted: Whether every rule grants it.
        why: In words.
    """

    permission: str
    granted: bool
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a caller may run a workflow, or may not.

    Attributes:
        workflow: The workflow.
        allowed: Whether it may.
        identity: In words: how it is known who calls, or why it is not.
        principal: Who calls, where that is known.
        rules: Which rules decide.
        decisions: What they say to each permission that the workflow requires.
    """

    workflow: str
    allowed: bool
    identity: str
    principal: Principal | None = None
    rules: Sequence[str] = ()
    decisions: Sequence[Decision] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it for programs."""
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
        """Return it for people."""
        found = [f"identity: {self.identity}"]
        if self.principal is not None:
            found += [f"{name}: {_words(value)}" for name, value in _public(self.principal).items()]
        found += [f"rule: {rule}" for rule in self.rules]
        found += [f"{'yes' if each.granted else 'NO '}  {each.permission}: {each.why}" for each in self.decisions]
        verdict = "may" if self.allowed else "may not"
        return [*found, f"This caller {verdict} run {self.workflow}."]


async def explain(nexus: Nexus, caller: str | Principal, workflow: str) -> Explanation:
    """Explain whether a caller may run a workflow of a platform that is started.

    Args:
        nexus: The platform.
        caller: A credential, as on the command line; or who calls.
        workflow: The workflow's name.

    Raises:
        WorkflowNotFound: There is none of that name.
        BackendUnavailable: Who would know whether the credential is good does not answer.
    """
    required = nexus.workflows.get(workflow).required_permissions
    settings = nexus.settings(AuthSettings)
    if not settings.enable_auth:
        return Explanation(workflow, True, "nobody is asked: enable_auth is off")
    if not isinstance(caller, str):
        principal, identity = caller, "as the options of this command say"
    else:
        try:
            method, verified = await settings.gate.verified(caller if " " in caller else f"Bearer {caller}")
        except Unavailable as exc:
            raise BackendUnavailable(f"Whether the credential is good can't be found out: {exc}.") from None
        except (Refused, AuthenticationError) as exc:
            return Explanation(workflow, False, f"the credential is refused: {exc}")
        principal, identity = verified.principal, f"the credential is accepted ({method})"
    rules, decisions = await _decided(nexus, principal, required)
    return Explanation(workflow, all(each.granted for each in decisions), identity, principal, rules, decisions)


async def _decided(nexus: Nexus, principal: Principal, required: frozenset[str]) -> tuple[list[str], list[Decision]]:
    """Ask every rule about every permission. All must agree."""
    if not required:
        return ["the workflow requires no permission"], []
    rules: list[str] = []
    answers: dict[str, list[tuple[bool, str]]] = {permission: [] for permission in sorted(required)}
    for plugin, authorizer in nexus.plugins.collect("nexus_register_authorizers"):
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
