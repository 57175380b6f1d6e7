"""One action on every batch that a filter names: counted first, then done one by one, and abortable.

What is to be done is kept beside the idempotency keys, so that a gateway that dies in the middle is
followed by another one; each batch's own command is in the log like any other, under the bulk action's id.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from services.gateway.batches.accept import Accept
from services.gateway.control.retry import AS_BEFORE, Selection, retry
from tanda.contracts import commands as c
from tanda.contracts import ids
from tanda.contracts.http import (
    ACTIVE_STATUSES,
    Batch,
    BatchQuery,
    BulkAction,
    BulkError,
    BulkFilter,
    BulkRequest,
    BulkRun,
    BulkVerb,
)
from tanda.contracts.times import rfc3339
from tanda.domain.errors import NotFound, Refusal, StateForbids, WorldFailure
from tanda.ports import BulkStore, Views

BATCHES_MAX = 100_000
#: Another gateway's run that was silent for so long has lost it; the same looks for such runs this often.
LEASE_S = 10.0
LOOK_EVERY_S = 2.0
#: Progress is kept after so many batches: what a crash repeats is refused by the batches themselves.
KEEP_EVERY = 20
ERRORS_MAX = 20
_PAGE = 200

_COMMANDS: dict[str, Callable[[], c.Command]] = {
    "pause": c.PauseBatch,
    "resume": c.ResumeBatch,
    "cancel": c.CancelBatch,
}

_log = structlog.get_logger("tanda.gateway")


class BulkActions:
    """Starts bulk actions and carries on with those that nobody works on."""

    def __init__(self, store: BulkStore, views: Views, accept: Accept, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._views = views
        self._accept = accept
        self._now_ms = now_ms
        self._holder = os.urandom(6).hex()
        self._news = asyncio.Event()

    async def matching(self, tenant: str, wanted: BulkFilter, action: BulkVerb) -> tuple[list[str], int]:
        """The ids of the batches that a filter names, and how many the action fits.

        A Refusal where it names nothing or too many.
        """
        if not any(value for value in msgspec.structs.asdict(wanted).values()):
            raise Refusal("empty_filter", "A bulk action needs a filter: it is never on everything.")
        query = BatchQuery(
            status=wanted.status, tag=wanted.tag, q=wanted.q, created_after=wanted.created_after, limit=_PAGE
        )
        named = None if wanted.batch_ids is None else set(wanted.batch_ids)
        found: list[str] = []
        eligible = 0
        while True:
            page = (await self._views.batches(tenant, query)).found
            these = [one for one in page.data if named is None or one.id in named]
            found += [one.id for one in these]
            eligible += sum(fits(action, one) for one in these)
            if len(found) > BATCHES_MAX:
                raise Refusal("too_many_batches", f"At most {BATCHES_MAX:,} batches at once.")
            if not page.has_more or (named is not None and len(found) == len(named)):
                return found, eligible
            query = msgspec.structs.replace(query, cursor=page.next_cursor)

    async def begin(self, tenant: str, bulk_id: str, asked: BulkRequest, actor: str) -> BulkAction:
        """Counts, and unless it is a dry run begins; a repeat under the same id begins nothing."""
        batch_ids, eligible = await self.matching(tenant, asked.filter, asked.action)
        run = BulkRun(
            id=bulk_id, tenant=tenant, action=asked.action, filter=_filter(asked.filter), actor=actor,
            batch_ids=batch_ids, eligible=eligible, created_at=rfc3339(self._now_ms()),
        )  # fmt: skip
        if asked.dry_run:
            return described(run, dry_run=True)
        await self._store.create(run)
        self._news.set()
        return described(run)

    async def get(self, tenant: str, bulk_id: str) -> BulkAction:
        """As far as it has come."""
        return described(await self._known(tenant, bulk_id))

    async def abort(self, tenant: str, bulk_id: str) -> BulkAction:
        """Does no further batch; what is done stays done."""
        run = await self._known(tenant, bulk_id)
        if run.status != "running":
            detail = f"The bulk action is {run.status}."
            raise StateForbids("bulk_action_state_forbids", detail, run.status)
        await self._store.abort(bulk_id, rfc3339(self._now_ms()))
        return await self.get(tenant, bulk_id)

    async def run(self) -> None:
        """Works on what is begun, this gateway's and what others left, for ever."""
        while True:
            self._news.clear()
            try:
                while run := await self._store.claim(self._holder, LEASE_S):
                    await self._carry_out(run)
            except WorldFailure as error:
                _log.debug("bulk actions wait for a server", error=str(error))
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _carry_out(self, run: BulkRun) -> None:
        while run.position < len(run.batch_ids):
            part = run.batch_ids[run.position : run.position + KEEP_EVERY]
            for batch_id in part:
                run = await self._one(run, batch_id)
            run = msgspec.structs.replace(run, position=run.position + len(part))
            if not await self._store.keep(run, self._holder, LEASE_S):
                return  # aborted, or somebody else's by now
        await self._store.finish(run, self._holder, rfc3339(self._now_ms()))
        _log.info("a bulk action is done", bulk=run.id, action=run.action, done=run.done, skipped=run.skipped,
                  failed=run.failed)  # fmt: skip

    async def _one(self, run: BulkRun, batch_id: str) -> BulkRun:
        replace = msgspec.structs.replace
        origin = self._accept.origin(run.id, run.actor)
        try:
            if run.action == "retry":
                await retry(self._accept, run.tenant, batch_id, Selection(), AS_BEFORE, origin)
            else:
                await self._accept.command(run.tenant, batch_id, _COMMANDS[run.action](), origin)
        except StateForbids:
            return replace(run, skipped=run.skipped + 1)
        except Refusal as refusal:
            if refusal.code == "empty_selection":
                return replace(run, skipped=run.skipped + 1)
            error = BulkError(batch_id=batch_id, code=refusal.code, detail=refusal.detail)
            return replace(run, failed=run.failed + 1, errors=[*run.errors, error][:ERRORS_MAX])
        return replace(run, done=run.done + 1)

    async def _known(self, tenant: str, bulk_id: str) -> BulkRun:
        run = await self._store.get(bulk_id)
        if run is None or run.tenant != tenant:
            raise NotFound("bulk_action_not_found", "There is no such bulk action.")
        return run


def new_bulk_id(now_ms: int) -> str:
    """The id of a bulk action, by which its batches' events name it."""
    return ids.make_id(ids.BULK, now_ms, os.urandom(10))


def fits(action: BulkVerb, batch: Batch) -> bool:
    """Whether an action would do something to a batch, as far as the views know it."""
    match action:
        case "pause":
            return batch.status in ("open", "queued", "processing")
        case "resume":
            return batch.status == "paused"
        case "cancel":
            return batch.status in ACTIVE_STATUSES
        case "retry":
            return batch.sealed_at is not None and batch.counts.failed > 0


def described(run: BulkRun, *, dry_run: bool = False) -> BulkAction:
    """A run as clients see it."""
    return BulkAction(
        id=None if dry_run else run.id, action=run.action, filter=run.filter, dry_run=dry_run,
        status="counted" if dry_run else run.status, matched=len(run.batch_ids),
        eligible=run.eligible, done=run.done, skipped=run.skipped, failed=run.failed, errors=run.errors,
        created_at=run.created_at, finished_at=run.finished_at,
    )  # fmt: skip


def _filter(wanted: BulkFilter) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not None}
