"""The golden samples: every event as it was once written, kept for ever. A file is added, never changed.

``tests/golden/events/<Type>.v1.json`` holds the subject and named samples: the headers, and the
message exactly as it is in the log. A new field of an event needs a further sample that has it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.house.sources import ROOT

EVENTS = ROOT / "tests" / "golden" / "events"


@dataclass(frozen=True)
class Sample:
    type: str
    #: ``full`` and ``minimal``, and whatever fields came later.
    name: str
    subject: str
    headers: dict[str, str]
    data: bytes


def samples(path: Path) -> list[Sample]:
    """The samples of one golden file."""
    golden = json.loads(path.read_text(encoding="utf-8"))
    return [
        Sample(golden["type"], name, golden["subject"], sample["headers"], sample["data"].encode())
        for name, sample in golden["samples"].items()
    ]


def golden_path(kind: str) -> Path:
    """The golden file of an event type."""
    return EVENTS / f"{kind.removeprefix('tanda.')}.json"
