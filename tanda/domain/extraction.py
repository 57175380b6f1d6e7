"""What the ``llm`` processor is asked for, and whether an answer is what was asked for.

The check knows the words of JSON Schema that decide an answer's shape: types, properties, required,
items, enum, anyOf and additionalProperties. What it does not know it lets pass; the model is told all.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

#: The model is to fill in what the schema names, not to solve a puzzle; deeper is a mistake.
SCHEMA_DEPTH_MAX: Final = 64
MODEL_CHARS_MAX: Final = 128
INSTRUCTIONS_CHARS_MAX: Final = 4_000
#: Some twenty pages of JSON, or half of that after some thinking; the models of today write that much.
TOKENS_DEFAULT: Final = 16_000
TOKENS_MAX: Final = 64_000

_PLAIN: Final = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a JSON Schema that is checked here."""

    type: str | list[str] | None = None
    properties: dict[str, "Schema"] = {}
    required: list[str] = []
    items: "Schema | None" = None
    enum: list[Any] | None = None
    any_of: list["Schema"] = msgspec.field(name="anyOf", default=[])
    additional: Any = msgspec.field(name="additionalProperties", default=True)


class Extraction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the ``llm`` processor."""

    model: Annotated[str, Meta(min_length=1, max_length=MODEL_CHARS_MAX)]
    #: JSON Schema of an object, sent as it is.
    schema: dict[str, Any]
    provider: str = "anthropic"
    instructions: Annotated[str, Meta(max_length=INSTRUCTIONS_CHARS_MAX)] = ""
    max_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] = TOKENS_DEFAULT
    #: False asks again though the same was asked before; heeded by every processor whose results are kept.
    reuse: bool = True

    @property
    def shape(self) -> Schema:
        """What is checked of the schema."""
        return msgspec.convert(self.schema, Schema)


def extraction(options: Mapping[str, Any]) -> Extraction:
    """The options in their type; ValueError says which of them is wrong."""
    try:
        asked = msgspec.convert(dict(options), Extraction)
        if _is_deeper(asked.schema, SCHEMA_DEPTH_MAX):
            raise ValueError(f"the schema is nested deeper than {SCHEMA_DEPTH_MAX} levels")
        shape = asked.shape
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(f"they are no options of llm: {error}") from error
    if shape.type != "object":
        raise ValueError('the schema must be that of an object: "type": "object"')
    return asked


def mismatch(value: Any, schema: Schema, at: str = "the answer") -> str | None:
    """The first place where an answer is not as its schema says, in words; None where it is."""
    if not _has_type(value, schema.type):
        return f"{at} is not of the type {_types(schema.type)}"
    if schema.enum is not None and value not in schema.enum:
        return f"{at} is none of the values that are allowed"
    if schema.any_of and all(mismatch(value, one, at) for one in schema.any_of):
        return f"{at} fits no form that is allowed"
    if isinstance(value, dict):
        return _object_mismatch(value, schema, at)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list) and schema.items is not None:
        items: list[Any] = value
        return _first(mismatch(one, schema.items, f"{at}[{n}]") for n, one in enumerate(items))
    return None


def _object_mismatch(value: dict[str, Any], schema: Schema, at: str) -> str | None:
    for name in schema.required:
        if name not in value:
            return f"{at} lacks {name!r}"
    if schema.additional is False and not value.keys() <= schema.properties.keys():
        return f"{at} has a property that the schema does not name"
    known = schema.properties.items()
    return _first(mismatch(value[name], one, f"{at}.{name}") for name, one in known if name in value)


def _has_type(value: Any, wanted: str | list[str] | None) -> bool:
    return wanted is None or any(_is(value, one) for one in ([wanted] if isinstance(wanted, str) else wanted))


def _is(value: Any, name: str) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "number":
        return is_number
    if name == "integer":
        return is_number and value == int(value)
    return name not in _PLAIN or isinstance(value, _PLAIN[name])


def _types(wanted: str | list[str] | None) -> str:
    return wanted if isinstance(wanted, str) else " or ".join(wanted or [])


def _first(found: Iterable[str | None]) -> str | None:
    return next((one for one in found if one), None)


def _is_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [child for one in level for child in _children(one)]
    return bool(level)


def _children(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
