"""Whatever the servers may say was wrong or is incomplete has words in the console."""

import re

from tests.house.sources import ROOT
from tests.house.words.codes import file_codes, request_codes, warning_codes

TEXT = ROOT / "console" / "src" / "text"


def _keys(name: str, prefix: str = "") -> set[str]:
    """The keys of a table of words, those that begin so."""
    return set(re.findall(rf"[{{ \n]{prefix}(\w+): \"", (TEXT / name).read_text()))


def test_every_failure_of_a_file_has_a_title() -> None:
    """In both languages; the processors' own docstrings name the codes, the sources are what counts."""
    assert {"malformed_xml", "rate_limited", "unsupported_type", "memory"} <= file_codes()
    assert file_codes() <= _keys("en-more.ts", "cause_")
    assert file_codes() <= _keys("es-more.ts", "cause_")


def test_every_refusal_of_a_request_is_told_in_spanish() -> None:
    """The API's own sentences are the English ones."""
    assert {"batch_not_found", "busy", "invalid_fields", "file_too_large"} <= request_codes()
    assert request_codes() <= _keys("es-refused.ts")


def test_every_warning_of_a_result_has_words() -> None:
    """In both languages, and none that nobody gives."""
    assert {"no_text_layer", "not_drawn", "no_thumbnail", "ragged_rows"} <= warning_codes()
    assert _keys("en-more.ts", "warning_") == _keys("es-more.ts", "warning_") == warning_codes()


def test_no_words_are_kept_for_what_nobody_says() -> None:
    """A code that is gone takes its words with it."""
    assert _keys("es-more.ts", "cause_") - file_codes() == {"none"}
    assert _keys("es-refused.ts") == request_codes()
