"""What every work queue, timer, lease and signal must do: one body, in memory and on the real server."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import msgspec
import pytest

from tanda.adapters.memory import MemoryBoard, MemoryLease, MemorySignals, MemoryTimers, MemoryWork
from tanda.adapters.nats import connect
from tanda.adapters.nats_connection import api
from tanda.contracts.results import BlobRef
from tanda.contracts.times import epoch_ms, rfc3339
from tanda.contracts.work import LaneStatus, Presence, SchedulerStatus, Timer, WorkItem, provider_lane
from tanda.domain.errors import Unavailable
from tanda.ports import Board, Delivery, Lease, Signals, Timers, WorkQueue
from tests.stack import Stack

LEASE_S = 1.0
DEADLINE_S = 10


@dataclass
class Ports:
    work: WorkQueue
    timers: Timers
    lease: Lease
    signals: Signals
    board: Board


@pytest.fixture(scope="module", params=["memory", "jetstream"])
async def ports(
    request: pytest.FixtureRequest, servers: Stack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ports]:
    if request.param == "memory":
        yield Ports(MemoryWork(LEASE_S), MemoryTimers(), MemoryLease(), MemorySignals(), MemoryBoard())
        return
    settings = servers.settings(tmp_path_factory.mktemp("work"), lease_s=str(LEASE_S))
    connection = await connect(settings, "test")
    yield Ports(
        connection.work, connection.timers, connection.lease, connection.signals, connection.board
    )  # fmt: skip
    await connection.close()


@pytest.fixture
def lane() -> str:
    """A lane that no other test has."""
    return f"lane-{token_hex(4)}"


def items(tenant: str, lane: str, count: int, batch_id: str = "bat_1") -> list[WorkItem]:
    return [
        WorkItem(
            tenant=tenant, batch_id=batch_id, file_id=f"fil_{index}", seq=index + 1, attempt=1,
            name="á.csv", content_type="text/csv", bytes=1, sha256="0", processor="noop", lane=lane,
            source=BlobRef(key="t/x", bytes=1, sha256="0"), options={"x": [1]},
        )
        for index in range(count)
    ]  # fmt: skip


async def take(work: WorkQueue, lane: str, count: int) -> list[Delivery]:
    """Exactly ``count`` deliveries, or the deadline."""
    taken: list[Delivery] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(taken) < count and time.monotonic() < deadline:
        taken += await work.take(lane, count - len(taken), 0.5)
    return taken


async def test_an_item_travels_whole(ports: Ports, tenant: str, lane: str) -> None:
    await ports.work.put(items(tenant, lane, 1))
    (delivery,) = await take(ports.work, lane, 1)
    assert delivery.item == items(tenant, lane, 1)[0]
    await delivery.done()
    assert await ports.work.take(lane, 1, 0.2) == []


async def test_an_item_is_there_once(ports: Ports, tenant: str, lane: str) -> None:
    """Released twice, also while somebody has it, it is delivered once."""
    await ports.work.put(items(tenant, lane, 3))
    await ports.work.put(items(tenant, lane, 3))
    taken = await take(ports.work, lane, 3)
    await ports.work.put(items(tenant, lane, 3))
    assert sorted(one.item.file_id for one in taken) == ["fil_0", "fil_1", "fil_2"]
    for one in taken:
        await one.done()
    assert await ports.work.take(lane, 5, 0.2) == []


async def test_a_group_is_one_thing(ports: Ports, tenant: str, lane: str) -> None:
    """Put twice it is there once, among files of their own, under its own name; one delivery has it all."""
    single, *others = items(tenant, lane, 4)
    group = [msgspec.structs.replace(one, group="grp_0", seq=7) for one in others]
    for _ in range(2):
        await ports.work.put([*group, single])
    there = [token for of_tenant, _, token in await ports.work.present() if of_tenant == tenant]
    assert sorted(there) == ["fil_0", "grp_0"]
    taken = {one.item.group: one for one in await take(ports.work, lane, 2)}
    assert list(taken["grp_0"].items) == group and taken["grp_0"].item == group[0]
    assert list(taken[""].items) == [single]
    await ports.work.put(group)
    await taken["grp_0"].done()
    await taken[""].done()
    assert await ports.work.take(lane, 5, 0.2) == []


async def test_a_dropped_batch_has_no_groups(ports: Ports, tenant: str, lane: str) -> None:
    """Two groups of one batch are two things; both go with it, and another batch's stays."""
    for batch_id in ("bat_1", "bat_2"):
        first, second, third = items(tenant, lane, 3, batch_id)
        groups = [msgspec.structs.replace(one, group="grp_0") for one in (first, second)]
        await ports.work.put([*groups, msgspec.structs.replace(third, group="grp_1")])
    await ports.work.drop(tenant, "bat_1")
    there = [one[1:] for one in await ports.work.present() if one[0] == tenant]
    assert sorted(there) == [("bat_2", "grp_0"), ("bat_2", "grp_1")]
    for one in await take(ports.work, lane, 2):
        await one.done()


async def test_nothing_is_taken_that_was_not_asked_for(ports: Ports, tenant: str, lane: str) -> None:
    """No prefetching: what one runner has no slot for is another's."""
    await ports.work.put(items(tenant, lane, 5))
    first = await ports.work.take(lane, 2, 1.0)
    assert 1 <= len(first) <= 2
    rest = await take(ports.work, lane, 5 - len(first))
    assert len(first) + len(rest) == 5
    for one in (*first, *rest):
        await one.done()


async def test_an_abandoned_item_comes_again(ports: Ports, tenant: str, lane: str) -> None:
    """A runner that died says nothing; after the lease another one gets the file."""
    await ports.work.put(items(tenant, lane, 1))
    (first,) = await take(ports.work, lane, 1)
    (again,) = await take(ports.work, lane, 1)
    await again.done()
    assert (first.is_first, again.is_first) == (True, False)


async def test_a_held_item_stays_held(ports: Ports, tenant: str, lane: str) -> None:
    """``extend`` keeps it beyond the lease."""
    await ports.work.put(items(tenant, lane, 1))
    (delivery,) = await take(ports.work, lane, 1)
    held_until = time.monotonic() + 2 * LEASE_S
    while time.monotonic() < held_until:
        await delivery.extend()
        assert await ports.work.take(lane, 1, LEASE_S / 4) == []
    await delivery.done()


async def test_given_back_it_comes_after_its_delay(ports: Ports, tenant: str, lane: str) -> None:
    await ports.work.put(items(tenant, lane, 1))
    (delivery,) = await take(ports.work, lane, 1)
    await delivery.give_back(0.3)
    (again,) = await take(ports.work, lane, 1)
    await again.done()


async def test_dropping_a_batch_leaves_the_others(ports: Ports, tenant: str, lane: str) -> None:
    await ports.work.put([*items(tenant, lane, 3), *items(tenant, lane, 2, "bat_2")])
    await ports.work.drop(tenant, "bat_1")
    taken = await take(ports.work, lane, 2)
    assert {one.item.batch_id for one in taken} == {"bat_2"}
    for one in taken:
        await one.done()
    assert await ports.work.take(lane, 5, 0.2) == []


async def test_present_is_what_is_queued_or_in_hands(ports: Ports, tenant: str, lane: str) -> None:
    """A leader that begins learns from it what another one has released."""
    await ports.work.put(items(tenant, lane, 3))
    taken = await take(ports.work, lane, 2)
    await taken[0].done()

    async def present() -> set[str]:
        return {file for owner, _, file in await ports.work.present() if owner == tenant}

    left = {f"fil_{number}" for number in range(3)} - {taken[0].item.file_id}
    deadline = time.monotonic() + DEADLINE_S
    while await present() != left and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert await present() == left
    await ports.work.drop(tenant, "bat_1")
    await taken[1].done()


async def test_a_lane_never_has_more_in_hands_than_its_limit(ports: Ports, tenant: str) -> None:
    """However many ask; one that is done makes room for the next, and a new limit holds at once."""
    lane = provider_lane(f"http-{token_hex(4)}")
    await ports.work.put(items(tenant, lane, 6))
    await ports.work.limit(lane, 2)
    first = await take(ports.work, lane, 2)
    assert await ports.work.take(lane, 5, 0.3) == []
    await first[0].done()
    second = await take(ports.work, lane, 1)
    assert await ports.work.take(lane, 5, 0.3) == []
    await ports.work.limit(lane, 4)
    third = await take(ports.work, lane, 2)
    assert len({one.item.file_id for one in (*first, *second, *third)}) == 5
    for one in (first[1], *second, *third):
        await one.done()
    (last,) = await take(ports.work, lane, 1)
    await last.done()


async def test_a_braked_lane_gives_out_nothing_until_its_time(ports: Ports, tenant: str) -> None:
    """Also to who was waiting before; the latest time wins, and a new limit does not end the brake."""
    lane = provider_lane(f"http-{token_hex(4)}")
    waiting = asyncio.create_task(ports.work.take(lane, 1, DEADLINE_S))
    until = time.time() + 1.2
    await ports.work.brake(lane, rfc3339(int(until * 1000)))
    await ports.work.brake(lane, rfc3339(int(until * 1000) - 900))
    await ports.work.limit(lane, 1)
    assert epoch_ms(await ports.work.braked_until(lane) or "") == int(until * 1000)
    await ports.work.put(items(tenant, lane, 1))
    taken = list(await waiting) or await take(ports.work, lane, 1)
    # JetStream ends a pause some milliseconds early or late, never the whole of it.
    assert time.time() >= until - 0.05
    await taken[0].done()


async def test_a_timer_rings_when_it_is_due(ports: Ports, tenant: str) -> None:
    """Past times ring at once, later ones later; the newest setting of a file wins."""
    file = Timer(tenant=tenant, batch_id="bat_1", file_id="fil_1", seq=4)
    batch = Timer(tenant=tenant, batch_id="bat_1", file_id=None, seq=1)
    now_ms = time.time_ns() // 1_000_000
    await ports.timers.set(file, rfc3339(now_ms + 3_600_000))
    await ports.timers.set(file, rfc3339(now_ms + 600))
    await ports.timers.set(batch, rfc3339(now_ms - 1000))
    rung: list[Timer] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(rung) < 2 and time.monotonic() < deadline:
        rung += [one for one in await ports.timers.due(1.0) if one.tenant == tenant]
    assert rung == [batch, file]


async def test_one_leads_at_a_time(ports: Ports) -> None:
    """The lease is its holder's until it is released."""
    name = f"lead-{token_hex(4)}"
    assert await ports.lease.hold(name, "a")
    assert not await ports.lease.hold(name, "b")
    assert await ports.lease.hold(name, "a")
    await ports.lease.release(name, "b")
    assert not await ports.lease.hold(name, "b")
    await ports.lease.release(name, "a")
    assert await ports.lease.hold(name, "b")


async def test_a_lease_is_there_again_after_a_restart(servers: Stack, tmp_path: Path) -> None:
    """The stream is in the server's memory. Without it nobody would lead, and nothing be released."""
    connection = await connect(servers.settings(tmp_path), "test")
    await api(connection.client, "STREAM.DELETE.LEASE")
    with pytest.raises(Unavailable):
        await connection.lease.hold("restarted", "a")
    assert await connection.lease.hold("restarted", "a")
    await connection.close()


async def test_a_holder_that_was_late_does_not_lead(servers: Stack, tmp_path: Path) -> None:
    """Its last word is gone; what another has said since stands, whatever it remembers of its own."""
    connection = await connect(servers.settings(tmp_path), "test")
    name = f"late-{token_hex(4)}"
    assert await connection.lease.hold(name, "a")
    await api(connection.client, "STREAM.PURGE.LEASE", {"filter": f"lease.{name}"})
    assert await connection.lease.hold(name, "b")
    assert not await connection.lease.hold(name, "a")
    assert await connection.lease.hold(name, "b")
    await connection.close()


async def test_the_board_has_the_newest_word_of_each(ports: Ports) -> None:
    """The scheduler's in place of the one before, and one for each instance of a service."""
    instance = token_hex(4)
    await ports.board.hello(Presence(name="worker", instance=instance, at="2026-11-21T05:13:00.000Z"))
    newest = Presence(name="worker", instance=instance, at="2026-11-21T05:13:05.000Z")
    await ports.board.hello(newest)
    statuses = [
        SchedulerStatus(
            leader=instance, at=newest.at, position=position, unfinished_batches=1, queued=2, in_flight=3,
            lanes=[LaneStatus(name="main", in_flight=3, queued=2)], reasons={"bat_1": "limit"},
        )
        for position in (1, 2)
    ]  # fmt: skip
    for status in statuses:
        await ports.board.tell(status)
    deadline = time.monotonic() + DEADLINE_S
    while await ports.board.scheduler() != statuses[-1] and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert await ports.board.scheduler() == statuses[-1]
    assert [one for one in await ports.board.services() if one.instance == instance] == [newest]


async def test_a_signal_reaches_who_listens(ports: Ports) -> None:
    view = f"view-{token_hex(4)}"
    positions = ports.signals.positions()

    async def first() -> tuple[str, int]:
        async for one in positions:
            if one[0] == view:
                return one
        raise AssertionError("the signals ended")

    heard = asyncio.create_task(first())
    while not heard.done():
        await ports.signals.announce(view, 42)
        await asyncio.wait([heard], timeout=0.05)
    assert heard.result() == (view, 42)
