"""Whether an application is being loaded: a file that starts its platform is then left to its loader."""

from __future__ import annotations

from contextvars import ContextVar

loading: ContextVar[bool] = ContextVar("nexus_application_loading", default=False)


class StartedWhileLoading(BaseException):
    """Ends the import of an application at its own `Nexus.start`: the importer decides what becomes of it.

    Attributes:
        nexus: What was started.
    """

    def __init__(self, nexus: object) -> None:
        super().__init__("an application was started while it was being loaded")
        self.nexus = nexus


def leave_start_to_loader(nexus: object) -> None:
    """Return, unless an application is being loaded: its own start would serve, and never come back.

    Raises:
        StartedWhileLoading: One is being loaded.
    """
    if loading.get():
        raise StartedWhileLoading(nexus)
