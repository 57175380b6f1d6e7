"""Many live clients as one process: ``python -m bench.live.crowd HOST PORT TENANT CLIENTS``.

It says ``{"ready": n}`` once all have their snapshot, and after every line on its stdin what it has seen by
then: of each event the moment when the last client had it (the clock is the machine's), snapshots, lost ones.
"""

import asyncio
import json
import resource
import sys
import time

import uvloop

EVENT = b"event: FileQueued"
SNAPSHOT = b"event: snapshot"
#: Connections that are being made at once.
OPENING = 100
STEP_S = 600


class Crowd:
    def __init__(self, clients: int) -> None:
        self.clients = clients
        self.ready = asyncio.Event()
        self.snapshots = self.lost = 0
        self.told: list[int] = []
        self.last: list[float] = []

    def event(self, number: int) -> None:
        """A client has seen so many."""
        if number > len(self.told):
            self.told.append(0)
            self.last.append(0.0)
        self.told[number - 1] += 1
        if self.told[number - 1] == self.clients:
            self.last[number - 1] = time.perf_counter()

    def report(self) -> None:
        said = {"last": self.last, "snapshots": self.snapshots, "lost": self.lost}
        print(json.dumps(said), flush=True)


class Client(asyncio.Protocol):
    """Reads frames only as far as it must; a word may be cut by the end of a read."""

    def __init__(self, crowd: Crowd, request: bytes) -> None:
        self._crowd = crowd
        self._request = request
        self._rest = b""
        self._events = 0
        self.open = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's
        transport.write(self._request)  # pyright: ignore[reportAttributeAccessIssue]

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        self._rest = data[-(len(EVENT) - 1) :]
        if found := data.count(SNAPSHOT) - self._rest.count(SNAPSHOT):
            self._crowd.snapshots += found
            if not self.open.done():
                self.open.set_result(None)
        for _ in range(data.count(EVENT)):
            self._events += 1
            self._crowd.event(self._events)

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.lost += 1
        if not self.open.done():
            self.open.set_exception(exc or ConnectionError("ended before its snapshot"))


async def main(host: str, port: int, tenant: str, clients: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(clients)
    loop = asyncio.get_running_loop()
    request = f"GET /v1/events HTTP/1.1\r\nHost: {host}:{port}\r\nTanda-Tenant: {tenant}\r\n\r\n".encode()
    opening = asyncio.Semaphore(OPENING)

    async def one() -> None:
        async with opening:
            _, client = await loop.create_connection(lambda: Client(crowd, request), host, port)
            async with asyncio.timeout(STEP_S):
                await client.open

    await asyncio.gather(*(one() for _ in range(clients)))
    print(json.dumps({"ready": clients}), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        crowd.report()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
