"""The processor that does nothing but read: for tests, benchmarks and first steps."""

import hashlib
from collections.abc import Mapping
from typing import Any

from tanda.contracts.results import Failure, Result, SourceFile


class Noop:
    """Accepts any file and answers ``{"kind": "noop", "bytes": n, "sha256": hex}`` from what it read."""

    name = "noop"
    version = "1"
    accepts: frozenset[str] = frozenset()

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Count and digest the file's bytes."""
        with source.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            size = file.tell()
        return Result(data={"kind": "noop", "bytes": size, "sha256": digest.hexdigest()})
