"""One file through an idle system: from its acceptance until its result can be read."""

import asyncio
import time

import httpx2

from tests.running import Running

FILES = 200
POLL_S = 0.0005
BODY = b"a,b\n1,2\n"


async def run(stack: Running, files: int) -> dict[str, float]:
    """``ours`` (p50) and ``p99`` in ms, one file after the other, the no-op processor."""
    del files
    taken: list[float] = []
    async with stack.http() as http:
        for number in range(FILES):
            response = await http.post(
                "/v1/batches",
                files={"files": (f"{number}.csv", BODY, "text/csv")},
                data={"processor": "noop"},
            )
            begun = time.perf_counter()
            url = await _first_file(http, response.json()["urls"]["files"])
            while (await http.get(f"{url}/result")).status_code != 200:
                await asyncio.sleep(POLL_S)
            taken.append(1000 * (time.perf_counter() - begun))
    taken.sort()
    return {"ours": taken[len(taken) // 2], "p99": taken[int(len(taken) * 0.99)]}


async def _first_file(http: httpx2.AsyncClient, url: str) -> str:
    while not (page := (await http.get(url)).json())["data"]:
        await asyncio.sleep(POLL_S)
    return f"{url}/{page['data'][0]['id']}"
