"""`EventHandler`: reacts to what happens on every channel, and may reword the errors that callers get."""

from __future__ import annotations

import logging
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from nexus_core.concurrency.threads import overridden
from nexus_core.errors import ConfigurationError
from nexus_core.events.event import (
    SESSION_NOTIFICATION,
    WORKFLOW_COMPLETED,
    WORKFLOW_FAILED,
    WORKFLOW_STARTED,
    ChannelEvent,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.types.measurement import Collector

METHODS = {
    WORKFLOW_STARTED: "handle_workflow_start",
    WORKFLOW_COMPLETED: "handle_workflow_complete",
    WORKFLOW_FAILED: "handle_error",
}
"""The method that takes each type of event; `EventHandler.handle_event` takes every other."""


CALLS = "event_handler_calls_total"
DURATION = "event_handler_workflow_seconds"
"""The metrics that handlers' helpers count in, where metrics are on."""


class Publisher(Protocol):
    """What a handler uses of the `Nexus` that it is registered with."""

    def publish(self, event: ChannelEvent) -> None:
        """Number an event and pass it to handlers and followers."""

    def find_metrics_collector(self) -> Collector | None:
        """Return the collector of metrics, or None where metrics are off."""


class EventHandler:
    """Subclass it, and override what you want to react to; then ``nexus.register_event_handler(Handler())``.

    Events come one after the other, in their order, apart from the calls they are about. Methods may be async; sync
    ones run in a thread, because they may block. What raises is logged.
    """

    _nexus: Publisher | None = None

    @cached_property
    def logger(self) -> logging.Logger:
        """For the handler's own records."""
        return logging.getLogger(f"nexus.events.{type(self).__name__}")

    @cached_property
    def calls(self) -> Counter[tuple[str, str]]:
        """How often the helpers below were told of a workflow, by channel and workflow."""
        return Counter()

    @cached_property
    def durations(self) -> dict[str, tuple[int, float]]:
        """What `update_workflow_metrics` was told: for each workflow how often, and the seconds together."""
        return {}

    def handle_workflow_start(self, event: ChannelEvent) -> Any:
        """A run has begun."""

    def handle_workflow_complete(self, event: ChannelEvent) -> Any:
        """A run has ended with ``event.result``, after ``event.duration`` seconds."""

    def handle_error(self, event: ChannelEvent) -> Any:
        """A call was refused, or its run has failed, with ``event.error``.

        What it returns, unless that is None, takes the place of the error in its caller's answer: the JSON body on the
        API, the text of the tool's result on MCP, and on the command line the exit code if it is a number, else the
        text. Status and headers stay as they are. Callers wait for it for a second, and not at all while the handler
        is that far behind.
        """

    def handle_event(self, event: ChannelEvent) -> Any:
        """Something else has happened; ``event.type`` says what."""

    def notify_sessions(self, message: str, about: ChannelEvent | None = None) -> None:
        """Send everybody who follows events a message, on every channel.

        Args:
            message: The message, for people.
            about: An event: only the caller that it concerns gets the message, under that event's session.
        """
        if self._nexus is None:
            raise ConfigurationError("notify_sessions: the handler is not registered; see register_event_handler.")
        session_id, owner = (about.session_id, about.owner) if about else (None, None)
        event = ChannelEvent(SESSION_NOTIFICATION, session_id=session_id, owner=owner, is_public=about is None)
        event.data = {"message": str(message)}
        self._nexus.publish(event)

    def record_api_metric(self, event: ChannelEvent) -> None:
        """Count a call through the API."""
        self._count("api", event)

    def log_cli_usage(self, event: ChannelEvent) -> None:
        """Count a call from the command line, and log it."""
        self._count("cli", event)
        self.logger.info(
            "%s was run on the command line by %s", event.workflow_name, event.user_id or "an anonymous caller"
        )

    def track_ai_interaction(self, event: ChannelEvent) -> None:
        """Count a call through MCP."""
        self._count("mcp", event)

    def update_workflow_metrics(self, workflow_name: str, duration: float | None) -> None:
        """Note how long a run of a workflow took.

        Args:
            workflow_name: The workflow.
            duration: Seconds.
        """
        count, seconds = self.durations.get(workflow_name, (0, 0.0))
        self.durations[workflow_name] = count + 1, seconds + (duration or 0.0)
        if (collector := self._collector()) is not None:
            collector.record_histogram(DURATION, duration or 0.0, {"workflow": workflow_name})

    def _count(self, channel: str, event: ChannelEvent) -> None:
        self.calls[channel, event.workflow_name] += 1
        if (collector := self._collector()) is not None:
            collector.increment_counter(CALLS, {"channel": channel, "workflow": event.workflow_name})

    def _collector(self) -> Collector | None:
        return None if self._nexus is None else self._nexus.find_metrics_collector()

    def attach(self, nexus: Publisher) -> None:
        """Say whose events it gets. Called when the handler is registered; it belongs to one platform."""
        if self._nexus not in (None, nexus):
            raise ConfigurationError("An event handler belongs to one Nexus: create another one for the second.")
        self._nexus = nexus

    def method_for(self, event: ChannelEvent) -> Callable[[ChannelEvent], Any] | None:
        """Return the method that takes an event; None where the subclass does not override it."""
        name = METHODS.get(event.type, "handle_event")
        return overridden(self, EventHandler, name)

    def __call__(self, event: ChannelEvent) -> Any:
        """Pass an event to its method."""
        method = self.method_for(event)
        return None if method is None else method(event)
