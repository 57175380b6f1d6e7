"""The processor that does nothing: for tests, benchmarks and first steps."""

from collections.abc import Mapping
from typing import Any

from tanda.contracts.results import Failure, Result, SourceFile


class Noop:
    """Accepts any file and answers ``{"kind": "noop", "bytes": n, "sha256": hex}``."""

    name = "noop"
    version = "1"
    accepts: frozenset[str] = frozenset()
    #: It never opens the file, so it needs no sandbox and measures everything but processing.
    trusted = True

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Repeat what is known of the file."""
        return Result(data={"kind": "noop", "bytes": source.bytes, "sha256": source.sha256})
