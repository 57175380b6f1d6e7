"""What happens inside a child, and what calling a processor means.

:func:`call` is also the whole of a trusted processor's run, in the worker itself: exceptions end here, in
words without paths.
"""

import gc
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from services.worker.sandbox import confine
from services.worker.sandbox.wire import Answer, Given, Job, Limits, Refused, frame, jobs
from tanda.contracts.results import Failure, Processor, Result

MESSAGE_CHARACTERS_MAX = 300
_PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?(?:[\\/][^\s\\/'\":,;()]+)+[\\/]?")
#: Far above what a zygote holds open.
_DESCRIPTORS_MAX = 65_536
_CHUNK_BYTES = 1024 * 1024

#: Made before the job runs: with no memory left nothing can be made.
_NO_MEMORY = Refused("memory", "The file needs more memory than one file is allowed.", retryable=True)
_NO_MEMORY_FRAME = frame(_NO_MEMORY)


def run(link: socket.socket, processors: dict[str, Processor], confinement: confine.Confinement) -> None:
    """Reads the jobs from ``link``, confines this process, answers one after the other and closes."""
    given = jobs.decode(_read(link))
    with suppress(OSError):
        for answer in _confined(given, link, processors, confinement):
            link.sendall(answer)
    link.close()


def call(processor: Processor, job: Job, limits: Limits) -> Answer:
    """Runs the processor and turns whatever comes of it into an answer; raises nothing."""
    try:
        return _answer(processor.process(job.source, job.options), limits)
    except MemoryError:
        return _NO_MEMORY
    except BaseException as error:  # a processor may also call sys.exit()
        return Refused("processor_error", describe(error))


def describe(error: BaseException) -> str:
    """The exception's type and the first line of its text, never empty and without paths."""
    try:
        text = str(error)
    except Exception:  # the exception is a stranger's too
        text = ""
    kind = type(error).__name__
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    clean = _PATH.sub("<path>", first).encode("utf-8", "replace").decode()
    return f"{kind}: {clean}"[:MESSAGE_CHARACTERS_MAX] if clean else f"{kind} without a message"


def forget_parent() -> None:
    """Drops what a fork inherits and a job must not see: signals' handlers, the environment, the terminal."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    with suppress(OSError):
        os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.chdir("/")


def be_first_out_of_memory() -> None:
    """Asks the kernel to kill this process, not the worker, when the machine has no memory left."""
    with suppress(OSError):
        handle = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(handle, b"1000")
        os.close(handle)


def _confined(
    given: list[Job],
    link: socket.socket,
    processors: dict[str, Processor],
    confinement: confine.Confinement,
) -> Iterator[bytes]:
    limits = given[0].limits or Limits()
    try:
        confinement.enter([job.source.path for job in given], limits)
    except OSError as error:
        # Of several, each is run again alone, and told what is wrong with its own.
        yield frame(_unconfined(error, given[0]))
        return
    _close_all_but(link.fileno())
    gc.enable()
    for job in given:
        yield _framed(job, processors, limits)


def _framed(job: Job, processors: dict[str, Processor], limits: Limits) -> bytes:
    processor = processors.get(job.processor)
    if processor is None:
        return frame(Refused("unknown_processor", f"There is no processor {job.processor!r}."))
    try:
        return frame(call(processor, job, limits))
    except MemoryError:
        return _NO_MEMORY_FRAME


def _close_all_but(kept: int) -> None:
    """The zygote's own link first of all: a job must not speak in its name."""
    os.closerange(3, kept)
    os.closerange(kept + 1, _DESCRIPTORS_MAX)


def _unconfined(error: OSError, job: Job) -> Refused:
    if not job.source.path.exists():
        return Refused("source_missing", "The file's bytes were gone before it was started.", retryable=True)
    return Refused("sandbox_failed", f"The sandbox could not be entered ({error.strerror}).", retryable=True)


def _read(link: socket.socket) -> bytes:
    parts: list[bytes] = []
    while chunk := link.recv(_CHUNK_BYTES):
        parts.append(chunk)
    return b"".join(parts)


def _answer(outcome: object, limits: Limits) -> Answer:
    if isinstance(outcome, Failure):
        message = outcome.message.strip() or f"The processor gave no reason ({outcome.code})."
        return Refused(outcome.code, message, outcome.retryable)
    if not isinstance(outcome, Result):
        kind = type(outcome).__name__
        return Refused("processor_error", f"The processor gave {kind}, not a Result or a Failure.")
    data = msgspec.json.encode(outcome.data)
    large = too_large(len(data), [len(artifact.data) for artifact in outcome.artifacts], limits)
    return large or Given(data=data, artifacts=outcome.artifacts, warnings=outcome.warnings)


def too_large(data_bytes: int, artifacts: list[int], limits: Limits) -> Refused | None:
    """Which limit an answer breaks, if any."""
    reason = None
    if data_bytes > limits.result_bytes:
        reason = f"The result has {data_bytes:,} bytes; {limits.result_bytes:,} are allowed."
    elif len(artifacts) > limits.artifacts:
        reason = f"The processor made {len(artifacts)} artifacts; {limits.artifacts} are allowed."
    elif max(artifacts, default=0) > limits.artifact_bytes:
        reason = f"An artifact has {max(artifacts):,} bytes; {limits.artifact_bytes:,} are allowed."
    return None if reason is None else Refused("result_too_large", reason)
