"""Helpers of the processors' tests: bytes in, outcome out."""

import hashlib
from pathlib import Path

from services.worker.processors.image import Image
from services.worker.processors.invoice import Invoice
from services.worker.processors.noop import Noop
from services.worker.processors.pdf import Pdf
from services.worker.processors.table import Table
from tanda.contracts.results import Failure, Processor, Result, SourceFile
from tanda.domain.filetypes import HEAD_BYTES, Refusal, check

PROCESSORS: dict[str, Processor] = {kind.name: kind() for kind in (Noop, Invoice, Pdf, Image, Table)}


def a_source(path: Path, data: bytes) -> SourceFile:
    """Write bytes to a path and describe them."""
    path.write_bytes(data)
    return SourceFile(
        path=path,
        name=path.name,
        content_type="application/octet-stream",
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def process(
    processor: str, folder: Path, data: bytes, name: str = "file", **options: object
) -> Result | Failure:
    """Run one processor on bytes."""
    return PROCESSORS[processor].process(a_source(folder / name, data), options)


def submit(path: Path, declared: str | None = None) -> Result | Failure | Refusal:
    """Do what the product does with a file: agree on its type, then process it."""
    data = path.read_bytes()
    kind = check(path.name, declared, data[:HEAD_BYTES], len(data))
    if isinstance(kind, Refusal):
        return kind
    source = SourceFile(
        path=path,
        name=path.name,
        content_type=kind.content_type,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    processor = PROCESSORS[kind.processor]
    assert kind.content_type in processor.accepts
    return processor.process(source, {})
