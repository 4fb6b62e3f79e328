"""Approval of a call: a user has to agree to exactly this call before its workflow runs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import ApprovalDenied, QuestionExpired
from nexus_core.runs.asking import NO_DEFAULT, Plan

if TYPE_CHECKING:
    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.runs.asking import QuestionDesk
    from nexus_core.runs.context import Context
    from nexus_core.workflows.approval import Approval
    from nexus_core.workflows.workflow import Workflow


async def require_approval(
    desk: QuestionDesk, approval: Approval, workflow: Workflow, invocation: Invocation, context: Context
) -> None:
    """Wait for the approval of a call. It holds for this run alone.

    The run's own caller may not approve it, unless it is the one who is asked.

    Raises:
        ApprovalDenied: It was refused, or not given in time.
    """
    parameters = desk.redacted(workflow, invocation.validated_params)
    details: dict[str, Any] = {"parameters": parameters, "digest": digest_of(workflow, invocation)}
    if context.principal is not None:
        details["caller"] = context.principal.user_id
    plan = Plan(
        approval.question or f'May the workflow "{workflow.name}" run with these parameters?', bool, approval.to,
        approval.timeout, NO_DEFAULT, details, None, excludes_owner=approval.to != "caller",
    )  # fmt: skip
    try:
        is_approved = await context.ask_planned(plan)
    except QuestionExpired:
        raise ApprovalDenied(f"The call was not approved within {approval.timeout:g} seconds.") from None
    if not is_approved:
        raise ApprovalDenied("The call was not approved.")


def digest_of(workflow: Workflow, invocation: Invocation) -> str:
    """Return what tells a call from every other one: caller, workflow, version, form and values of the parameters."""
    call = [
        invocation.owner, workflow.name, workflow.metadata.get("version"), workflow.input_schema,
        invocation.validated_params,
    ]  # fmt: skip
    return hashlib.sha256(jsontext.canonical(call)).hexdigest()
