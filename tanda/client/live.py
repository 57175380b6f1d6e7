"""Server-sent events that survive lost connections: each reconnect resumes after the last event seen."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import msgspec

from tanda.client.errors import TandaProblem, raise_for_problem

RECONNECT_WAIT_S = 0.3
#: Three missed pings (every 15 s): the connection is dead, whatever TCP says.
SILENCE_S = 45.0


class LiveEvent(msgspec.Struct, frozen=True):
    """One frame: ``snapshot``, ``drain`` or an event's name; ``id`` is the log position."""

    name: str
    id: int | None
    data: Any


def follow(
    http: httpx2.Client, path: str, params: dict[str, str], after: int | None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[LiveEvent]:  # fmt: skip
    """Events for ever, over as many connections as it takes."""
    while not stopped():
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        try:
            with http.stream(
                "GET", path, params=params, headers=headers, timeout=httpx2.Timeout(10, read=SILENCE_S)
            ) as response:
                raise_for_problem(response)
                for frame in httpx2.EventSource(response):
                    position = int(frame.id) if frame.id else None
                    after = after if position is None else position
                    yield LiveEvent(frame.event, position, frame.json())
        except TandaProblem as problem:
            if problem.status < 500:
                raise
        except httpx2.TransportError:
            pass
        time.sleep(RECONNECT_WAIT_S)
