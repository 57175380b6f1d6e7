"""001, which built its document again for everybody and served a stale one after a retry."""

import asyncio
from hashlib import sha256
from urllib.parse import urlsplit

from tests.e2e.legacy.conftest import OUTSIDE, SOON_S, Older, create, table

#: So many that a build lasts while requests come in.
FILES = 500
REBUILT = "Results that were gone are built again."


async def test_a_second_download_reads_the_stored_file_and_a_concurrent_hundred_build_it_once(
    older: Older, tenant: str
) -> None:
    """What is stored is served as it is; what is gone from the store is built once for all who ask."""

    def builds(lote: str) -> int:
        return sum(line["batch"] == lote for line in older.logged("gateway", REBUILT))

    async with older.http(tenant) as http:

        async def finished() -> str:
            files = [(f"{n}.csv", table(n)) for n in range(FILES)]
            lote = (await create(http, *files, processor="noop"))["id"]
            await older.stack.finished(lote)
            return lote

        lote = await finished()
        url = f"/download_batch_results/{lote}"
        first, second = await http.get(url), await http.get(url)
        assert first.headers["tanda-cache"] == second.headers["tanda-cache"] == "hit"
        assert first.content == second.content and builds(lote) == 0

        gone = await finished()
        url = f"/download_batch_results/{gone}"
        (completed,) = await older.events(gone, "BatchCompleted")
        async with older.store() as store:
            await store.delete(completed["data"]["results"]["key"])
        hundred = await at_once(older, url, 100)
        assert len(hundred) == 100 and len(set(hundred)) == 1
        assert sha256(hundred[0]).hexdigest() == completed["data"]["results"]["sha256"]
        assert builds(gone) == 1
        assert (await http.get(url)).headers["tanda-cache"] == "hit" and builds(gone) == 1


async def at_once(older: Older, path: str, count: int) -> list[bytes]:
    """The bodies that so many requests get which are all sent before any of them is answered."""
    address = urlsplit(older.stack.url)
    opened = [await asyncio.open_connection(address.hostname, address.port) for _ in range(count)]
    for _, writer in opened:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode())
    answers = await asyncio.gather(*(reader.read() for reader, _ in opened))
    for _, writer in opened:
        writer.close()
    return [answer.partition(b"\r\n\r\n")[2] for answer in answers]


async def test_after_a_retry_the_download_is_the_new_version_not_the_stale_file(
    older: Older, tenant: str
) -> None:
    """While the retry runs there is no document rather than the old one; then it is the new one."""
    name = f"{tenant}.csv"
    older.script[name] = lambda _: (400, {}, b'{"error": {"message": "unreadable"}}')
    async with older.http(tenant) as http:
        lote = (await create(http, (name, table(1)), **OUTSIDE))["id"]
        await older.stack.finished(lote)
        url = f"/download_batch_results/{lote}"
        stale = (await http.get(url)).json()["archivos_procesados"][0]
        assert (stale["estado"], stale["resultado"]) == ("failed", None)
        del older.script[name]
        assert (await http.post(f"/v1/batches/{lote}/retry", json={})).status_code == 202
        await older.calls(name, 2)
        during = await http.get(url)
        assert (during.status_code, during.json()["code"]) == (409, "results_not_ready")
        await older.confirm(name, read="at last")

        async def second() -> bool:
            return (await older.stack.batch(lote) or {})["results"]["version"] == 2

        await older.stack.until(second, SOON_S)
        document = (await http.get(url)).json()
    fresh = document["archivos_procesados"][0]
    assert document["metadata"]["version"] == 2
    assert (fresh["estado"], fresh["intentos"], fresh["resultado"]) == ("completed", 2, {"read": "at last"})
