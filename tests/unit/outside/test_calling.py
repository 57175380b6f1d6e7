"""What a provider's answers mean, and the tokens of callbacks."""

from datetime import UTC, datetime

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.outside.calling import refusal, retry_after_s, words
from tanda.domain.callback import Named, is_token_of, make_token, parse_token, token_sha256

NOW = datetime(2026, 11, 21, 5, 13, tzinfo=UTC)
NAMED = Named("acme", "bat_01KZWAV4SVQ4W8B1R6N0XJ3M5T", "fil_01KZWAV4SVZ7D2K9C5H8P0QERA", 2)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("7", 7.0), ("0", 0.0), ("soon", None), ("-3", None),
        ("Sat, 21 Nov 2026 05:13:30 GMT", 30.0), ("Sat, 21 Nov 2026 05:12:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    """Seconds, or a date that may have passed; anything else is as if it were not there."""
    assert retry_after_s(header, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (429, "rate_limited", True), (503, "unavailable", True), (529, "unavailable", True),
        (500, "provider_error", True), (502, "provider_error", True),
        (400, "provider_refused", False), (401, "provider_refused", False), (302, "provider_refused", False),
    ],
)  # fmt: skip
def test_a_refusal_is_of_its_kind(status: int, code: str, retryable: bool) -> None:
    """What may pass is tried again, what may not is not; a redirect is never followed."""
    failure = refusal(status, httpx2.Headers({"Retry-After": "5"}), b"", NOW)
    assert (failure.code, failure.retryable) == (code, retryable)
    assert failure.retry_after_s == (5.0 if status in (429, 503, 529) else None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"type": "x", "message": "too\\nlong"}}', "too long"),
        (b'{"detail": "no such model"}', "no such model"),
        (b"plain \x1b[31mtext", "plain [31mtext"),
        (b"", ""),
        (b'{"error": null}', ""),
        (b'{"error": "\xff"}', '{"error": "\ufffd"}'),
        (b"\xff\xfe" + b"x" * 5_000, "\ufffd\ufffd" + "x" * 298),
    ],
)
def test_a_providers_words_are_one_clean_line(body: bytes, said: str) -> None:
    assert words(body) == said


def test_a_token_names_its_attempt_and_no_other_fits() -> None:
    """What the log holds is a digest; another secret for the same attempt is another token."""
    token = make_token(NAMED, "secret")
    assert parse_token(token) == NAMED
    assert is_token_of(token, token_sha256(token))
    assert not is_token_of(make_token(NAMED, "other"), token_sha256(token))


@given(st.text(max_size=600))
def test_any_text_is_a_token_or_none(text: str) -> None:
    """Whatever is sent, nothing breaks."""
    assert parse_token(text) is None
