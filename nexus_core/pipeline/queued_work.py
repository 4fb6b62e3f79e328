"""What a durable call and a workflow say to a `RunEngine`: `Work` and `Offer`, from ``queue_...`` in the metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import jsontext
from nexus_core.pipeline.durable_task import task_of
from nexus_core.runs.work import PRIORITY, Offer, Work
from nexus_core.workflows.queue_keys import CALLER, limits_of

if TYPE_CHECKING:
    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.workflows.workflow import Workflow


def offer_of(workflow: Workflow) -> Offer:
    """Return what a process offers that works on a workflow."""
    return Offer(workflow.code_version, limits_of(workflow.metadata))


def work_of(invocation: Invocation, workflow: Workflow) -> Work:
    """Return the work of a call."""
    metadata, params = workflow.metadata, invocation.validated_params
    named, key = metadata.get("queue_key"), None
    if named == CALLER:
        key = invocation.owner
    elif named is not None and named in params:
        key = jsontext.encode(params[named]).decode()
    priority = metadata.get("queue_priority", PRIORITY)
    return Work(invocation.run.id, task_of(params), workflow.name, invocation.owner, key, priority)
