"""From what a client wrote to what is asked of the domain: a batch's fields and its files."""

import re
from typing import Any

import msgspec

from services.gateway.problems import InvalidFields
from services.gateway.upload.body import field_error
from services.gateway.upload.packing import Received
from services.gateway.upload.receive import UNTYPED, Form
from tanda.contracts import commands as c
from tanda.contracts.http import OpenBatch
from tanda.contracts.results import BlobRef, FileError
from tanda.contracts.times import epoch_ms, rfc3339
from tanda.domain.extraction import extraction
from tanda.domain.filetypes import FileType, safe_name
from tanda.domain.scheduling.limits import LIMIT_MAX
from tanda.domain.scheduling.providers import OUTSIDE, provider_of

AUTO = "auto"
#: Repeated in every ``FileQueued``, so kept small; a message of the log has 256 kB.
OPTIONS_BYTES_MAX = 8 * 1024
METADATA_BYTES_MAX = 64 * 1024
TAGS_MAX = 32
TAG_CHARS_MAX = 64
OWNER_CHARS_MAX = 255
#: What an older front end has in ``publishMode`` of a batch's metadata: a date is needed, or is not meant.
SCHEDULED = "scheduled"
AT_ONCE = ("now", "immediate")
UNKNOWN_TYPE = "application/octet-stream"

_JSON_FIELDS = ("options", "metadata")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")


def batch_fields(form: Form) -> OpenBatch:
    """The fields of a form, each in its own notation, as the JSON form has them."""
    values: dict[str, Any] = {name: texts[0] for name, texts in form.fields.items() if name != "tags"}
    for name in _JSON_FIELDS:
        if name in values:
            values[name] = _json_object(name, values[name])
    if "tags" in form.fields:
        values["tags"] = _tags(form.fields["tags"])
    for name in [name for name, value in values.items() if value == ""]:
        del values[name]  # a browser sends the inputs that nobody filled in
    if str(values.get("limit", "")).isdecimal():
        values["limit"] = int(values["limit"])
    try:
        return msgspec.convert(values, OpenBatch)
    except msgspec.ValidationError as error:
        raise field_error(error) from error


def create_command(
    fields: OpenBatch,
    default_name: str,
    processors: frozenset[str],
    providers: frozenset[str],
    *,
    is_open: bool,
) -> c.CreateBatch:
    """Checks what the types do not say; 422 with every field that is wrong."""
    errors = [
        *_provider_error(fields, providers),
        *_checks(fields, processors),
        *_size_error("options", fields.options, OPTIONS_BYTES_MAX),
        *_size_error("metadata", fields.metadata, METADATA_BYTES_MAX),
        *limit_error("limit", fields.limit),
    ]
    times = {name: time_field(name, getattr(fields, name), errors) for name in ("start_at", "expires_at")}
    mode, date = fields.metadata.get("publishMode"), fields.metadata.get("scheduledDate")
    if times["start_at"] is None and (mode == SCHEDULED or (date is not None and mode not in AT_ONCE)):
        # One that is missing is no time either: refused rather than published at once.
        times["start_at"] = time_field("metadata.scheduledDate", str(date), errors)
    if errors:
        raise InvalidFields(*errors)
    return c.CreateBatch(
        name=safe_name(fields.name) if fields.name else default_name,
        processor=fields.processor,
        options=fields.options,
        priority=fields.priority,
        start_at=times["start_at"],
        expires_at=times["expires_at"],
        metadata=fields.metadata,
        tags=list(dict.fromkeys(fields.tags)),
        open=is_open,
        owner=fields.owner,
        limit=fields.limit,
    )


def file_command(file: Received, processor: str, options: dict[str, Any]) -> c.QueueFile | c.RejectFile:
    """A received file as a command: queued for its processor, or refused for its type."""
    verdict = file.verdict
    if isinstance(verdict, FileType):
        return _queue(
            file, verdict.content_type, verdict.processor if processor == AUTO else processor, options
        )
    declared = media_type(file.declared)
    if processor in UNTYPED:
        return _queue(file, declared, processor, options)
    return c.RejectFile(
        name=file.name,
        index=file.index,
        content_type=declared,
        bytes=file.bytes,
        sha256=file.sha256,
        error=FileError(code=verdict.code, message=verdict.message),
    )


def media_type(declared: str | None) -> str:
    """A client's media type without its parameters, or the type of unknown bytes."""
    bare = (declared or "").partition(";")[0].strip().lower()
    return bare if _MEDIA_TYPE.fullmatch(bare) else UNKNOWN_TYPE


def _queue(file: Received, content_type: str, processor: str, options: dict[str, Any]) -> c.QueueFile:
    assert isinstance(file.source, BlobRef), "what is queued is stored"
    return c.QueueFile(
        name=file.name,
        index=file.index,
        content_type=content_type,
        bytes=file.bytes,
        sha256=file.sha256,
        source=file.source,
        processor=processor,
        options=options,
    )


def _json_object(name: str, text: str) -> Any:
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidFields((name, f"is no JSON object: {error}")) from error


def _tags(texts: list[str]) -> Any:
    if len(texts) == 1 and texts[0].startswith("["):
        try:
            return msgspec.json.decode(texts[0])
        except msgspec.DecodeError as error:
            raise InvalidFields(("tags", f"is no JSON list: {error}")) from error
    return [tag.strip() for text in texts for tag in text.split(",") if tag.strip()]


def _checks(fields: OpenBatch, processors: frozenset[str]) -> list[tuple[str, str]]:
    errors: list[tuple[str, str]] = []
    if fields.processor not in processors:
        errors.append(("processor", f"there is no such processor; choose {', '.join(sorted(processors))}"))
    if len(fields.tags) > TAGS_MAX or any(not 0 < len(tag) <= TAG_CHARS_MAX for tag in fields.tags):
        errors.append(("tags", f"at most {TAGS_MAX} tags of 1 to {TAG_CHARS_MAX} characters"))
    if fields.owner is not None and len(fields.owner) > OWNER_CHARS_MAX:
        errors.append(("owner", f"at most {OWNER_CHARS_MAX} characters"))
    return errors


def _provider_error(fields: OpenBatch, providers: frozenset[str]) -> list[tuple[str, str]]:
    """Work for a provider that nobody has configured is refused before a byte of it is kept."""
    choice = OUTSIDE.get(fields.processor)
    if choice is None:
        return []
    if provider_of(fields.processor, fields.options) not in providers:
        known = sorted(one.partition("-")[2] for one in providers if one.startswith(f"{fields.processor}-"))
        there = f"choose {', '.join(known)}" if known else f"{choice.settings} would give one"
        return [("options", f"their {choice.option} is none that is configured; {there}")]
    return _extraction_error(fields) if fields.processor == "llm" else []


def _extraction_error(fields: OpenBatch) -> list[tuple[str, str]]:
    """A call that the options make useless is not worth its money."""
    try:
        extraction(fields.options)
    except ValueError as error:
        return [("options", str(error))]
    return []


def _size_error(name: str, value: dict[str, Any], bytes_max: int) -> list[tuple[str, str]]:
    if len(msgspec.json.encode(value)) <= bytes_max:
        return []
    return [(name, f"at most {bytes_max:,} bytes of JSON")]


def limit_error(name: str, value: int | None) -> list[tuple[str, str]]:
    """What is wrong with a limit, if anything."""
    if value is None or 1 <= value <= LIMIT_MAX:
        return []
    return [(name, f"1 to {LIMIT_MAX:,}")]


def time_field(name: str, text: str | None, errors: list[tuple[str, str]]) -> str | None:
    """A time as the log has it; what is wrong with it goes to the errors."""
    if text is None:
        return None
    try:
        return rfc3339(epoch_ms(text))
    except (ValueError, OverflowError):
        errors.append((name, "is no RFC 3339 time with an offset"))
        return None
