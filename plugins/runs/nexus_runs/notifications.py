"""What processes tell each other through PostgreSQL: that runs have changed, or are to be cancelled."""

from __future__ import annotations

NOTIFIED_BYTES = 7000
"""Bytes of run ids in one notification; PostgreSQL takes 8000."""

NOTIFY = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload"
"""Sends notifications on a channel."""


def payloads(head: str, run_ids: list[str]) -> list[str]:
    """Return notifications that name runs; a star stands for any."""
    payloads, size = [head], 0
    for run_id in run_ids:
        own = len(run_id.encode()) + 1
        if own > NOTIFIED_BYTES:
            return [f"{head}\n*"]
        if size + own > NOTIFIED_BYTES:
            payloads.append(head)
            size = 0
        payloads[-1] += f"\n{run_id}"
        size += own
    return payloads
