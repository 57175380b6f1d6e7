"""``python -m services.projector.parallel DESCRIPTOR…``: one process for each end of a socket.

They are forked from one that has loaded everything. Each folds stretches of the log on a core of its own and
writes them in its turn; it ends when whoever has started it does, which its socket tells.
"""

import tanda.lean  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import uvloop

from services.projector.catalog import VIEWS
from services.projector.parallel.stretch import parts
from services.projector.parallel.wire import (
    Begin,
    Failed,
    Folded,
    Link,
    Order,
    Ready,
    Stretch,
    Written,
    YourTurn,
    link,
)
from tanda import telemetry
from tanda.adapters.jetstream import JetStreamLog
from tanda.adapters.nats_connection import open_client
from tanda.adapters.postgres import open_pool
from tanda.adapters.views.store import ViewStore
from tanda.collector import relax_collector
from tanda.domain.errors import LogDamaged, TandaError
from tanda.ports import Log

NAME = "replay"
STATEMENT_TIMEOUT_S = 3_600.0
#: The next order is told when the last one is done, and a turn while a stretch is being folded.
ORDERS_MAX = 1
#: Who ends owes nobody anything: what is not written is in a shadow that is dropped.
STOP_S = 0.5


async def _serve(descriptor: int) -> None:
    """Works until the other end is closed."""
    talk = await link(socket.socket(fileno=descriptor))
    orders: asyncio.Queue[Order] = asyncio.Queue(ORDERS_MAX)
    tasks = [asyncio.create_task(_listen(talk, orders)), asyncio.create_task(_work(talk, orders))]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    talk.close()


async def _listen(talk: Link, orders: asyncio.Queue[Order]) -> None:
    with suppress(EOFError, ConnectionError):
        while True:
            await orders.put(await talk.order())


async def _work(talk: Link, orders: asyncio.Queue[Order]) -> None:
    begin = await orders.get()
    assert isinstance(begin, Begin), "the first order"
    client = await open_client(begin.settings.nats_url, NAME)
    pool = await open_pool(
        begin.settings, NAME, connections_max=1, statement_timeout_s=STATEMENT_TIMEOUT_S, waits_for_disk=False
    )
    log, store = JetStreamLog(client, begin.settings), ViewStore(pool)
    try:
        await talk.tell(Ready())
        while True:
            stretch = await orders.get()
            assert isinstance(stretch, Stretch), "nothing else begins something"
            await _fill(talk, orders, log, store, begin.schemas, stretch)
    except (TandaError, ConnectionError) as error:
        await talk.tell(Failed(str(error), isinstance(error, LogDamaged)))
    finally:
        pool.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await client.close()


async def _fill(
    talk: Link, orders: asyncio.Queue[Order], log: Log, store: ViewStore, schemas: dict[str, str],
    stretch: Stretch,
) -> None:  # fmt: skip
    """Folds beside whoever writes; in its turn it writes all of the stretch."""
    is_my_turn = False
    async for part in parts(log, {name: VIEWS[name] for name in schemas}, stretch):
        if not is_my_turn:
            await talk.tell(Folded(part.seq, part.told))
            is_my_turn = isinstance(await orders.get(), YourTurn)
            assert is_my_turn, "nothing else follows a stretch"
        await store.fill([(schemas[step.view], step) for step in part.steps])
        written = Written(part.seq, part.told)
        del part  # or its rows would still be there while the next one's are made
        await talk.tell(written)


def main(arguments: Sequence[str]) -> None:
    """Forks, and waits for them."""
    telemetry.configure(NAME, "warning")
    relax_collector()
    mine = [int(one) for one in arguments]
    for number in mine:
        if os.fork() == 0:
            for other in mine:
                if other != number:
                    os.close(other)
            uvloop.run(_serve(number))
            return
    for number in mine:
        os.close(number)
    for _ in mine:
        os.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
