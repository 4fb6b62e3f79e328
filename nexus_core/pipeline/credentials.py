"""What a credential has opened ends with it: `Lease` ends a stream when its caller's credential does.

A call is authenticated when it begins. A stream, a WebSocket, a subscription may go on for days: its server
holds a lease of its caller's credential meanwhile, which works as ``asyncio.timeout`` does:

    with view.lease():
        async for event in follower: ...

When the credential expires, is revoked, or its owner logs out, the block is cancelled and `CredentialEnded` is raised.
"""

from __future__ import annotations

import asyncio
import logging
import time
from math import inf
from typing import TYPE_CHECKING, Self

from nexus_core.concurrency.threads import call_on
from nexus_core.errors import AuthenticationError, CredentialEnded
from nexus_core.pipeline.invocation import Caller
from nexus_core.types.principal import Validity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nexus_core.types.principal import Principal

log = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
"""Seconds after which a credential is checked again of unknown validity."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds between two checks of one credential; an expiry is a date, which a clock that is set must not miss."""

UNKNOWN_SECONDS = 30.0
"""How long a lease goes on while it is unknown whether its credential is still good."""

BATCH = 100
"""Credentials that are checked in one turn of the event loop, when all are."""

EXPIRED = "The credential has expired."
REVOKED = "The credential is no longer valid: it was revoked, or its owner has logged out."
CHANGED = "What the credential's owner may do is less than before, or other."
UNKNOWN = f"Whether the credential is still valid could not be found out for {UNKNOWN_SECONDS:g} seconds."


class CredentialWatch:
    """Watches the credentials that something is open for, each once, however many streams it has.

    Args:
        verify: Authenticates a caller again; raises `AuthenticationError` where its credential is not accepted.
    """

    def __init__(self, verify: Callable[[Caller], Awaitable[None]]) -> None:
        self._verify = verify
        self._watched: dict[object, Watched] = {}

    def __len__(self) -> int:
        """How many credentials are watched."""
        return len(self._watched)

    def lease(self, caller: Caller) -> Lease:
        """Return a lease of the credential that a caller was authenticated with.

        Args:
            caller: The caller, once it is authenticated. A lease never ends without a principal, or where code of
                this process has set it.
        """
        return Lease(self, caller)

    def watched(self, caller: Caller) -> Watched | None:
        """Return what watches a caller's credential; None where it has none."""
        if caller.principal is None or (caller.credentials is None and caller.headers is None):
            return None
        validity = caller.validity or Validity(check_at=time.monotonic() + CHECK_SECONDS)
        key = object() if validity.key is None else validity.key
        found = self._watched.get(key)
        if found is None:
            found = self._watched[key] = Watched(caller, validity, self._verify, lambda: self._watched.pop(key, None))
        return found

    def recheck(self, key: object = None) -> None:
        """Check credentials now, from any thread: one may have been revoked.

        Args:
            key: Its `Validity.key`; None for all of them.
        """
        every = list(self._watched.values()) if key is None else [self._watched[key]] if key in self._watched else []
        if every:
            call_on(every[0].loop, self._wake, every)

    def _wake(self, watched: list[Watched]) -> None:
        for each in watched[:BATCH]:
            each.wake()
        if len(watched) > BATCH:
            asyncio.get_running_loop().call_later(0, self._wake, watched[BATCH:])


class Lease:
    """Cancels the current task's block when a credential ends, and raises `CredentialEnded` in its place."""

    __slots__ = ("_caller", "_cancelling", "_error", "_task", "_watch", "_watched")

    def __init__(self, watch: CredentialWatch, caller: Caller) -> None:
        self._watch = watch
        self._caller = caller
        self._error: CredentialEnded | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._watched = self._watch.watched(self._caller)
        if self._watched is not None:
            task = asyncio.current_task()
            assert task is not None
            self._task, self._cancelling = task, task.cancelling()
            self._watched.add(self)
        return self

    def end(self, error: CredentialEnded) -> None:
        """End the block, if it goes on still."""
        if self._error is None:
            self._error = error
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop watching.

        Raises:
            CredentialEnded: That is why the block was cancelled.
        """
        if self._watched is None:
            return
        self._watched.remove(self)
        if self._error is not None and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._error.copy() from None


class Watched:
    """One credential, watched by a task as long as there are leases of it."""

    def __init__(
        self, caller: Caller, validity: Validity, verify: Callable[[Caller], Awaitable[None]],
        unused: Callable[[], object],
    ) -> None:  # fmt: skip
        self.loop = asyncio.get_running_loop()
        self._caller = _asking(caller)  # not what it has sent, which may be large
        self._owner = caller.owner
        self._principal = caller.principal
        self._validity = validity
        self._end_at = validity.end()
        self._verify = verify
        self._unused = unused
        self._unknown_since: float | None = None
        self._is_due = asyncio.Event()
        self._leases: set[Lease] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, lease: Lease) -> None:
        """Watch for a lease."""
        self._leases.add(lease)
        if self._task is None:
            self._task = self.loop.create_task(self._watch(), name="nexus-credential")

    def remove(self, lease: Lease) -> None:
        """Watch for it no longer."""
        self._leases.discard(lease)
        if not self._leases and self._task is not None:
            self._unused()
            self._task.cancel()
            self._task = None

    def wake(self) -> None:
        """Check the credential now."""
        self._is_due.set()

    async def _watch(self) -> None:
        error = await self._ended()
        self._unused()
        self._task = None
        for lease in list(self._leases):
            lease.end(error)

    async def _ended(self) -> CredentialEnded:
        while True:
            wait = min(self._validity.check_at - time.monotonic(), self._end_at - time.time())
            try:
                async with asyncio.timeout(None if wait == inf else min(max(wait, 0.0), LONGEST_PAUSE)):
                    await self._is_due.wait()
            except TimeoutError:
                pass
            if time.time() >= self._end_at:
                return CredentialEnded(EXPIRED)
            if self._is_due.is_set() or time.monotonic() >= self._validity.check_at:
                self._is_due.clear()
                if (error := await self._checked()) is not None:
                    return error

    async def _checked(self) -> CredentialEnded | None:
        """Check the credential once more. Returns the error where it is good no longer."""
        caller, now = _asking(self._caller), time.monotonic()
        try:
            await self._verify(caller)
        except AuthenticationError:
            return CredentialEnded(REVOKED)
        except Exception as exc:  # nobody knows
            log.debug("A credential can't be checked: %s", exc)
            self._unknown_since = now if self._unknown_since is None else self._unknown_since
            self._validity = self._validity._replace(check_at=now + 1.0)
            return CredentialEnded(UNKNOWN) if now - self._unknown_since >= UNKNOWN_SECONDS else None
        if caller.owner != self._owner:
            return CredentialEnded(REVOKED)
        if self._may_less(caller.principal):
            return CredentialEnded(CHANGED)
        found, self._unknown_since = caller.validity or Validity(check_at=now + CHECK_SECONDS), None
        if found.expires_at != self._validity.expires_at:
            self._end_at = found.end()
        self._validity = found._replace(check_at=max(found.check_at, now + SHORTEST_PAUSE))
        return None

    def _may_less(self, now: Principal | None) -> bool:
        """Whether what is open may show more than it could if it were opened now."""
        before = self._principal
        return before is not None and now is not None and (
            not before.permissions <= now.permissions or before.scopes != now.scopes
        )  # fmt: skip


def _asking(caller: Caller) -> Caller:
    """Return the caller as it was before authentication."""
    return Caller(
        caller.channel, caller.credentials, client_address=caller.client_address, headers=caller.headers,
        query=caller.query,
    )  # fmt: skip
