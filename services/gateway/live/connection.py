"""HTTP/1.1 as we want it of uvicorn: bounded waits for headers, and streams that outlive their request."""

import asyncio
from typing import Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Request headers have to be complete within this time (slow loris).
HEADERS_S = 10.0
#: Under this name a request's scope has its connection.
CONNECTION: Final = "tanda.connection"


class Listener(Protocol):
    """Who writes into a connection that was handed over."""

    def pause(self) -> None:
        """The connection takes no more for now."""
        ...

    def resume(self) -> None: ...

    def lost(self) -> None: ...


class GatewayProtocol(HttpToolsProtocol):
    """Cuts a connection whose next request does not get through its headers in time.

    A live stream is handed over once it has begun: its request, its task and all that they hold end, and
    the hub writes into the connection. That is a tenth of the memory and of the time.
    """

    _deadline: asyncio.TimerHandle | None = None
    _listener: Listener | None = None

    @property
    def live(self) -> bool:
        """Whether it carries a live stream, which has no end of its own."""
        return self._listener is not None or bool(self.scope and self.scope.get("state", {}).get("live"))

    def hand_over(self, listener: Listener) -> bool:
        """Lets a listener write what follows, in HTTP chunks; False where the client has gone."""
        self.cycle.response_complete = True  # in uvicorn's eyes, which leaves us alone from here on
        if self.transport.is_closing():
            return False
        self._listener = listener
        self.cycle = self.scope = self.headers = self.parser = None  # pyright: ignore[reportAttributeAccessIssue]
        if self.flow.write_paused:
            listener.pause()
        return True

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)
        if self._listener is not None:
            self._listener.lost()

    def data_received(self, data: bytes) -> None:
        if self._listener is None:  # a live client has nothing more to say
            super().data_received(data)

    def on_body(self, body: bytes) -> None:
        """As uvicorn does it, which copies everything twice more."""
        if not self.cycle.body and not self.cycle.response_complete:
            self.cycle.body = body  # pyright: ignore[reportAttributeAccessIssue] - told as bytes anyway
            body = b""
        super().on_body(body)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._listener is not None:
            self._listener.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._listener is not None:
            self._listener.resume()

    def on_message_begin(self) -> None:
        if self._deadline is None:
            self._arm()
        super().on_message_begin()
        scope: Any = self.scope
        scope["extensions"] = {CONNECTION: self}

    def on_headers_complete(self) -> None:
        self._disarm()
        super().on_headers_complete()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(HEADERS_S, self._cut)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
