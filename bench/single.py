"""One file through an idle system: from its acceptance until its result can be read."""

import asyncio
import http.client
import json
import time
from secrets import token_hex
from typing import Any

from bench.stack import idle, settings
from tanda.adapters.nats import Connection, connect
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.subjects import batch_subject
from tests.running import Running

#: Of each way.
FILES = 150
#: Not counted: they come while the worker of a stack that has just been started is still on its way.
WARM_UP = 2
POLL_S = 0.0005
TENANT = "default"
REST_S_MAX = 30.0


async def run(stack: Running, files: int) -> dict[str, float]:
    """p50 and p99 in ms, one file after the other, the no-op processor.

    ``ours`` and ``p99`` are of results asked for by their address, as a live stream tells it; ``listed`` and
    ``listed_p99`` of those whose address is taken from the list of files first. Each begins when the one
    before it has come to rest: archived, and in every view. The client is the standard library's, since
    another's own work would be counted as ours.
    """
    del files
    connection = await connect(settings(stack), "bench")
    address = stack.url.removeprefix("http://")
    client = http.client.HTTPConnection(address)
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(WARM_UP + 2 * FILES):
        listed = number % 2
        batch, begun = upload(client, number)
        file = f"{batch['urls']['files']}/{ids.indexed_file_id(batch['id'], 0)}"
        if listed:
            assert await first_file(client, batch) == file
        result = f"{file}/result"
        while get(client, result)[0] != 200:
            await asyncio.sleep(POLL_S)
        if number >= WARM_UP:
            taken[listed].append(1000 * (time.perf_counter() - begun))
        await stack.until(lambda: at_rest(stack, connection, batch["id"]), REST_S_MAX)  # noqa: B023
    client.close()
    await connection.close()
    known, listed_ms = map(sorted, taken)
    last = int(FILES * 0.99)
    return {
        "ours": known[FILES // 2], "p99": known[last],
        "listed": listed_ms[FILES // 2], "listed_p99": listed_ms[last],
    }  # fmt: skip


def upload(client: http.client.HTTPConnection, number: int) -> tuple[dict[str, Any], float]:
    """The batch as it was accepted, and when that was said."""
    boundary = token_hex(8)
    parts = (('name="processor"', "noop"), (f'name="files"; filename="{number}.csv"', "a,b\n1,2\n"))
    body = "".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n" for name, value in parts
    )
    kind = f"multipart/form-data; boundary={boundary}"
    client.request("POST", "/v1/batches", f"{body}--{boundary}--\r\n".encode(), {"Content-Type": kind})
    response = client.getresponse()
    answer = response.read()
    begun = time.perf_counter()
    assert response.status == 201, answer
    return json.loads(answer), begun


async def first_file(client: http.client.HTTPConnection, batch: dict[str, Any]) -> str:
    url = batch["urls"]["files"]
    while not (page := json.loads(get(client, url)[1]))["data"]:
        await asyncio.sleep(POLL_S)
    return f"{url}/{page['data'][0]['id']}"


def get(client: http.client.HTTPConnection, url: str) -> tuple[int, bytes]:
    client.request("GET", url)
    response = client.getresponse()
    return response.status, response.read()


async def at_rest(stack: Running, connection: Connection, batch_id: str) -> bool:
    """Whether nothing of a batch is left to do, and the views have it all."""
    last = await connection.log.last(batch_subject(TENANT, batch_id))
    return last is not None and isinstance(last.event, e.SourcesArchived) and await idle(stack, connection)
