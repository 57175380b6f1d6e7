"""``tanda watch-folder``."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tanda.cli import show
from tanda.cli.target import Failed, Target
from tanda.client.form import present
from tanda.intake.folder import Folder
from tanda.intake.watch import FolderTaken, alone, watch

HERE = Target()
Flag = Annotated[bool, Parameter(negative="")]


def watch_folder(
    directory: Path, /, *, processor: str | None = None, name: str | None = None,
    priority: Literal["interactive", "normal", "bulk"] | None = None, once: Flag = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False, target: Target = HERE,
) -> int:  # fmt: skip
    """Process what is dropped into DIRECTORY/source, and archive it once its result is durable.

    Args:
        directory: Has source, processing and archived; they are made where they are missing.
        processor: One processor for all files instead of one by type.
        name: What to call the batches.
        priority: Their class among the waiting batches.
        once: Process what is there, then end: 0, or 1 where files failed.
        json: One JSON string a line.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def say(line: str) -> None:
        if json:
            show.as_json({"message": line})
        else:
            show.console.print(line, markup=False, highlight=False)
        sys.stdout.flush()

    fields = present(processor=processor, priority=priority, name=name or directory.resolve().name)
    try:
        with alone(directory), target.client() as client:
            return watch(Folder(directory, client, fields, say=say), stop, say, once=once)
    except FolderTaken as error:
        raise Failed(str(error)) from error
