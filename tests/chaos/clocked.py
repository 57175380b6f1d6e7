"""``python -m tests.chaos.clocked <module>``: a service whose wall clock goes wrong by what a file says.

``CHAOS_CLOCK`` names the file, which holds seconds. Python's ``time.time`` and ``time.time_ns`` are what is
stepped, before the service is imported: all our code asks them, and waits by the monotonic clock.
"""

import os
import runpy
import sys
import time
from pathlib import Path

#: So often the file is looked at.
LOOK_S = 0.1


class Clock:
    """The machine's clock and an offset."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._time_ns = time.time_ns
        self._looked_at = 0.0
        self._offset_s = 0

    def time_ns(self) -> int:
        if time.monotonic() - self._looked_at > LOOK_S:
            self._looked_at = time.monotonic()
            self._offset_s = int(self._file.read_text() or 0)
        return self._time_ns() + self._offset_s * 10**9

    def time(self) -> float:
        return self.time_ns() / 1e9


if __name__ == "__main__":
    clock = Clock(Path(os.environ["CHAOS_CLOCK"]))
    time.time_ns, time.time = clock.time_ns, clock.time
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
