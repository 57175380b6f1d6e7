"""002, whose stream did not come back, whose page was empty offline, and which showed everybody's batches."""

import json
from typing import TYPE_CHECKING, Any

import httpx2

from tests.e2e.console.console_page import context_of, link, page_of, until_seen
from tests.e2e.legacy.conftest import NEVER, OUTSIDE, SOON_S, Older, begin, create, table

if TYPE_CHECKING:
    from playwright.async_api import Browser

API = "/api/metricool"
#: As its page listened: ``onmessage``, and not a line about a lost connection.
LISTEN = """url => { window.got = [];
  new EventSource(url).onmessage = ({lastEventId, data}) => got.push([+lastEventId, JSON.parse(data)]); }"""

Message = tuple[int, dict[str, Any]]


async def messages(
    http: httpx2.AsyncClient, batch_id: str, after: int | None, limit: int | None = None
) -> list[Message]:
    """So many messages of a stream, after which the connection is cut, or all to the batch's end."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    found: list[Message] = []
    seq = 0
    async with http.stream("GET", f"{API}/batch/{batch_id}/events", headers=headers) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            seq = int(value) if name == "id" else seq
            if name == "data":
                found.append((seq, json.loads(value)))
                if len(found) == limit or found[-1][1]["type"] == "completed":
                    return found
    raise AssertionError("the stream ended by itself")


async def test_a_lost_connection_resumes_by_itself_with_no_gap(
    older: Older, browser: "Browser", tenant: str
) -> None:
    """The gateway is killed under a listening page; what it has in the end is what nobody had to miss."""
    async with older.http(tenant) as http, context_of(browser) as context:
        files = [(f"{n}.csv", table(n)) for n in range(24)]
        batch_id = (await create(http, *files, start_at=NEVER))["id"]
        page, _ = await page_of(context, older.stack.url)
        await page.evaluate(LISTEN, f"{API}/batch/{batch_id}/events")
        await until_seen(page, "() => got.length === 1")
        await begin(http, batch_id)
        await until_seen(page, "() => got.length > 5")
        older.stack.kill("gateway")
        await until_seen(page, "() => got.at(-1)[1].type === 'completed'")
        got: list[list[Any]] = await page.evaluate("() => got")
    (first, connected), *rest = [(seq, message) for seq, message in got]
    await older.stack.until(older.stack.is_ready, SOON_S)
    async with older.http(tenant) as http:
        assert rest == await messages(http, batch_id, after=first)
    assert (connected["type"], connected["total"], connected["current"]) == ("connected", 24, 0)
    assert (rest[-1][1]["published"], rest[-1][1]["current"]) == (24, 24)


async def test_a_connection_that_is_cut_again_and_again_loses_and_repeats_nothing(
    older: Older, tenant: str
) -> None:
    """Three messages at a time, while the batch runs: together they are the uncut stream."""
    async with older.http(tenant) as http:
        files = [(f"{n}.csv", table(n)) for n in range(12)]
        batch_id = (await create(http, *files, start_at=NEVER))["id"]
        ((first, _),) = await messages(http, batch_id, after=None, limit=1)
        await begin(http, batch_id)
        pieces: list[Message] = []
        while not pieces or pieces[-1][1]["type"] != "completed":
            last = pieces[-1][0] if pieces else first
            pieces += await messages(http, batch_id, last, limit=3)
        assert pieces == await messages(http, batch_id, first)
    assert [one["currentStory"] for _, one in pieces if one["status"] != "completed"]
    assert pieces[-1][1]["published"] == 12


async def test_offline_shows_the_last_known_state(older: Older, browser: "Browser", tenant: str) -> None:
    """One of two is published, the network goes: that is what the console goes on to show, saying so."""
    done, waits = f"{tenant}-1.csv", f"{tenant}-2.csv"
    older.script[done] = lambda _: (200, {}, b"{}")
    async with older.http("default") as http:  # the console's own tenant, whose events it follows
        batch_id = (await create(http, (done, table(1)), (waits, table(2)), owner="ana", **OUTSIDE))["id"]
        await older.calls(waits)

        async def half() -> bool:
            batch = (await http.get(f"{API}/batch/{batch_id}")).json()["batch"]
            clips = [clip["status"] for clip in batch["clips"]]
            return clips == ["published", "waiting_confirmation"] and batch["progress"] == 50

        await older.stack.until(half, SOON_S)
    async with context_of(browser) as context:
        page, _ = await page_of(context, f"{older.stack.url}/#/batches/{batch_id}")
        clips = page.locator("[data-file]")
        await clips.filter(has=page.locator("[data-status=waiting]")).wait_for()
        await page.goto(f"{older.stack.url}/#/batches")
        await page.locator(f"#{batch_id}").wait_for()
        await link(page, "live")
        await context.set_offline(True)
        await link(page, "offline")
        assert "datos de" in await page.locator("#connection").inner_text()
        await page.locator(f"#{batch_id} a.cut").first.click()
        for status, name in (("completed", done), ("waiting", waits)):
            clip = clips.filter(has=page.locator(f"[data-status={status}]"), has_text=name)
            await clip.wait_for()
        await page.get_by_text("Nadie responde: esto es lo que se sabía").first.wait_for()
        await context.set_offline(False)
        await link(page, "live")
        await older.confirm(waits)
        await clips.filter(has=page.locator("[data-status=completed]"), has_text=waits).wait_for()


async def test_active_batches_are_of_one_user_only(older: Older, tenant: str) -> None:
    """Ana's unfinished ones at once, with what they were created with; none of Eva's, none that is done."""
    async with older.http(tenant) as http:
        metadata = {"jobId": "job-7", "publishMode": "scheduled", "scheduledDate": NEVER}
        done = await create(http, ("c.csv", table(3)), owner="ana")
        await older.stack.finished(done["id"])
        await create(http, ("b.csv", table(2)), owner="eva", start_at=NEVER)
        mine = await create(http, ("a.csv", table(1)), owner="ana", metadata=metadata)
        answer = (await http.get(f"{API}/batches/active?userId=ana")).json()
    assert (answer["success"], answer["count"]) == (True, 1)
    (batch,) = answer["batches"]
    assert batch["startAt"] == "2099-01-01T00:00:00.000Z", "the scheduled date is the start"
    told = ("batchId", "jobId", "publishMode", "status", "total", "published", "failed", "progress")
    assert {name: batch[name] for name in told} == {
        "batchId": mine["id"], "jobId": "job-7", "publishMode": "scheduled", "status": "pending", "total": 1,
        "published": 0, "failed": 0, "progress": 0,
    }  # fmt: skip
