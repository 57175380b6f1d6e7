"""A batch with all its files, as the old answers hold them: whole, without pages."""

import msgspec

from services.gateway.access import Caller
from services.gateway.batches.reads import seen
from services.gateway.deps import Gateway
from tanda.contracts.http import Batch, File, FileQuery

#: Rows of one query; a batch has at most ``TANDA_BATCH_FILES_MAX`` files.
ROWS_MAX = 1_000


async def batch_seen(gateway: Gateway, caller: Caller, batch_id: str) -> Batch:
    """The batch from the view; one that only the log knows yet is waited for."""
    return await seen(gateway, caller, batch_id, None, gateway.views.batch)


async def all_files(gateway: Gateway, caller: Caller, batch_id: str) -> list[File]:
    """The files in upload order."""
    query, found = FileQuery(limit=ROWS_MAX), list[File]()
    while True:
        page = await gateway.views.files(caller.scope, batch_id, query)
        found += page.data
        if not page.has_more:
            return found
        query = msgspec.structs.replace(query, cursor=page.next_cursor)


def message_of(file: File) -> str | None:
    """Why a file did not succeed, in a sentence."""
    return file.error["message"] if file.error else None
