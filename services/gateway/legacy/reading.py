"""What the old answers are made of: a batch with all its files and what was just done, without pages."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import Depends

from services.gateway.access import Caller
from services.gateway.batches.reads import Position, seen
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.problems import Busy
from tanda.contracts.http import Batch, File, FileQuery
from tanda.domain.errors import WorldFailure

#: Rows of one query; a batch has at most ``TANDA_BATCH_FILES_MAX`` files.
ROWS_MAX = 1_000
#: How long an old read waits for the views: usually some milliseconds are enough.
FRESH_WAIT_S = 0.5


async def fresh_position(gateway: GatewayDep, position: Position) -> int:
    """The position of the views once they have what the log has now, or where they are after a moment.

    An old front end has no ``min_seq`` to ask with, and looks at once for what it has just done.
    """
    try:
        async with asyncio.timeout(FRESH_WAIT_S):
            return await gateway.positions.reached(await gateway.log.position(), FRESH_WAIT_S)
    except (TimeoutError, Busy, WorldFailure):
        return position


Fresh = Annotated[int, Depends(fresh_position)]


async def batch_seen(gateway: Gateway, caller: Caller, batch_id: str) -> Batch:
    """The batch from the view; one that only the log knows yet is waited for."""
    return (await seen(gateway, caller, batch_id, None, gateway.views.batch)).found


async def all_files(gateway: Gateway, caller: Caller, batch_id: str) -> list[File]:
    """The files in upload order."""
    query, found = FileQuery(limit=ROWS_MAX), list[File]()
    while True:
        page = (await gateway.views.files(caller.scope, batch_id, query)).found
        found += page.data if page else []
        if page is None or not page.has_more:
            return found
        query = msgspec.structs.replace(query, cursor=page.next_cursor)


def message_of(file: File) -> str | None:
    """Why a file did not succeed, in a sentence."""
    return file.error["message"] if file.error else None
