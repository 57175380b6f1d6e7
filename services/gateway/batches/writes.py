"""The routes that create and command. Each takes a body, asks ``Accept`` and answers with its events."""

import asyncio
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import Caller, CallerDep, authenticate
from services.gateway.answers import Answer, written
from services.gateway.batches import bodies
from services.gateway.batches.accept import (
    CHUNK_EVENTS,
    Accept,
    batch_not_found,
    check_open,
    check_same_file,
    digest_of,
    in_turns,
)
from services.gateway.batches.draft import Draft, NewFile, Written
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.idempotency import IdempotencyKey
from services.gateway.openapi import answers
from services.gateway.problems import InvalidFields
from services.gateway.upload.body import json_body
from services.gateway.upload.fields import batch_fields, create_command, file_command
from services.gateway.upload.intake import form_digest
from services.gateway.upload.packing import Received
from services.gateway.upload.receive import Form
from tanda.contracts import commands as c
from tanda.contracts import ids
from tanda.contracts.codec import encode
from tanda.contracts.events import BatchCreated
from tanda.contracts.http import Batch, File, FilesAdded, OpenBatch
from tanda.contracts.times import rfc3339
from tanda.domain.errors import Refusal

router = APIRouter(prefix="/v1/batches", tags=["batches"], dependencies=[Depends(authenticate)])

#: How long a command's answer waits for the view before it is built from the log instead.
VIEW_WAIT_S = 0.25
#: The same where the view's server does not answer at all.
VIEW_ANSWER_S = 1.0


@router.post("", openapi_extra=answers(201, Batch, body=OpenBatch, multipart=True))
async def create_batch(
    request: Request, caller: CallerDep, gateway: GatewayDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Creates a batch: with its files as ``multipart/form-data``, or open and empty as JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await upload(request, caller, gateway, idempotency_key)
    if kind == "application/json":
        return await _open(request, caller, gateway, idempotency_key)
    raise Refusal("unsupported_body", "Send multipart/form-data with files, or JSON.", status=415)


async def upload(
    request: Request,
    caller: Caller,
    gateway: Gateway,
    key: str | None,
    *,
    owner: str | None = None,
    answer: Callable[[Written], Answer] | None = None,
) -> Response:
    """A multipart body as a whole batch; an older front end names the owner and answers in its own words."""
    batch_id = gateway.new_batch_id()
    prefix = source_prefix(caller.tenant, batch_id)
    async with gateway.intake.slot(), gateway.intake.store(prefix, discard_packs=True) as store:
        form = await gateway.intake.form(request, store)
        if owner is not None:
            form.fields["owner"] = [owner]
        command = _command(gateway, form)

        async def create(reserved_id: str) -> Answer:
            await store.flush()
            draft = await _draft(gateway, caller, reserved_id, command, form, key)
            await store.finish()
            store.promise()
            done = await _create(gateway, draft)
            if done.repeated:
                await store.discard(packs=True)
            return answer(done) if answer else _batch_answer(201, done)

        outcome = await gateway.once(caller, key, form_digest(form), batch_id, create)
        if outcome.replayed:
            await store.discard(packs=True)
        return outcome.response()


def _command(gateway: Gateway, form: Form) -> c.CreateBatch:
    fields = batch_fields(form)
    if not form.files:
        raise Refusal("empty_batch", "A batch needs at least one file.")
    default = form.files[0].name if len(form.files) == 1 else _default_name(gateway)
    known = gateway.processors, gateway.providers
    return create_command(fields, default, *known, is_open=False)


def _default_name(gateway: Gateway) -> str:
    return rfc3339(gateway.now_ms())[:19].replace("T", " ")


async def _draft(
    gateway: Gateway, caller: Caller, batch_id: str, command: c.CreateBatch, form: Form, key: str | None
) -> Draft:
    """The batch's events, made while the store is still busy with the last bytes."""
    files = await in_turns(form.files, lambda file: _new_file(batch_id, file, command))
    return await gateway.accept.draft(caller.tenant, batch_id, command, files, gateway.accept.origin(key))


async def _create(gateway: Gateway, draft: Draft) -> Written:
    began = time.monotonic()
    done = await gateway.accept.create(draft)
    file_bytes = sum(one.command.bytes for one in draft.files)
    gateway.metrics.accepted(len(draft.files), file_bytes, time.monotonic() - began)
    return done


def _new_file(batch_id: str, file: Received, batch: c.CreateBatch) -> NewFile:
    command = file_command(file, batch.processor, batch.options)
    return NewFile(file_id=ids.indexed_file_id(batch_id, file.index), command=command)


def _batch_answer(status: int, done: Written) -> Answer:
    body = bodies.batch_of(done.batch_id, done.records)
    location = f"/v1/batches/{done.batch_id}" if status == 201 else None
    return written(status, body, done.seq, location=location)


async def _open(request: Request, caller: Caller, gateway: Gateway, key: str | None) -> Response:
    fields, raw = await json_body(request, gateway.settings, OpenBatch)
    known = gateway.processors, gateway.providers
    command = create_command(fields, _default_name(gateway), *known, is_open=True)

    async def create(reserved_id: str) -> Answer:
        done = await gateway.accept.open(caller.tenant, reserved_id, command, gateway.accept.origin(key))
        return _batch_answer(201, done)

    digest = sha256(b"open\0" + raw).hexdigest()
    return (await gateway.once(caller, key, digest, gateway.new_batch_id(), create)).response()


@router.put("/{batch_id}/files/{name:path}", openapi_extra=answers(201, File, body=bytes))
async def put_file(
    request: Request,
    batch_id: str,
    name: str,
    caller: CallerDep,
    gateway: GatewayDep,
    index: Annotated[int | None, Query(ge=0, lt=10**9)] = None,
) -> Response:
    """Adds a file to an open batch: 201, or 200 where the same file is there already, sealed or not."""
    if not name or len(name.encode()) > 1024:
        raise Refusal("bad_name", "A file's name has 1 to 1,024 bytes.")
    tenant = await owner_of(gateway, caller, batch_id)
    state, created = await gateway.accept.batch_created(tenant, batch_id)
    file_id = ids.file_id(batch_id, name)
    try:
        check_open(state)
    except Refusal:  # a repeat is welcome, whatever came after the first
        if await gateway.accept.file_there(tenant, batch_id, file_id) is None:
            raise
    prefix = source_prefix(tenant, batch_id)
    async with gateway.intake.slot(), gateway.intake.store(prefix, discard_packs=False) as store:
        there = await gateway.accept.file_there(tenant, batch_id, file_id)
        file = await gateway.intake.file(
            request, store, name, index or 0, created.processor, known=there and digest_of(there)
        )
        if there is not None:
            check_same_file(there, file.sha256)
            return written(200, bodies.file_of(there), there.seq).response()
        new = NewFile(file_id=file_id, command=file_command(file, created.processor, created.options))
        store.promise()
        record, added = await gateway.accept.add_file(
            tenant, batch_id, new, gateway.accept.origin(), has_index=index is not None
        )
        if not added:
            await store.discard(packs=False)
    return written(201 if added else 200, bodies.file_of(record), record.seq).response()


@router.post("/{batch_id}/files", openapi_extra=answers(201, FilesAdded, files=True))
async def add_files(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    index: Annotated[int, Query(ge=0, lt=10**9)],
) -> Response:
    """Adds many files to an open batch, at ``index`` and after it: 201, or 200 where all were there."""
    tenant = await owner_of(gateway, caller, batch_id)
    state, created = await gateway.accept.batch_created(tenant, batch_id)
    check_open(state)
    prefix = source_prefix(tenant, batch_id)
    # Not taken back where it fails: a repeat may have put the very same object.
    async with gateway.intake.slot(), gateway.intake.store(prefix, discard_packs=False) as store:
        form = await gateway.intake.form(request, store, created.processor)
        if form.fields:
            raise InvalidFields(*((name[:100], "only files are added here") for name in form.fields))
        if not 0 < len(form.files) <= CHUNK_EVENTS:
            raise Refusal("bad_file_count", f"Add 1 to {CHUNK_EVENTS:,} files at a time.")
        await store.finish()
        store.promise()
        files = [_placed(batch_id, index + file.index, file, created) for file in form.files]
        added, seq = await gateway.accept.add_files(tenant, batch_id, files, gateway.accept.origin())
        if not added:
            await store.discard(packs=False)
    return written(201 if added else 200, FilesAdded(added=added), seq).response()


def _placed(batch_id: str, index: int, file: Received, batch: BatchCreated) -> NewFile:
    """A file known by its place, which no name can be: several files may have one name."""
    file.index = index
    command = file_command(file, batch.processor, batch.options)
    return NewFile(file_id=ids.file_id(batch_id, f"\0{index}"), command=command)


@router.post("/{batch_id}/seal", openapi_extra=answers(202, Batch))
async def seal_batch(
    batch_id: str, caller: CallerDep, gateway: GatewayDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Closes an open batch: it is processed from now on."""
    tenant = await owner_of(gateway, caller, batch_id)

    async def seal(_: str) -> Answer:
        origin = gateway.accept.origin(idempotency_key)
        return _batch_answer(202, await gateway.accept.seal(tenant, batch_id, origin))

    digest = sha256(f"seal\0{batch_id}".encode()).hexdigest()
    return (await gateway.once(caller, idempotency_key, digest, batch_id, seal)).response()


@router.post("/{batch_id}/pause", openapi_extra=answers(202, Batch))
async def pause_batch(
    batch_id: str, caller: CallerDep, gateway: GatewayDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Releases nothing more of a batch; what runs is finished."""
    return await command_batch(gateway, caller, batch_id, c.PauseBatch(), idempotency_key)


@router.post("/{batch_id}/resume", openapi_extra=answers(202, Batch))
async def resume_batch(
    batch_id: str, caller: CallerDep, gateway: GatewayDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Lets a paused batch go on."""
    return await command_batch(gateway, caller, batch_id, c.ResumeBatch(), idempotency_key)


@router.post("/{batch_id}/cancel", openapi_extra=answers(202, Batch))
async def cancel_batch(
    batch_id: str, caller: CallerDep, gateway: GatewayDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Stops a batch for good: what is not running yet will not run."""
    return await command_batch(gateway, caller, batch_id, c.CancelBatch(), idempotency_key)


async def command_batch(
    gateway: Gateway, caller: Caller, batch_id: str, command: c.Command, key: str | None
) -> Response:
    """202 with the batch as it is after a command that its own aggregate decides."""
    tenant = await owner_of(gateway, caller, batch_id)

    async def run(_: str) -> Answer:
        origin = gateway.accept.origin(key, caller.actor)
        seq = await gateway.accept.command(tenant, batch_id, command, origin)
        return written(202, await batch_after(gateway, caller, tenant, batch_id, seq), seq)

    digest = sha256(f"{type(command).__name__}\0{batch_id}\0".encode() + encode(command)).hexdigest()
    return (await gateway.once(caller, key, digest, batch_id, run)).response()


async def batch_after(gateway: Gateway, caller: Caller, tenant: str, batch_id: str, seq: int) -> Batch:
    """The batch with the event at ``seq`` in it: from the view where that has it soon, else from the log."""
    try:
        async with asyncio.timeout(VIEW_ANSWER_S):
            await gateway.positions.reached(seq, VIEW_WAIT_S)
            found = (await gateway.views.batch(caller.scope, batch_id)).found
    except Exception:  # the command is done; the log knows what the view does not tell
        found = None
    return found or await batch_from_log(gateway.accept, tenant, batch_id)


async def batch_from_log(accept: Accept, tenant: str, batch_id: str) -> Batch:
    """The batch folded from its events: slower than the view, and never behind."""
    return bodies.batch_of(batch_id, await accept.all_records(tenant, batch_id))


async def owner_of(gateway: Gateway, caller: Caller, batch_id: str) -> str:
    """The tenant of a batch that the caller may touch; NotFound alike for foreign and unknown ones."""
    if not ids.is_id(batch_id, ids.BATCH):
        raise batch_not_found()
    tenant = await gateway.accept.tenant_of(batch_id) if caller.operator else caller.tenant
    if tenant is None:
        raise batch_not_found()
    return tenant


def source_prefix(tenant: str, batch_id: str) -> str:
    """Where a batch's sources are; the key goes on with the digest, never with a user's name."""
    return f"t/{tenant}/{batch_id}/src/"
