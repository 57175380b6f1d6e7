"""The SDK against a gateway: both clients do the same, and neither makes two batches of one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tanda.client import AsyncClient, Client, TandaProblem, TandaUnreachable
from tests.integration.gateway.stand import Stand, settings_in, xml


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    settings = settings_in(tmp_path / "data", api_keys="acme:key-of-acme")
    async with Stand(settings).running() as stand:
        yield stand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a folder in it, names with quotes and accents, and a file of some size."""
    folder = tmp_path / "facturas"
    (folder / "más").mkdir(parents=True)
    for number in range(40):
        (folder / f"f{number:02d}.xml").write_bytes(xml(number))
    (folder / "más" / 'señal "x".xml').write_bytes(xml(99) * 20_000)
    return folder


async def test_an_upload_by_asyncio(stand: Stand, folder: Path) -> None:
    """One request with every file, in order; lists, commands and errors as in the contract."""
    async with AsyncClient(stand.url, key="key-of-acme") as tanda:
        batch = await tanda.upload([folder], name="noviembre", tags=["a"], metadata={"k": 1})
        assert batch["counts"]["queued"] == 41 and batch["metadata"] == {"k": 1} and batch["tags"] == ["a"]
        files = [file async for file in tanda.files(batch["id"])]
        assert [file["index"] for file in files] == list(range(41))
        assert [file["bytes"] for file in files][-1] == len(xml(99)) * 20_000
        assert [one["id"] async for one in tanda.batches()] == [batch["id"]]
        assert (await tanda.command(batch["id"], "pause"))["status"] == "paused"
        with pytest.raises(TandaProblem) as refused:
            await tanda.command(batch["id"], "pause")
        assert (refused.value.status, refused.value.code) == (409, "batch_state_forbids")
        with pytest.raises(TandaProblem) as early:
            await tanda.results(batch["id"])
        assert early.value.code == "results_not_ready"


async def test_watching_survives_a_restart_of_the_gateway(stand: Stand, folder: Path) -> None:
    """The stream is resumed where it was; every event comes once."""
    async with AsyncClient(stand.url, key="key-of-acme") as tanda:
        batch = await tanda.upload([folder])
        events = tanda.events(batch["id"])
        assert (await anext(events)).name == "snapshot"
        for verb in ("pause", "resume"):
            await tanda.command(batch["id"], verb)
            stand.app.state.gateway.hub.drain()
            stand.app.state.gateway.hub.draining = False
        names: list[str] = []
        while "BatchResumed" not in names:
            names.append((await asyncio.wait_for(anext(events), 5)).name)
        assert [name for name in names if name != "drain"] == ["BatchPaused", "BatchResumed"]
        await events.aclose()


async def test_an_upload_file_by_file(stand: Stand, folder: Path) -> None:
    """The blocking client opens, PUTs and seals; the order is that of the files, whoever is first."""
    with Client(stand.url, key="key-of-acme") as tanda:
        batch = await asyncio.to_thread(tanda.upload, [folder], name="noviembre")
        files = await asyncio.to_thread(lambda: list(tanda.files(batch["id"])))
    assert batch["status"] == "queued" and batch["counts"]["total"] == 41
    names = [file["name"] for file in files]
    assert names == sorted(path.name for path in folder.rglob("*.xml"))


async def test_nobody_there(tmp_path: Path) -> None:
    """An address where nothing listens is named."""
    async with AsyncClient("http://127.0.0.1:9") as tanda:
        with pytest.raises(TandaUnreachable, match=r"127\.0\.0\.1:9"):
            await tanda.batch("bat_x")
