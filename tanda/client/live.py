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


class Positions:
    """One connection's frames, by whole positions: of several events at one, only the last has it as id.

    A position that a lost connection left half is told again as a whole, so nothing of it is given before.
    """

    def __init__(self) -> None:
        self._begun: list[tuple[str, Any]] = []

    def take(self, name: str, frame_id: str, data: Any) -> list[LiveEvent]:
        """The events that are whole with this frame; ``frame_id`` is the last one seen."""
        position = int(frame_id) if frame_id else None
        self._begun.append((name, data))
        if data.get("seq", position) != position:
            return []
        events = [LiveEvent(one, position, told) for one, told in self._begun]
        self._begun.clear()
        return events


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
                positions = Positions()
                for frame in httpx2.EventSource(response):
                    for event in positions.take(frame.event, frame.id, frame.json()):
                        after = after if event.id is None else event.id
                        yield event
        except TandaProblem as problem:
            if problem.status < 500:
                raise
        except httpx2.TransportError:
            pass
        time.sleep(RECONNECT_WAIT_S)
