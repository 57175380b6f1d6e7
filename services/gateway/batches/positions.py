"""How far the views have come: told by the projector's announcements, asked for where they are silent."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import structlog

from services.gateway.problems import Busy
from tanda.ports import AsOf, Signals, Views

#: Announcements may be lost; a waiting reader looks for itself this often.
POLL_S = 0.25
WAIT_S_MAX = 30.0
RESTART_S = 1.0

T = TypeVar("T")

log = structlog.get_logger(__name__)


class ViewPositions:
    """Lets readers wait for the view to have seen what they have written."""

    def __init__(self, views: Views, signals: Signals) -> None:
        self._views = views
        self._signals = signals
        self._moved = asyncio.Event()
        #: The views are at least there; 0 where nobody has said so yet.
        self.known = 0

    async def run(self) -> None:
        """Listens for ever."""
        while True:
            try:
                async for _, seq in self._signals.positions():
                    self._note(seq)
                    self._moved.set()
                    self._moved = asyncio.Event()
            except Exception as error:  # readers go on by polling
                log.warning("Listening for the views' positions broke off.", error=str(error))
            await asyncio.sleep(RESTART_S)

    def _note(self, seq: int) -> None:
        self.known = max(self.known, seq)

    async def now(self) -> int:
        return await self._views.position()

    async def announced(self, seq: int, wait_s: float = POLL_S) -> None:
        """Returns when the views are said to be at a position: then it is worth asking them.

        At once where they have been, where nothing has been heard yet, and after a while in any case.
        """
        if not 0 < self.known < seq:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(wait_s, POLL_S)):
                while self.known < seq:
                    await self._moved.wait()

    async def reached(self, seq: int, wait_s: float) -> int:
        """The views' position once it is at least ``seq``; 503 ``view_behind`` where that takes longer."""

        async def look() -> AsOf[None]:
            return AsOf(await self._views.position(), None)

        return (await self.told(seq, wait_s, look)).seq

    async def told(self, seq: int, wait_s: float, look: Callable[[], Awaitable[AsOf[T]]]) -> AsOf[T]:
        """What the views tell once they are at ``seq``, without another question for where they are."""
        deadline = time.monotonic() + min(wait_s, WAIT_S_MAX)
        await self.announced(seq, wait_s)
        while True:
            moved = self._moved
            told = await look()
            self._note(told.seq)
            left_s = deadline - time.monotonic()
            if told.seq >= seq:
                return told
            if left_s <= 0:
                detail = f"The view is at {told.seq} and not yet at {seq}."
                raise Busy("view_behind", detail, retry_after_s=1)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, POLL_S)):
                    await moved.wait()
