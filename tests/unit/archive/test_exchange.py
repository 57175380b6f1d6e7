"""The log as lines of CloudEvents: what `tanda log` prints, and back again."""

import pytest

from tanda.adapters.memory import MemoryLog
from tanda.archive.exchange import from_line, to_line
from tanda.contracts.codec import encode
from tanda.contracts.envelope import to_cloudevent
from tests.builders import RandomBatches


async def test_a_line_is_what_tanda_log_prints_and_comes_back_whole() -> None:
    """Every kind of event, byte for byte."""
    log = MemoryLog()
    await RandomBatches(log, 5).run(300)
    async for chunk in log.read():
        for one in chunk:
            line = encode(to_cloudevent(one))
            assert to_line(from_line(line)) == line


@pytest.mark.parametrize(
    "line", [b"", b"{}", b'{"specversion":"1.0","id":"x","type":"tanda.Nothing.v1"}', b"not json"]
)
def test_a_line_that_is_no_event_is_refused(line: bytes) -> None:
    """Before anything is written."""
    with pytest.raises(ValueError):
        from_line(line)
