"""The live stream over a real socket: a snapshot, then every event once and in order, whatever breaks."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.gateway.batches.accept import Accept
from services.gateway.deps import now_ms
from services.gateway.live.capacity import FILES_RESERVED
from services.gateway.live.wire import Wire
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.envelope import NewEvent, Origin, new_event
from tanda.contracts.results import BlobRef
from tanda.contracts.subjects import file_subject
from tests.integration.gateway.stand import Stand, parts, settings_in, xml


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    settings = settings_in(
        tmp_path, sse_ping_s=0.1, sse_queue_events_max=50, sse_resume_events_max=100, min_seq_wait_s=0.3
    )
    async with Stand(settings).running() as stand:
        yield stand


@pytest.fixture
async def http(stand: Stand) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=stand.url, timeout=10) as client:
        yield client


class Frames:
    """A stream's frames as ``(name, id, data)``; comments under the name ``:``."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._blocks = self._read()

    async def _read(self) -> AsyncIterator[tuple[str, int | None, Any]]:
        fields: dict[str, str] = {}
        async for line in self.response.aiter_lines():
            if line.startswith(":"):
                yield (":", None, line)
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield fields["event"], int(fields["id"]), json.loads(fields["data"])
                fields = {}

    async def next(self) -> tuple[str, int | None, Any]:
        """The next frame that is no comment."""
        while True:
            frame = await asyncio.wait_for(anext(self._blocks), 5)
            if frame[0] != ":":
                return frame

    async def ping(self) -> None:
        while (await asyncio.wait_for(anext(self._blocks), 5))[2] != ": ping":
            pass


@asynccontextmanager
async def live(http: httpx2.AsyncClient, **more: Any) -> AsyncIterator[Frames]:
    async with http.stream("GET", more.pop("path", "/v1/events"), **more) as response:
        assert response.status_code == 200, await response.aread()
        yield Frames(response)


async def new_batch(http: httpx2.AsyncClient, number: int = 1, **headers: str) -> dict[str, Any]:
    response = await http.post("/v1/batches", files=parts(("a.xml", xml(number))), headers=headers)
    assert response.status_code == 201
    return response.json()


async def test_a_stream_begins_with_a_snapshot_and_goes_on_live(http: httpx2.AsyncClient) -> None:
    """The active batches first, then events in log order, as CloudEvents under their names."""
    before = await new_batch(http)
    async with live(http) as frames:
        assert frames.response.headers["x-accel-buffering"] == "no"
        assert frames.response.headers["cache-control"] == "no-cache, no-transform"
        name, seq, data = await frames.next()
        assert (name, seq, [one["id"] for one in data["batches"]]) == ("snapshot", 3, [before["id"]])
        await frames.ping()
        await new_batch(http, 2)
        got = [await frames.next() for _ in range(3)]
    assert [(name, seq) for name, seq, _ in got] == [
        ("BatchCreated", 4), ("FileQueued", 5), ("BatchSealed", 6),
    ]  # fmt: skip
    assert got[1][2]["type"] == "tanda.FileQueued.v1" and got[1][2]["seq"] == 5
    assert got[1][2]["data"]["name"] == "a.xml"


async def test_one_batch_alone(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Its snapshot and its events, also where the view does not know it yet, and nobody else's."""
    await new_batch(http)
    stand.views.held = True
    mine = await new_batch(http, 2)
    async with live(http, params={"batch": mine["id"]}) as frames:
        name, _, data = await frames.next()
        assert (name, data["batch"]["id"], data["batch"]["counts"]["total"]) == ("snapshot", mine["id"], 1)
        await new_batch(http, 3)
        await http.post(f"{mine['urls']['self']}/cancel")
        seen = [await frames.next()]
        while seen[-1][0] != "BatchCancelled":
            seen.append(await frames.next())
    assert {data["batchid"] for _, _, data in seen} == {mine["id"]}
    unknown = await http.get("/v1/events", params={"batch": "bat_01M7YBFJQ3PKAQCAMRHQBYR6V4"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "batch_not_found")


async def test_a_tenant_sees_its_own_events_only(http: httpx2.AsyncClient) -> None:
    """Another's batch passes by unseen."""
    async with live(http, headers={"Tanda-Tenant": "acme"}) as frames:
        assert (await frames.next())[2]["batches"] == []
        await new_batch(http)
        mine = await new_batch(http, 2, **{"Tanda-Tenant": "acme"})
        assert (await frames.next())[2]["batchid"] == mine["id"]


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_resumed_stream_has_no_gap_and_no_repeat(http: httpx2.AsyncClient, by_header: bool) -> None:
    """While events keep coming, the connection is dropped after every few frames."""
    await new_batch(http)
    writing = asyncio.create_task(_write(http, 25))
    seen: list[int] = []
    after = 0
    while len(seen) < 75 + 3:
        asked: dict[str, Any] = (
            {"headers": {"Last-Event-ID": str(after)}} if by_header else {"params": {"after": after}}
        )
        async with live(http, **asked) as frames:
            for _ in range(7):
                name, seq, _ = await frames.next()
                assert name != "snapshot" and seq is not None
                seen.append(seq)
                after = seq
                if len(seen) == 78:
                    break
    await writing
    assert seen == list(range(1, 79))


async def _write(http: httpx2.AsyncClient, batches: int) -> None:
    for number in range(batches):
        await new_batch(http, number)


async def test_a_client_too_far_behind_gets_a_fresh_snapshot(http: httpx2.AsyncClient) -> None:
    """Instead of every event since; so does one that names a position of another log."""
    await _write(http, 40)
    for after in (1, 10**9):
        async with live(http, params={"after": after}) as frames:
            assert (await frames.next())[0] == "snapshot"
    async with live(http, params={"after": 100}) as frames:
        assert (await frames.next())[1] == 101


async def test_a_slow_client_is_sent_away_and_resumes(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Its queue is bounded; it comes back with what it saw last and misses nothing."""
    hub = stand.app.state.gateway.hub
    subscription = hub.subscribe(("default", None))
    await _write(http, 20)
    async with asyncio.timeout(5):
        while not subscription.ended:
            await asyncio.sleep(0.01)
    first = await subscription.take(0)
    assert 0 < sum(chunk.events for chunk in first) <= 50
    hub.unsubscribe(subscription)
    assert hub.clients == 0


async def test_a_client_that_cannot_follow_gets_a_snapshot_and_goes_on(
    stand: Stand, http: httpx2.AsyncClient
) -> None:
    """Its connection is full and more waits than may: the state is told in place of what it missed."""
    batch, number = await new_batch(http), 0
    with socket.create_connection(("127.0.0.1", int(stand.url.rpartition(":")[2]))) as stalled:
        stalled.sendall(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        hub = stand.app.state.gateway.hub
        async with asyncio.timeout(20):
            while not hub.clients:
                await asyncio.sleep(0.01)
            while not any(one.behind for one in wires(stand)):
                await stand.log.append([heavy(batch["id"], number) for number in range(number, number + 10)])
                number += 10
                await asyncio.sleep(0.01)
            assert hub.clients == 1, "it is kept"
            frames = RawFrames(stalled)
            seen = [await frames.id_of(b"snapshot")]
            while (found := await frames.next())[0] != b"snapshot":
                seen.append(found[1])
            assert seen == list(range(seen[0], seen[0] + len(seen))), "no gap up to where it fell behind"
            assert found[1] > seen[-1]
            at = found[1]
            while at < await stand.log.position():
                name, following = await frames.next()
                assert following == at + 1 or (name == b"snapshot" and following > at)
                at = following


async def test_more_than_there_is_time_for_is_told_as_a_snapshot(
    stand: Stand, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody gets the events one by one then, and everybody the state that they lead to."""
    monkeypatch.setattr("services.gateway.live.hub.HAND_OUT_S_MAX", 0.0)
    monkeypatch.setattr("services.gateway.live.laggards.EVERY_S", 0.01)
    async with live(http) as frames, live(http) as others:
        await frames.next(), await others.next()
        batch = await new_batch(http)
        for one in (frames, others):
            name, seq, data = await one.next()
            assert (name, seq, [found["id"] for found in data["batches"]]) == ("snapshot", 3, [batch["id"]])
        monkeypatch.setattr("services.gateway.live.hub.HAND_OUT_S_MAX", 1.0)
        await new_batch(http, 2)
        assert [(await frames.next())[1] for _ in range(3)] == [4, 5, 6]


async def test_a_client_of_http_1_0_is_served_too(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Its connection knows no chunks and cannot be handed over."""
    with socket.create_connection(("127.0.0.1", int(stand.url.rpartition(":")[2]))) as old:
        old.sendall(b"GET /v1/events HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        frames = RawFrames(old)
        assert await frames.next() == (b"snapshot", 0)
        await new_batch(http)
        assert [await frames.next() for _ in range(3)] == [
            (b"BatchCreated", 1), (b"FileQueued", 2), (b"BatchSealed", 3),
        ]  # fmt: skip


async def test_a_client_that_leaves_is_forgotten(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Nothing is written to it, and it takes nobody's place."""
    hub = stand.app.state.gateway.hub
    async with live(http) as frames:
        await frames.next()
        assert hub.clients == 1
    async with asyncio.timeout(5):
        while hub.clients:
            await asyncio.sleep(0.01)
    await new_batch(http)


async def test_no_more_clients_than_files_may_be_open(tmp_path: Path) -> None:
    """What the setting allows and the machine does not is refused, not left at the door."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_RESERVED + 1, before[1]))
    try:
        stand = Stand(settings_in(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    async with stand.running(), httpx2.AsyncClient(base_url=stand.url) as http, live(http) as frames:
        await frames.next()
        refused = await http.get("/v1/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert refused.headers["retry-after"]


def heavy(batch_id: str, number: int) -> NewEvent:
    """A file with options so long that a few of them fill a connection."""
    source = BlobRef(key="none", bytes=1, sha256="0" * 64)
    event = e.FileQueued(
        name=f"{number}.csv", index=number, content_type="text/csv", bytes=1, sha256="0" * 64, source=source,
        processor="noop", options={"note": "n" * 200_000},
    )  # fmt: skip
    subject = file_subject("default", batch_id, ids.file_id(batch_id, f"heavy{number}"))
    return new_event(subject, event, expected_seq=0, time_ms=now_ms(), origin=Origin(source="/test"))


def wires(stand: Stand) -> list[Wire]:
    """Live clients that the hub writes to."""
    every = stand.app.state.gateway.hub._subscriptions.values()
    return [one for clients in every for one in clients if isinstance(one, Wire)]


class RawFrames:
    """Names and ids of what comes through a socket; the rest is skipped, HTTP's own lines too."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._rest = b""
        self._id = 0

    async def next(self) -> tuple[bytes, int]:
        while True:
            line, found, rest = self._rest.partition(b"\n")
            if not found:
                async with asyncio.timeout(5):
                    self._rest += await asyncio.get_running_loop().sock_recv(self._connection, 2**16)
                continue
            self._rest = rest
            if line.startswith(b"id: "):
                self._id = int(line[4:])
            if line.startswith(b"event: "):
                return line[7:].strip(), self._id

    async def id_of(self, name: bytes) -> int:
        found = await self.next()
        assert found[0] == name
        return found[1]


async def test_a_batch_feed_for_pollers(http: httpx2.AsyncClient) -> None:
    """The same events as JSON, page by page; as a stream where the client asks for one."""
    batch = await new_batch(http)
    url = batch["urls"]["events"]
    first = (await http.get(url, params={"limit": 2})).json()
    assert [one["seq"] for one in first["data"]] == [1, 2] and first["has_more"]
    rest = (await http.get(url, params={"after": first["next_cursor"]})).json()
    assert [one["seq"] for one in rest["data"]] == [3] and not rest["has_more"]
    async with live(http, path=url, headers={"Accept": "text/event-stream"}) as frames:
        assert (await frames.next())[0] == "snapshot"


async def test_a_position_that_is_none(http: httpx2.AsyncClient) -> None:
    """A stream begins with a snapshot, a feed says that no log goes so far."""
    batch = await new_batch(http)
    for path in ("/v1/events", batch["urls"]["events"]):
        headers = {"Accept": "text/event-stream", "Last-Event-ID": "9" * 5_000}
        async with live(http, path=path, headers=headers) as frames:
            assert (await frames.next())[0] == "snapshot"
    assert (await http.get(batch["urls"]["events"], params={"after": 2**64})).status_code == 422


async def test_a_stop_says_goodbye_within_a_second(tmp_path: Path) -> None:
    """Every live client gets ``drain``, and the process does not wait for them."""
    stand = Stand(settings_in(tmp_path))
    async with httpx2.AsyncClient(timeout=10) as http:
        async with stand.running(), live(http, path=f"{stand.url}/v1/events") as frames:
            assert (await frames.next())[0] == "snapshot"
            stand.server.should_exit = True
            began = time.monotonic()
            assert (await frames.next())[0] == "drain"
        assert time.monotonic() - began < 1.0


async def test_a_client_that_takes_nothing_does_not_delay_the_end(tmp_path: Path) -> None:
    """Its connection is full, and so it never hears of the end."""
    stand = Stand(settings_in(tmp_path))
    async with stand.running(), httpx2.AsyncClient(base_url=stand.url) as http:
        for _ in range(4):
            answer = await http.post("/v1/batches", files=parts(*[("a.xml", xml())] * 5_000))
            assert answer.status_code == 201
        with socket.create_connection(("127.0.0.1", int(stand.url.rpartition(":")[2]))) as stalled:
            stalled.sendall(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            while stand.app.state.gateway.hub.clients < 1:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            began = time.monotonic()
            stand.server.should_exit = True
            while stand.server.server_state.connections and time.monotonic() - began < 3:
                await asyncio.sleep(0.01)
            assert time.monotonic() - began < 1.0


async def test_an_event_is_seen_within_milliseconds(stand: Stand, http: httpx2.AsyncClient) -> None:
    """From the append to the client's hands, half of them in less than ten milliseconds."""
    accept = Accept(stand.log, "/test", 1.0, now_ms)
    delays: list[float] = []
    async with live(http) as frames:
        await frames.next()
        for _ in range(50):
            batch_id = stand.app.state.gateway.new_batch_id()
            began = time.perf_counter()
            await accept.open("default", batch_id, c.CreateBatch(name="x", open=True), accept.origin())
            await frames.next()
            delays.append(time.perf_counter() - began)
    assert sorted(delays)[25] < 0.010, sorted(delays)
