"""The http processor against a server on loopback: what is sent, and what an answer's body means."""

from collections.abc import AsyncIterator
from hashlib import sha256

import msgspec
import pytest

from services.worker.outside import Call, Http
from tanda.contracts.results import BlobRef, Failure, Pending, Result
from tanda.contracts.work import WorkItem
from tanda.settings import Settings
from tests.provider import Answer, Provider, provider

CONTENT = b"a picture"
DIGEST = sha256(CONTENT).hexdigest()
ITEM = WorkItem(
    tenant="acme", batch_id="bat_1", file_id="fil_1", seq=1, attempt=2, name="foto ñ.png", processor="http",
    content_type="image/png", bytes=len(CONTENT), sha256=DIGEST, options={"endpoint": "publisher"},
    source=BlobRef(key="k", bytes=len(CONTENT), sha256=DIGEST),
)  # fmt: skip
CALLBACK = "https://tanda.example/v1/callbacks/token"
ANSWER_BYTES_MAX = 1_000


async def post(answer: Answer | None, item: WorkItem = ITEM) -> tuple[Result | Failure | Pending, Provider]:
    """One call of a processor of its own."""

    async def source() -> AsyncIterator[bytes]:
        yield CONTENT[:4]
        yield CONTENT[4:]

    async with provider(lambda _: answer) as provided:
        settings = Settings(provider_answer_bytes_max=ANSWER_BYTES_MAX, provider_wall_s=20.0)
        http = Http({"publisher": provided.url}, settings)
        try:
            return await http.call(Call(item=item, source=source, callback_url=CALLBACK)), provided
        finally:
            await http.close()


async def test_the_file_is_sent_as_it_is_with_who_it_is() -> None:
    """Its bytes as the body, its name in percent, one key for every delivery of the attempt."""
    outcome, provided = await post((200, {}, b'{"ok": true}'))
    assert outcome == Result(data={"ok": True})
    (seen,) = provided.calls
    assert seen.body == CONTENT and seen.headers["content-type"] == "image/png"
    assert seen.headers["tanda-file-name"] == "foto%20%C3%B1.png"
    assert (seen.headers["idempotency-key"], seen.headers["tanda-callback"]) == ("fil_1-2", CALLBACK)


async def test_a_reference_says_where_to_find_the_file() -> None:
    item = msgspec.structs.replace(ITEM, options={"endpoint": "publisher", "send": "reference"})
    _, provided = await post((202, {}, b""), item)
    sent = msgspec.json.decode(provided.calls[0].body)
    assert sent["source_url"] == "https://tanda.example/v1/batches/bat_1/files/fil_1/source"
    assert (sent["sha256"], sent["callback_url"]) == (DIGEST, CALLBACK)


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        ((200, {}, b"<h1>Welcome</h1>"), "bad_answer", False),
        ((200, {}, b'"\xff"'), "bad_answer", False),
        ((200, {}, b"[" * 900), "bad_answer", False),
        ((201, {}, b"1" * (ANSWER_BYTES_MAX + 1)), "bad_answer", False),
        ((422, {}, b'{"error": "\xff"}'), "provider_refused", False),
        ((308, {"Location": "http://127.0.0.1:9/"}, b""), "provider_refused", False),
        ((504, {}, b""), "provider_error", True),
        (None, "provider_unreachable", True),
    ],
)
async def test_an_answer_that_is_no_result(answer: Answer | None, code: str, retryable: bool) -> None:
    """Whatever comes, it is a failure with a reason, and never an exception."""
    outcome, _ = await post(answer)
    assert isinstance(outcome, Failure) and outcome.message
    assert (outcome.code, outcome.retryable) == (code, retryable)
