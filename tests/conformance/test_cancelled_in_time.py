"""A wait that is cancelled in the very moment in which it would have ended by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tanda.adapters.nats import Connection, connect
from tanda.adapters.nats_connection import EventClient, Frame, api
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.envelope import NewEvent, Origin, new_event
from tanda.contracts.subjects import batch_subject
from tanda.settings import Settings

DEADLINE_S = 10


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[Connection]:
    opened = await connect(settings, "test")
    yield opened
    await opened.close()


@pytest.fixture
def created(tenant: str) -> NewEvent:
    batch_id = ids.derived_id(ids.BATCH, 1, tenant)
    origin = Origin(source="/test")
    return new_event(
        batch_subject(tenant, batch_id), e.BatchCreated(name="x"), expected_seq=0, time_ms=1, origin=origin
    )


def cancel_on_answer(client: EventClient, victim: asyncio.Task[Any]) -> None:
    """Cancels a task right after the message that it waits for was handed over."""
    listeners = client._listeners  # pyright: ignore[reportPrivateUsage]
    for number, take in listeners.items():

        def taken(frame: Frame, take: Callable[[Frame], None] = take) -> None:
            take(frame)
            victim.cancel()

        listeners[number] = taken


def cancel_on_event(client: EventClient, victim: asyncio.Task[Any]) -> None:
    """The same for a reader's next event."""
    listen = client.listen

    async def listen_and_cancel(inbox: str, take: Callable[[Frame], None]) -> Any:
        def taken(frame: Frame) -> None:
            take(frame)
            if frame.reply.startswith("$JS.ACK."):
                victim.cancel()

        return await listen(inbox, taken)

    client.listen = listen_and_cancel


async def test_a_request_that_is_cancelled_with_its_answer_is_cancelled(connection: Connection) -> None:
    """Its caller is told: a task that goes on after its cancellation is waited for without end."""
    task = asyncio.create_task(api(connection.client, "STREAM.INFO.EVENTS"))
    cancel_on_answer(connection.client, task)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_reader_that_is_cancelled_with_an_event_ends(
    connection: Connection, created: NewEvent
) -> None:
    """The log's reader stops there, and does not go on beside the one that takes its place."""
    after = await connection.log.position()

    async def read() -> None:
        async for _ in connection.log.follow(after):
            pass

    task = asyncio.create_task(read())
    cancel_on_event(connection.client, task)
    await connection.log.append([created])
    done, _ = await asyncio.wait({task}, timeout=DEADLINE_S)
    assert done and task.cancelled()
