"""Approval of a call: a user has to agree to exactly this call before its workflow runs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import ApprovalDenied, QuestionExpired
from nexus_core.runs.asking import NO_DEFAULT, Plan
from nexus_core.runs.question import QUESTION_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.runs.asking import QuestionDesk
    from nexus_core.runs.context import Context
    from nexus_core.workflows.approval import Approval
    from nexus_core.workflows.workflow import Workflow


_BYTES_OF_SCHEMA = 100
"""Room for the schema of a boolean next to the details."""


async def require_approval(
    desk: QuestionDesk, approval: Approval, workflow: Workflow, invocation: Invocation, context: Context
) -> None:
    """Wait for the approval of a call. It holds for this run alone.

    The run's own caller may not approve it, unless it is the one who is asked.

    Raises:
        ApprovalDenied: It was refused, not given in time, or the parameters are too large to be shown.
    """
    parameters = desk.redacted(workflow, invocation.validated_params)
    details: dict[str, Any] = {"parameters": parameters, "digest": digest_of(workflow, invocation, parameters)}
    if context.principal is not None:
        details["caller"] = context.principal.user_id
    text = approval.question or f'May the workflow "{workflow.name}" run with these parameters?'
    if len(jsontext.encode(details)) > QUESTION_BYTES - _BYTES_OF_SCHEMA:
        raise ApprovalDenied(
            f"The parameters are too large to be shown to who approves: they may have {QUESTION_BYTES} bytes as JSON "
            "text, together with what else is shown."
        )
    plan = Plan(
        text, bool, approval.to, approval.timeout, NO_DEFAULT, details, None, excludes_owner=approval.to != "caller"
    )
    try:
        is_approved = await context.ask_planned(plan)
    except QuestionExpired:
        raise ApprovalDenied(f"The call was not approved within {approval.timeout:g} seconds.") from None
    if not is_approved:
        raise ApprovalDenied("The call was not approved.")


def digest_of(workflow: Workflow, invocation: Invocation, parameters: Mapping[str, Any]) -> str:
    """Return what tells calls apart: caller, workflow, version, form and values of the parameters, as they are shown.

    Of a hidden one it says nothing: who knows the rest could find a short secret by trying.
    """
    call = [
        invocation.owner, workflow.name, workflow.metadata.get("version"), workflow.input_schema, parameters
    ]  # fmt: skip
    return hashlib.sha256(jsontext.canonical(call)).hexdigest()
