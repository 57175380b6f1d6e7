"""Threads for a blocking client library, which never hold up the end of the process.

The standard library's executor joins its threads at exit, so that one request to a server that hangs
would keep a stopped service alive for the length of its timeout.
"""

import asyncio
import queue
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
#: A call, and the loop and future that wait for its outcome, where anybody does.
_Job: TypeAlias = tuple[Callable[[], Any], "tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]] | None"]


class DaemonPool:
    """Runs blocking calls in at most ``threads_max`` daemon threads, started as they are needed."""

    def __init__(self, name: str, threads_max: int) -> None:
        self._name = name
        self._threads_max = threads_max
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._started = 0
        self._busy = 0
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """The call's result or exception. Cancelled while it runs, the call itself still ends."""
        if self._closed:
            raise RuntimeError(f"the pool {self._name} is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._busy += 1
        if self._busy > self._started and self._started < self._threads_max:
            self._started += 1
            Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        self._jobs.put((call, (loop, future)))
        try:
            return await future
        finally:
            self._busy -= 1

    def submit(self, call: Callable[[], Any]) -> None:
        """Runs a call that nobody waits for; its exception is nobody's either."""
        self._jobs.put((call, None))

    def close(self) -> None:
        """Ends the threads once they are idle; what runs is left to itself."""
        self._closed = True
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, waiting = job
            if waiting is not None and waiting[1].cancelled():
                continue
            result: Any = None
            error: BaseException | None = None
            try:
                result = call()
            except BaseException as raised:
                error = raised
            if waiting is not None:
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    waiting[0].call_soon_threadsafe(_settle, waiting[1], result, error)
            del job, call, waiting, result, error


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
