"""Control of running batches on a whole stack: by HTTP, the command line and the client."""

import asyncio
import json
import time
from typing import Any

from tests.running import Running


async def upload(
    stack: Running, name: str, count: int, processor: str = "noop", **fields: str
) -> dict[str, Any]:
    files = [("files", (f"{n}.csv", f"a;b\n{name};{n}\n".encode(), "text/csv")) for n in range(count)]
    async with stack.http() as http:
        answer = await http.post(
            "/v1/batches", files=files, data={"name": name, "processor": processor, **fields}
        )
    assert answer.status_code == 201, answer.text
    return answer.json()


def said(stack: Running, *words: str) -> Any:
    """A command's JSON."""
    done = stack.tanda(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_a_failed_file_is_retried_into_a_second_version(tanda: Running) -> None:
    """The lie stays rejected, the broken file fails again; both documents stay readable."""
    files = [
        ("files", ("ok.csv", b"a;b\n1;2\n", "text/csv")),
        ("files", ("broken.xml", b"<a><b></a>", "application/xml")),
    ]
    async with tanda.http() as http:
        batch = (await http.post("/v1/batches", files=files)).json()
        first = await tanda.finished(batch["id"])
        assert (first["results"]["version"], first["counts"]["failed"]) == (1, 1)
        assert said(tanda, "retry", batch["id"]) == {"retried": 1}

        async def second() -> bool:
            return (await tanda.batch(batch["id"]) or first)["results"]["version"] == 2

        await tanda.until(second, 60)
        url = f"/v1/batches/{batch['id']}/results"
        old, new = (await http.get(f"{url}?version=1")).json(), (await http.get(url)).json()
        attempts = [[one["intentos"] for one in document["archivos_procesados"]] for document in (old, new)]
        assert attempts == [[1, 1], [1, 2]]
        assert (old["metadata"]["version"], new["metadata"]["version"]) == (1, 2)
        assert stack_is_clean(tanda)


async def test_a_file_is_retried_with_a_version_that_a_worker_has(tanda: Running) -> None:
    """The command line is told which there are; the document tells the one that did it."""
    batch = await upload(tanda, "pinned", 1, processor="noop")
    await tanda.finished(batch["id"])
    wanted = ("retry", batch["id"], "--status", "completed", "--processor", "table", "--processor-version")
    refused = tanda.tanda(*wanted, "no-such")
    assert refused.returncode == 1 and "of table they have: " in refused.stderr
    own = refused.stderr.rpartition("they have: ")[2].split()[0]
    assert said(tanda, *wanted, own) == {"retried": 1}

    async def second() -> bool:
        return (await tanda.batch(batch["id"]) or batch)["results"]["version"] == 2

    await tanda.until(second, 60)
    with tanda.client() as client:
        document = client.results(batch["id"])
    assert document["metadata"]["processor_versions"] == {"table": own}
    assert document["archivos_procesados"][0]["resultado"]["kind"] == "table"


def stack_is_clean(stack: Running) -> bool:
    return stack.tanda("replay", "--all", "--verify").returncode == 0


async def test_a_batch_with_a_limit_never_runs_more_at_once(tanda: Running) -> None:
    """By its events: never more files started and not settled than its limit allows."""
    batch = await upload(tanda, "limited", 60, processor="table", limit="2")
    await tanda.finished(batch["id"])
    running, most = set[str](), 0
    async with tanda.http() as http:
        cursor, more = 0, True
        while more:
            page = (await http.get(f"/v1/batches/{batch['id']}/events?after={cursor}&limit=1000")).json()
            for event in page["data"]:
                kind = event["type"].split(".")[1]
                if kind == "FileStarted":
                    running.add(event["fileid"])
                elif kind == "FileCompleted":
                    running.discard(event["fileid"])
                most = max(most, len(running))
            cursor, more = int(page["next_cursor"]), page["has_more"]
    assert most == 2


async def test_many_batches_are_paused_counted_first_and_go_on(tanda: Running) -> None:
    """A dry run, the pause, why they wait, and on; with a bulk action of the command line."""
    batches = [
        await upload(tanda, f"bulk {time.time_ns()} {n}", 5, tags="bulk-e2e", start_at="2099-01-01T00:00:00Z")
        for n in range(3)
    ]
    dry = said(tanda, "bulk", "pause", "--tag", "bulk-e2e", "--status", "active", "--dry-run")
    assert (dry["matched"], dry["status"]) == (3, "counted")
    assert said(tanda, "bulk", "pause", "--tag", "bulk-e2e", "--status", "active")["done"] == 3
    shown = [await tanda.batch(one["id"]) or {} for one in batches]
    assert [one["progress"]["waiting_reason"] for one in shown] == ["paused"] * 3
    assert said(tanda, "bulk", "resume", "--tag", "bulk-e2e", "--status", "paused")["done"] == 3
    for one in batches:
        changed = said(tanda, "change", one["id"], "--start-at", "none", "--priority", "interactive")
        assert (changed["start_at"], changed["priority"]) == (None, "interactive")
    finished = await asyncio.gather(*(tanda.finished(one["id"]) for one in batches))
    assert [one["status"] for one in finished] == ["completed"] * 3


async def test_limits_and_the_system_are_shown(tanda: Running) -> None:
    """What is set is there; who runs says so."""
    limits = said(tanda, "limits", "set", "tenant.nobody=7", "processor.image=3")
    assert {"name": "nobody", "limit": 7, "in_flight": 0} in limits["tenants"]
    assert said(tanda, "limits", "set", "tenant.nobody=none", "processor.image=none")["tenants"] == []
    wrong = tanda.tanda("limits", "set", "everything=1")
    assert (wrong.returncode, "provider.NAME=N" in wrong.stderr) == (1, True)

    async def everybody() -> bool:
        async with tanda.http() as http:
            system = (await http.get("/v1/system")).json()
        names = {one["name"] for one in system["services"]}
        return names == {"gateway", "worker", "storage", "projector"} and system["scheduler"] is not None

    await tanda.until(everybody, 30)
