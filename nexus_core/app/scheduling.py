"""``@nexus.schedule``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from nexus_core.errors import ConfigurationError
from nexus_core.options import first_party
from nexus_core.workflows.schedule import CATCH_UPS, OVERLAPS, CatchUp, Overlap, Schedule

if TYPE_CHECKING:
    from nexus_core.app.state import PlatformState

Function = TypeVar("Function", bound=Callable[..., Any])

_NEED = "schedules"


class Scheduling:
    """The part of `Nexus` that takes schedules.

    Attributes:
        starts_schedules: Whether scheduled runs are started while it is started. Commands that start the platform for a
            moment set it to False.
    """

    starts_schedules = True
    _state: PlatformState

    @property
    def schedules(self) -> Sequence[Schedule]:
        """The declared schedules."""
        return tuple(self._state.schedules)

    @overload
    def schedule(
        self, expression: str, *, timezone: str = "UTC", overlap: Overlap = "skip", catch_up: CatchUp = "last",
        name: str | None = None, workflow: None = None, params: Mapping[str, Any] | None = None,
        permissions: Collection[str] = (),
    ) -> Callable[[Function], Function]: ...  # fmt: skip
    @overload
    def schedule(
        self, expression: str, *, timezone: str = "UTC", overlap: Overlap = "skip", catch_up: CatchUp = "last",
        name: str | None = None, workflow: str, params: Mapping[str, Any] | None = None,
        permissions: Collection[str] = (),
    ) -> None: ...  # fmt: skip
    def schedule(
        self,
        expression: str,
        *,
        timezone: str = "UTC",
        overlap: Overlap = "skip",
        catch_up: CatchUp = "last",
        name: str | None = None,
        workflow: str | None = None,
        params: Mapping[str, Any] | None = None,
        permissions: Collection[str] = (),
    ) -> Any:
        """Start a workflow at given times: above or below ``@nexus.workflow``, or as a call with ``workflow``.

        Takes effect at the next start. The plugin "schedules" starts the runs; without it the start is refused.

        Args:
            expression: Five fields of cron: minute, hour, day of month, month, day of week.
            timezone: The zone in which they count, such as ``Europe/Zurich``.
            overlap: What becomes of a time at which the run before has not ended: ``skip`` leaves it out, ``queue``
                starts it afterwards, ``cancel`` cancels the run before.
            catch_up: Which missed times are made up for, when no process ran: the ``last``, ``all`` (at most 100) or
                ``none``.
            name: The schedule's name. Default: that of its workflow.
            workflow: The name of the workflow, where the schedule decorates nothing.
            params: The parameters of each run.
            permissions: What the runs may do where authentication is on; nothing else.

        Raises:
            ConfigurationError: An argument is wrong. A wrong expression or zone is found at the start.
        """
        for option, value, known in (("overlap", overlap, OVERLAPS), ("catch_up", catch_up, CATCH_UPS)):
            if value not in known:
                raise ConfigurationError(f"nexus.schedule: {option} must be {', '.join(known)}, not {value!r}.")
        if not isinstance(expression, str):
            raise ConfigurationError('@nexus.schedule needs its times: @nexus.schedule("0 6 * * 1-5").')
        if isinstance(permissions, str):
            raise ConfigurationError("nexus.schedule: permissions must be a list of names.")

        def declare(function: Callable[..., Any] | None) -> None:
            self._state.schedules.append(
                Schedule(
                    expression,
                    timezone,
                    overlap,
                    catch_up,
                    name,
                    workflow,
                    function,
                    dict(params or {}),
                    frozenset(permissions),
                )
            )

        if workflow is not None:
            declare(None)
            return None

        def decorate(target: Callable[..., Any]) -> Callable[..., Any]:
            declare(target)
            return target

        return decorate


def refuse_unscheduled(state: PlatformState) -> None:
    """Make sure that something starts the runs of the declared schedules.

    Raises:
        ConfigurationError: The plugin is not active.
    """
    if not state.schedules:
        return
    models = state.plugins.collect("nexus_register_settings")
    if any(_NEED in getattr(model, "provides", ()) for _, model in models):
        return
    plugin, cure = first_party.provider(_NEED)[0], first_party.hint(_NEED)
    if (reason := state.plugins.inactive().get(plugin)) is not None:
        cure = f"it is not active: {reason}"
    raise ConfigurationError(f'nexus.schedule needs the plugin "{plugin}": {cure}')
