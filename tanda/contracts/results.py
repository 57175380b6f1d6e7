"""What goes into a processor and what comes out of it.

A processor is a plain class found by the entry point group ``tanda.processors``::

    class Invoice:
        name = "invoice"
        version = "1"
        accepts = frozenset({"application/xml"})

        def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure: ...

It is sealed: it reads the one file it is given, touches no network and no clock, and gives the same
answer for the same bytes, options and version.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

#: A result up to this size travels inside ``FileCompleted``; a larger one is an object of its own.
#: EVENTS refuses messages over 256 kB, and a batch's views are read far more often than its results.
RESULT_INLINE_BYTES_MAX = 64 * 1024


class BlobRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where some bytes are in the object store: a whole object, or a range of a packed one."""

    #: The object's key.
    key: str
    #: The first byte within the object.
    offset: int = 0
    #: Length in bytes of these bytes (not of the object).
    bytes: int
    #: Hex digest of exactly these bytes.
    sha256: str


class StoredArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a processor made beside its result, a thumbnail for instance, as it is stored."""

    name: str
    content_type: str
    blob: BlobRef


class FileError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a file or an attempt failed, in words that a person can act on."""

    #: Stable and machine-readable: ``not_an_invoice``, ``password_protected``, ``worker_lost`` …
    code: str
    #: One sentence, never empty, no traceback, no path of ours.
    message: str
    #: Whether the same bytes may succeed in another attempt.
    retryable: bool = False


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a call to an outside provider used."""

    provider: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    #: US dollars by the price list in the settings; None where the model is not in it.
    usd: float | None = None


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """The one file a processor may read."""

    path: Path
    #: As the user named it; data, never a path.
    name: str
    #: The canonical type that name, declaration and content agreed on (``tanda.domain.filetypes``).
    content_type: str
    bytes: int
    sha256: str


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that a processor hands over beside its result."""

    name: str
    content_type: str
    data: bytes


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A file was processed. ``data`` is any JSON value; ``warnings`` name what is incomplete."""

    data: Any
    artifacts: list[Artifact] = []
    warnings: list[str] = []
    usage: Usage | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A file could not be processed; not an exception, since a faulty file is normal here."""

    code: str
    message: str
    retryable: bool = False
    #: When an outside provider asked to be called again, in seconds from now (``Retry-After``).
    retry_after_s: float | None = None
    #: What an answer of no use was paid for.
    usage: Usage | None = None


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """The work went out; its outcome will come to ``POST /v1/callbacks/{token}``."""

    #: How long that may take, in seconds from now.
    deadline_s: float


class Processor(Protocol):
    """See the module's docstring."""

    name: str
    #: Raised with every change that may change a result: results are kept by (bytes, version, options).
    version: str
    #: Canonical content types, or empty for any.
    accepts: frozenset[str]
    # A class may also say ``shares_child = True``: small files of one batch may be processed one after the
    # other by one object in one process, so that nothing of a file may be left in it for the next one.
    # ``reusable = True`` is for a class that does not share a child and whose work is dear: the result of
    # the same bytes, options and version is then taken again. Not for one that reads the file's name.

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure: ...


class Drawing(Processor, Protocol):
    """A processor that also draws what a person sees of the file.

    ``draw`` is called after a result, in a child and within limits of its own, so that a file which cannot
    be drawn keeps its result; of what it gives, only the artifacts count.
    """

    def draw(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure: ...
