"""A remote service tells what became of a file: its token is the credential, and good for one outcome.

The token names the file; the log has its digest in the file's ``FileWaiting``. What is told becomes the
file's own event under the log's expectation, so that of two outcomes one stands.
"""

import asyncio
import random
import time
from hashlib import sha256

import msgspec
import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.answers import Answer
from services.gateway.batches.reads import file_history
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.openapi import answers
from services.gateway.problems import Busy, InvalidFields
from services.gateway.upload.body import field_error, pieces
from tanda.contracts import codec
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded, new_event
from tanda.contracts.http import Callback, File
from tanda.contracts.results import RESULT_INLINE_BYTES_MAX, BlobRef, FileError
from tanda.contracts.times import rfc3339
from tanda.domain import file
from tanda.domain.callback import Named, is_token_of, parse_token
from tanda.domain.errors import Conflict, NotFound, Refusal, StateForbids
from tanda.domain.retries import decide_retry

router = APIRouter(prefix="/v1/callbacks", tags=["callbacks"])

#: A confirmation may be quicker than the event that it answers to: so long it is waited for.
EARLY_S_MAX = 5.0
EARLY_LOOK_S = 0.05
RESULT_BYTES_MAX = 8 * 1024**2
_CODE_CHARS_MAX = 64
_MESSAGE_CHARS_MAX = 1_000

_log = structlog.get_logger("tanda.gateway")


@router.post("/{token}", openapi_extra=answers(202, File, body=Callback))
async def confirm(request: Request, token: str, gateway: GatewayDep) -> Response:
    """Completes or fails a file that waits for this; 200 where the same was told before."""
    named = parse_token(token)
    if named is None:
        raise _unknown()
    told = await _body(request, gateway)
    history, waiting = await _waiting(gateway, named, token)
    last = history[-1]
    if last.seq != waiting.seq:
        return _repeat(told, last)
    event = await _event(gateway, named, told, history)
    new = new_event(
        last.subject, event, expected_seq=last.seq, time_ms=gateway.now_ms(),
        origin=gateway.accept.origin(actor="callback"),
    )  # fmt: skip
    try:
        (record,) = await gateway.accept.append([new])
    except Conflict:
        return _repeat(told, (await _history(gateway, named))[-1])
    _log.info("a callback settled a file", batch=named.batch_id, file=named.file_id, outcome=record.name)
    return _answer(202, record)


async def _body(request: Request, gateway: Gateway) -> Callback:
    body = pieces(request, gateway.settings, RESULT_BYTES_MAX, "body_too_large")
    raw = b"".join([piece async for piece in body])
    try:
        told = msgspec.json.decode(raw, type=Callback)
    except msgspec.ValidationError as error:
        raise field_error(error) from error
    except (ValueError, RecursionError) as error:  # also bytes that are no UTF-8 within a string
        raise Refusal("bad_json", f"The body is not JSON: {error}.", status=400) from error
    if told.status == "failed" and (told.error is None or not told.error.message.strip()):
        raise InvalidFields(("error", "a failed file needs a code and a message"))
    return told


async def _waiting(gateway: Gateway, named: Named, token: str) -> tuple[list[Recorded], Recorded]:
    """The file's events and the ``FileWaiting`` of this token; NotFound where there is none."""
    deadline = time.monotonic() + EARLY_S_MAX
    while True:
        history = await _history(gateway, named)
        if not history:
            raise _unknown()
        for record in history:
            if isinstance(record.event, e.FileWaiting) and is_token_of(token, record.event.token_sha256):
                return history, record
        last = history[-1].event
        if not isinstance(last, e.FileStarted) or last.attempt != named.attempt:
            raise _unknown()
        if time.monotonic() > deadline:
            raise Busy("not_waiting_yet", "The file does not wait for this yet; tell it again.")
        await asyncio.sleep(EARLY_LOOK_S)


async def _history(gateway: Gateway, named: Named) -> list[Recorded]:
    return await file_history(gateway, named.tenant, named.batch_id, named.file_id)


def _repeat(told: Callback, last: Recorded) -> Response:
    """The file is settled already: 200 for the same outcome, 409 for another one."""
    match last.event:
        case e.FileCompleted() as event if told.status == "completed":
            if sha256(codec.encode(told.result)).hexdigest() == event.result_sha256:
                return _answer(200, last)
        case e.FileFailed() | e.FileAttemptFailed() if told.status == "failed":
            return _answer(200, last)
        case _:
            pass
    status = e.STATUS_AFTER[type(last.event)]
    raise StateForbids("file_state_forbids", f"The file is {status} and takes no other outcome.", status)


async def _event(gateway: Gateway, named: Named, told: Callback, history: list[Recorded]) -> e.Event:
    state = file.initial()
    for record in history:
        state = file.evolve(state, record.event)
    started = next(one.event for one in reversed(history) if isinstance(one.event, e.FileStarted))
    command = await _command(gateway, named, told, started)
    return file.decide(state, command)[0]


async def _command(gateway: Gateway, named: Named, told: Callback, started: e.FileStarted) -> c.Command:
    if told.error is not None and told.status == "failed":
        return _failure(gateway, told.error.code, told.error.message, told.error.retryable, started)
    body = codec.encode(told.result)
    inline = len(body) <= RESULT_INLINE_BYTES_MAX
    return c.CompleteFile(
        processor=started.processor,
        processor_version=started.processor_version,
        duration_ms=0,
        result_sha256=sha256(body).hexdigest(),
        result_bytes=len(body),
        result=msgspec.Raw(body) if inline else e.NO_RESULT,
        result_ref=None if inline else await _store(gateway, named, body),
        provider=started.provider,
    )


def _failure(
    gateway: Gateway, code: str, message: str, retryable: bool, started: e.FileStarted
) -> c.FailFile:
    error = FileError(
        code=code.strip()[:_CODE_CHARS_MAX] or "provider_refused",
        message=message.strip()[:_MESSAGE_CHARS_MAX],
        retryable=retryable,
    )
    retry_ms = decide_retry(
        error, started.attempt, attempts_max=gateway.settings.attempts_max, now_ms=gateway.now_ms(),
        entropy=random.random(),  # noqa: S311 - spreads load, guards nothing
    )  # fmt: skip
    return c.FailFile(
        error=error,
        retry_at=None if retry_ms is None else rfc3339(retry_ms),
        provider=started.provider,
        quarantined=retryable and retry_ms is None,
    )


async def _store(gateway: Gateway, named: Named, body: bytes) -> BlobRef:
    digest = sha256(body).hexdigest()
    key = f"t/{named.tenant}/{named.batch_id}/out/{digest}"
    ref = await gateway.blobs.put(key, body, sha256=digest, content_type="application/json")
    await gateway.blobs.barrier()
    return ref


def _answer(status: int, record: Recorded) -> Response:
    body = {"file_id": record.file_id, "status": e.STATUS_AFTER[type(record.event)]}
    return Answer(status=status, body=codec.encode(body), headers={"Tanda-Seq": str(record.seq)}).response()


def _unknown() -> NotFound:
    return NotFound("callback_not_found", "Nobody waits for this token.")
