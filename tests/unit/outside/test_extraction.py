"""The options of the llm processor, and whether an answer is what its schema asks for."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tanda.domain.extraction import Schema, extraction, mismatch

OBJECT = {"type": "object"}
LINES = {
    "type": "object",
    "properties": {
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"amount": {"type": ["number", "null"]}, "kind": {"enum": ["sale", "refund"]}},
                "required": ["amount"],
                "additionalProperties": False,
            },
        },
        "when": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def test_options_have_their_defaults() -> None:
    asked = extraction({"model": "m", "schema": OBJECT})
    assert (asked.provider, asked.instructions) == ("anthropic", "")
    assert 0 < asked.max_tokens <= 64_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schema": OBJECT}, "model"),
        ({"model": "", "schema": OBJECT}, "model"),
        ({"model": "m"}, "schema"),
        ({"model": "m", "schema": {"type": "array"}}, "object"),
        ({"model": "m", "schema": {}}, "object"),
        ({"model": "m", "schema": OBJECT | {"required": "all"}}, "required"),
        ({"model": "m", "schema": nested(40)}, "nested deeper"),
        ({"model": "m", "schema": nested(900)}, "nested deeper"),
        ({"model": "m", "schema": OBJECT, "instructions": "x" * 4_001}, "instructions"),
        ({"model": "m", "schema": OBJECT, "max_tokens": 0}, "max_tokens"),
        ({"model": "m", "schema": OBJECT, "temprature": 1}, "temprature"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_options_that_are_wrong_are_named(options: dict[str, Any], words: str) -> None:
    """One sentence that says which; a name that nobody knows is a mistake, not a wish."""
    with pytest.raises(ValueError, match=words):
        extraction(options)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({}, None),
        ({"lines": [], "more": 1}, None),
        ({"lines": [{"amount": 1.5, "kind": "sale"}, {"amount": None}], "when": None}, None),
        ([], "the answer is not of the type object"),
        ({"lines": {}}, "the answer.lines is not of the type array"),
        ({"lines": [{"amount": 1}, {"kind": "sale"}]}, "the answer.lines[1] lacks 'amount'"),
        ({"lines": [{"amount": True}]}, "the answer.lines[0].amount is not of the type number or null"),
        ({"lines": [{"amount": 1, "kind": "gift"}]}, "the answer.lines[0].kind is none of the values"),
        ({"lines": [{"amount": 1, "tip": 1}]}, "the answer.lines[0] has a property"),
        ({"when": 7}, "the answer.when fits no form"),
    ],
)
def test_the_first_place_that_does_not_fit_is_named(value: Any, wrong: str | None) -> None:
    """Missing, of another type, not allowed: each with its path."""
    found = mismatch(value, msgspec.convert(LINES, Schema))
    assert found is None if wrong is None else found is not None and found.startswith(wrong)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("integer", 3, 3.5), ("integer", 3.0, "3"), ("integer", 0, False), ("number", 2.5, True),
        ("string", "", None), ("boolean", False, 0), ("null", None, 0), ("array", [], {}),
    ],
)  # fmt: skip
def test_types_are_those_of_json(kind: str, good: Any, bad: Any) -> None:
    """True is no number, and 3.0 is an integer."""
    assert mismatch(good, Schema(type=kind)) is None
    assert mismatch(bad, Schema(type=kind)) is not None


@given(json_values)
def test_any_answer_has_a_verdict(value: Any) -> None:
    """Whatever a model writes, nothing breaks; without a schema's words everything fits."""
    assert mismatch(value, Schema()) is None
    assert isinstance(mismatch(value, msgspec.convert(LINES, Schema)), str | None)
