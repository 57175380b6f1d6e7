"""The SDK's live stream over connections that are lost."""

import json

import httpx2

from tanda.client.live import follow

SNAPSHOT = b'id: 4\nevent: snapshot\ndata: {"seq":4,"batches":[]}\n\n'
SEALED = b'id: 6\nevent: BatchSealed\ndata: {"seq":6}\n\n'


def group(parts: range) -> bytes:
    """Some of the ten events at position 5."""
    told = [b"event: FileQueued\ndata: %s\n\n" % json.dumps({"seq": 5, "part": n}).encode() for n in parts]
    return b"".join(told[:-1]) + (b"id: 5\n" if parts.stop == 10 else b"") + told[-1]


def test_a_connection_lost_within_a_position_resumes_before_it() -> None:
    """Its events come once, and all of them have the position that they are at."""
    streams = [SNAPSHOT + group(range(5)), group(range(10)) + SEALED]
    resumed: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        resumed.append(request.headers.get("last-event-id"))
        content = streams[len(resumed) - 1]
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content)

    with httpx2.Client(transport=httpx2.MockTransport(answer), base_url="http://127.0.0.1") as http:
        events = follow(http, "/v1/events", {}, None)
        told = [next(events) for _ in range(12)]

    assert [event.name for event in told] == ["snapshot", *["FileQueued"] * 10, "BatchSealed"]
    assert [event.id for event in told] == [4, *[5] * 10, 6]
    assert [event.data["part"] for event in told[1:11]] == list(range(10))
    assert resumed == [None, "4"]
