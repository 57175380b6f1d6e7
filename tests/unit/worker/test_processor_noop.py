"""The processor that does nothing."""

from pathlib import Path

from tanda.contracts.results import Result
from tests.processing import PROCESSORS, process


def test_it_repeats_what_is_known(tmp_path: Path) -> None:
    """Any file, its size and its digest."""
    outcome = process("noop", tmp_path, b"hola")
    assert outcome == Result(
        data={
            "kind": "noop",
            "bytes": 4,
            "sha256": "b221d9dbb083a7f33428d7c2a3c3198ae925614d70210e28716ccaa7cd4ddb79",
        }
    )


def test_every_processor_says_what_it_is() -> None:
    """Name, version and accepted types are what the registry and the result cache go by."""
    assert {name: sorted(p.accepts)[:1] for name, p in PROCESSORS.items()} == {
        "noop": [],
        "invoice": ["application/xml"],
        "pdf": ["application/pdf"],
        "image": ["image/bmp"],
        "table": ["text/csv"],
    }
    assert all(processor.version for processor in PROCESSORS.values())
