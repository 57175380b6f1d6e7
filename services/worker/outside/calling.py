"""What every outside processor shares: the call, the answer within bounds, and what a refusal means."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

import httpx2
import msgspec

from tanda.contracts.results import Failure, Pending, Result
from tanda.contracts.work import WorkItem

#: A provider's words about a refusal, cut to what a person reads.
REASON_CHARS_MAX: Final = 300
#: Answers that ask for a pause: too many requests, unavailable, and Anthropic's overloaded.
PAUSE_CODES: Final = {429: "rate_limited", 503: "unavailable", 529: "unavailable"}
#: Request Timeout: it was the way, not the file.
TOO_SLOW: Final = 408
CONNECT_S: Final = 10.0


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of one file on its way out."""

    item: WorkItem
    #: The file's bytes, from the start, as often as it is called.
    source: Callable[[], AsyncIterator[bytes]]
    #: Where the provider may confirm later; whoever knows it may.
    callback_url: str

    @property
    def idempotency_key(self) -> str:
        """The same for every delivery of an attempt: a provider that heeds it does the work once."""
        return f"{self.item.file_id}-{self.item.attempt}"


class Outside(Protocol):
    """A processor that calls a provider."""

    version: str

    async def call(self, call: Call) -> Result | Failure | Pending:
        """Never raises for what a provider or the network does."""
        ...

    def question(self, item: WorkItem) -> bytes | None:
        """What decides an item's result besides its bytes, options and version; None: always call."""
        ...


class AnswerTooLarge(Exception):
    """A provider sent more than the settings allow."""


async def bounded(response: httpx2.Response, bytes_max: int) -> bytes:
    """The whole answer; AnswerTooLarge beyond ``bytes_max``."""
    pieces: list[bytes] = []
    total = 0
    async for piece in response.aiter_bytes():
        total += len(piece)
        if total > bytes_max:
            raise AnswerTooLarge
        pieces.append(piece)
    return b"".join(pieces)


def too_large(bytes_max: int) -> Failure:
    """An answer beyond what the settings allow: the same call would bring it again."""
    return Failure(code="bad_answer", message=f"The answer has more than {bytes_max:,} bytes.")


def refusal(status: int, headers: httpx2.Headers, body: bytes, now: datetime) -> Failure:
    """What an answer that is no success means for the file."""
    wait_s = retry_after_s(headers.get("retry-after"), now)
    return meaning(status, f"HTTP {status}", words(body), wait_s)


def meaning(status: int, named: str, reason: str, wait_s: float | None = None) -> Failure:
    """A status as a failure; an error in the middle of a stream has the one that it would have been."""
    said = f"({named}): {clean(reason)}" if reason else f"({named})."
    if status in PAUSE_CODES:
        message = f"The provider asks for a pause {said}"
        return Failure(code=PAUSE_CODES[status], message=message, retryable=True, retry_after_s=wait_s)
    if status >= 500 or status == TOO_SLOW:
        return Failure(code="provider_error", message=f"The provider failed {said}", retryable=True)
    return Failure(code="provider_refused", message=f"The provider refused the file {said}")


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """``Retry-After`` in seconds or as a date; None where there is none that one could obey."""
    if header is None:
        return None
    text = header.strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def words(body: bytes) -> str:
    """A provider's reason in one line: its JSON's message where there is one, else its text."""
    text = body[: 8 * REASON_CHARS_MAX].decode("utf-8", "replace")
    try:
        said = msgspec.json.decode(body)
    except (ValueError, RecursionError):  # also bytes that are no UTF-8 within a string
        said = None
    if isinstance(said, dict):
        error = said.get("error")  # pyright: ignore[reportUnknownMemberType]
        found = error.get("message") if isinstance(error, dict) else error  # pyright: ignore[reportUnknownMemberType]
        text = str(found or said.get("detail") or said.get("message") or "")  # pyright: ignore[reportUnknownMemberType]
    return clean(text)


def clean(text: str) -> str:
    """Somebody else's words as one line that is safe to show."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line[:REASON_CHARS_MAX]


def unreachable(error: Exception) -> Failure:
    """A connection that could not be made, broke, or took too long."""
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        message = "The provider did not answer in time."
        return Failure(code="provider_timeout", message=message, retryable=True)
    message = f"The provider could not be reached ({type(error).__name__})."
    return Failure(code="provider_unreachable", message=message, retryable=True)
