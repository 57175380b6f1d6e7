"""A live client whose stream has begun: the hub writes into its connection, and no task waits for it.

A client that is slower than its events loses none of the state: what waits for it is bounded, and beyond
that it falls behind. Instead of the events that it missed it gets a snapshot, as it would coming back late,
and goes on from there (``services.gateway.live.laggards``).
"""

import time
from typing import Any, Final, Protocol

from services.gateway.live.chunks import Audience, Chunk, framed

#: A client whose connection takes nothing for so long is left; it comes back and resumes.
SEND_S_MAX: Final = 15.0
PING: Final = framed(b": ping\n\n")
_END: Final = b"0\r\n\r\n"


class Home(Protocol):
    """What a wire needs of its hub."""

    def unsubscribe(self, client: Any) -> None: ...

    def falls_behind(self, wire: "Wire") -> None: ...


class Wire:
    """One client; its methods are called in the loop's thread only."""

    __slots__ = ("_events", "_events_max", "_held", "_home", "_paused_at", "_transport", "_waiting",
                 "audience", "behind", "ended", "seq")  # fmt: skip

    def __init__(self, home: Home, audience: Audience, transport: Any, seq: int, events_max: int) -> None:
        self.audience = audience
        #: The last event that was written, or that a snapshot told of.
        self.seq = seq
        #: Missed events: a snapshot is to come.
        self.behind = False
        self.ended = False
        self._home = home
        self._transport = transport
        self._events_max = events_max
        self._waiting: list[Chunk] = []
        self._events = 0
        self._paused_at: float | None = None
        self._held = False

    # -- from the hub

    def push(self, chunk: Chunk) -> None:
        """Writes events, or lets them wait until the connection takes them."""
        if self.behind or self.ended:
            return
        if self._paused_at is None and not self._held:
            self._write(chunk)
            return
        self._events += chunk.events
        if self._events > self._events_max:
            self.fall_behind()
        else:
            self._waiting.append(chunk)

    def fall_behind(self) -> None:
        """Nothing more until the next snapshot."""
        self._forget_waiting()
        if not self.ended:
            self.behind = True
            self._home.falls_behind(self)

    def ping(self) -> None:
        if self._paused_at is None:
            self._transport.write(PING)
        elif time.monotonic() - self._paused_at > SEND_S_MAX:
            self._transport.abort()

    def end(self) -> None:
        """The last word: the client comes back and resumes."""
        if not self.ended:
            self._transport.write(framed(b"id: %d\nevent: drain\ndata: {}\n\n" % self.seq) + _END)
            self._transport.close()
            self.lost()

    # -- a snapshot in place of what was missed

    @property
    def open(self) -> bool:
        """Whether a snapshot would reach it."""
        return self._paused_at is None and not self.ended

    def hold(self) -> None:
        """A snapshot is being made: what comes from now on waits for it."""
        self.behind, self._held = False, True

    def release(self) -> None:
        """There was none: another time."""
        self._held = False
        self.fall_behind()

    def tell(self, snapshot: bytes, seq: int) -> None:
        """Writes the snapshot, an HTTP chunk, and what came after it."""
        self._held = False
        if self.ended:
            return
        self._transport.write(snapshot)
        self.seq = seq
        if self._paused_at is None:
            self._flush()

    # -- from its connection

    def pause(self) -> None:
        if self._paused_at is None:
            self._paused_at = time.monotonic()

    def resume(self) -> None:
        self._paused_at = None
        if self.behind:
            self._home.falls_behind(self)
        elif not self._held:
            self._flush()

    def lost(self) -> None:
        self.ended = True
        self._forget_waiting()
        self._home.unsubscribe(self)

    # -- inside

    def _flush(self) -> None:
        waiting = self._waiting
        self._forget_waiting()
        for chunk in waiting:
            self.push(chunk)  # the connection may be full again on the way

    def _forget_waiting(self) -> None:
        self._waiting, self._events = [], 0

    def _write(self, chunk: Chunk) -> None:
        if chunk.last > self.seq:
            self._transport.write(chunk.framed if self.seq < chunk.first else framed(chunk.after(self.seq)))
            self.seq = chunk.last
