"""Every error as RFC 9457 problem details: refusals, a failing world, the framework's own, and bugs."""

import asyncio
import contextlib
import math
import secrets
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tanda.contracts import codec
from tanda.contracts.http import Problem
from tanda.domain.errors import Refusal, Unavailable, WorldFailure

PROBLEM_JSON = "application/problem+json"
#: After a refusal in mid-body we read on for this long, so that the client sees the answer.
LINGER_S = 5.0
#: An unread body up to this size is in the kernel's buffers already, and the connection may live on.
SMALL_BODY_BYTES = 64 * 1024

#: Titles by status; the detail says the rest.
TITLES = {
    400: "Bad request", 401: "Not authenticated", 403: "Forbidden", 404: "Not found",
    405: "Method not allowed", 406: "Not acceptable", 408: "Request timeout", 409: "Conflict", 410: "Gone",
    413: "Content too large", 415: "Unsupported media type", 416: "Range not satisfiable",
    422: "Unprocessable content", 429: "Too many requests", 500: "Internal error",
    503: "Service unavailable",
}  # fmt: skip
_FRAMEWORK_CODES = {404: "route_not_found", 405: "method_not_allowed"}

log = structlog.get_logger(__name__)


class InvalidFields(Refusal):
    """422 with the fields that are wrong, each with a sentence."""

    def __init__(self, *errors: tuple[str, str]) -> None:
        detail = "; ".join(f"{field}: {text}" for field, text in errors)
        listed = [{"field": field, "detail": text} for field, text in errors]
        super().__init__("invalid_fields", detail, errors=listed)


class Busy(Refusal):
    """503: a bound of this process is reached; the client should come back."""

    status = 503

    def __init__(self, code: str, detail: str, retry_after_s: float = 2.0) -> None:
        super().__init__(code, detail, retry_after_s=retry_after_s)


class ProblemResponse(Response):
    """A problem document."""

    media_type = PROBLEM_JSON


class LingeringProblem(ProblemResponse):
    """Answers at once in the middle of a body, then reads on for a moment before the connection closes.

    Closing with unread bytes would reset the connection, and the client might never see the answer.
    """

    @classmethod
    def of(cls, answer: ProblemResponse) -> "LingeringProblem":
        return cls(bytes(answer.body), answer.status_code, {**answer.headers, "connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def problem(
    status: int, code: str, detail: str, *, path: str | None = None, **fields: Any
) -> ProblemResponse:
    """The answer for an error; ``retry_after_s`` becomes a header, what else is known a member."""
    headers = {"Cache-Control": "no-store"}
    retry_after_s = fields.pop("retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    headers.update(fields.pop("headers", {}))
    known = {name: fields[name] for name in ("errors", "state") if fields.get(name) is not None}
    document = Problem(
        type=f"urn:tanda:problem:{code}",
        title=TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        code=code,
        instance=path,
        **known,
    )
    return ProblemResponse(codec.encode(document), status, headers)


def of_error(error: Exception, path: str | None = None) -> ProblemResponse:
    """The problem of an exception; one that nobody expected is logged under an id and told by it only."""
    match error:
        case Refusal():
            return problem(error.status, error.code, error.detail, path=path, **error.fields)
        case Unavailable():
            detail = f"{error.dependency} does not answer; the request may be repeated."
            return problem(503, "unavailable", detail, path=path, retry_after_s=error.retry_after_s)
        case WorldFailure():
            log.error("A request failed on the world.", error=str(error), path=path)
            return problem(503, "unavailable", "Something we depend on failed.", path=path, retry_after_s=2)
        case RequestValidationError():
            return _of_validation(error, path)
        case HTTPException():
            return _of_http(error, path)
        case _:
            return _of_bug(error, path)


def _of_validation(error: RequestValidationError, path: str | None) -> ProblemResponse:
    pairs = [(".".join(str(part) for part in item["loc"][1:]), str(item["msg"])) for item in error.errors()]
    return of_error(InvalidFields(*pairs), path)


def _of_http(error: HTTPException, path: str | None) -> ProblemResponse:
    code = _FRAMEWORK_CODES.get(error.status_code, f"http_{error.status_code}")
    detail = TITLES.get(error.status_code, str(error.detail)) + "."
    return problem(error.status_code, code, detail, path=path, headers=dict(error.headers or {}))


def _of_bug(error: Exception, path: str | None) -> ProblemResponse:
    error_id = f"err_{secrets.token_hex(8)}"
    log.error("A request failed on a bug.", error_id=error_id, path=path, exc_info=error)
    return problem(500, "internal_error", f"Something went wrong here. Its id is {error_id}.", path=path)


async def _handle(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        log.info("A client left before its request was complete.", path=request.url.path)
        return Response(status_code=499)
    answer = of_error(error, request.scope["path"])
    return LingeringProblem.of(answer) if _is_unread(request) else answer


def _is_unread(request: Request) -> bool:
    """Whether much of the body may still be on its way."""
    known: bool | None = getattr(request.state, "body_unfinished", None)
    if known is not None:
        return known
    length = request.headers.get("content-length", "0")
    return "transfer-encoding" in request.headers or not length.isdecimal() or int(length) > SMALL_BODY_BYTES


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem document."""
    for kind in (Refusal, WorldFailure, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, _handle)


class BugShield:
    """The outermost layer: an unexpected exception becomes one log line and a 500 without details."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            answer = of_error(error, scope["path"])
            if started:
                raise
            await answer(scope, receive, send)
