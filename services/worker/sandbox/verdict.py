"""What a child's end means: a result, or which failure. Nothing that a child sends is believed unseen."""

import asyncio
import signal
import unicodedata

import msgspec

from services.worker.sandbox.child import too_large
from services.worker.sandbox.link import Call
from services.worker.sandbox.wire import Answer, Ended, Given, Limits, Refused, answers, unframe
from tanda.contracts.results import Artifact, Failure, Result

Outcome = Result | Failure

_NO_ANSWER = Failure(code="processor_error", message="The processor's answer is not one.")
#: Failures that an earlier file of the same child may have caused.
_SHARED_FAULTS = ("memory", "processor_error", "sandbox_failed", "source_missing")
LOST = Failure(
    code="worker_lost", message="The sandbox ended while the file was in it (zygote killed).", retryable=True
)
#: Decoding more than this takes milliseconds and moves off the event loop.
_INLINE_BYTES = 256 * 1024
#: A process that dies at this share of its memory died of it.
_MEMORY_SHARE = 0.8
#: How a process dies that cannot allocate: by the kernel, or by its own C or C++ library.
_MEMORY_SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
_NAME_CHARACTERS_MAX = 255
_MESSAGE_CHARACTERS_MAX = 1_000
_WARNINGS_MAX = 1_000
#: Of all warnings as JSON: an event has 256 kB, and a result of 64 kB may be in it too.
_WARNINGS_BYTES_MAX = 64 * 1024


async def read_answer(call: Call, limits: Limits) -> Outcome:
    """The outcome of a call of one job."""
    failure = _failure(call, limits)
    if failure is not None:
        return failure
    outcomes = await _decoded(call.answer, limits)
    return outcomes[0] if len(outcomes) == 1 else _violation("The processor gave more than one answer.")


async def read_answers(call: Call, jobs: int, limits: Limits) -> list[Outcome] | None:
    """The outcomes of a call of several jobs, or None: then each is to be run alone.

    What a crash, a limit or a lack of memory was the fault of cannot be told, so nothing of such a child
    counts.
    """
    if _failure(call, limits) is not None:
        return None
    outcomes = await _decoded(call.answer, limits)
    doubtful = any(isinstance(one, Failure) and one.code in _SHARED_FAULTS for one in outcomes)
    return None if doubtful or len(outcomes) != jobs else outcomes


async def _decoded(stream: bytes, limits: Limits) -> list[Outcome]:
    if len(stream) > _INLINE_BYTES:
        return await asyncio.to_thread(_decode_all, stream, limits)
    return _decode_all(stream, limits)


def _decode_all(stream: bytes, limits: Limits) -> list[Outcome]:
    try:
        return [_decode(packed, limits) for packed in unframe(stream)]
    except ValueError:
        return [_NO_ANSWER]


def judge(answer: Answer, limits: Limits) -> Outcome:
    """An answer of the right shape, held against the limits; its result is JSON or it is a failure."""
    if isinstance(answer, Refused):
        code = answer.code.strip()[:64] or "processor_error"
        message = (
            answer.message.strip()[:_MESSAGE_CHARACTERS_MAX] or f"The processor gave no reason ({code})."
        )
        return Failure(code=code, message=message, retryable=answer.retryable)
    large = too_large(len(answer.data), [len(artifact.data) for artifact in answer.artifacts], limits)
    if large is not None:
        return judge(large, limits)
    return _result(answer)


def _failure(call: Call, limits: Limits) -> Failure | None:
    """Why no answer counts, or None where the child left in good order."""
    if call.ended is None:
        return LOST
    if call.late:
        return Failure(code="timeout", message=f"The file took longer than the allowed {limits.wall_s:g} s.")
    if len(call.answer) > limits.answer_bytes:
        allowed = f"{limits.answer_bytes:,}"
        return Failure(
            code="result_too_large", message=f"The answer has more than the allowed {allowed} bytes."
        )
    if call.ended.code < 0:
        return _by_signal(call.ended, limits)
    if call.ended.code > 0 or not call.answer:
        status = call.ended.code
        return _violation(f"The processor ended its process without an answer (exit status {status}).")
    return None


def _by_signal(ended: Ended, limits: Limits) -> Failure:
    number = -ended.code
    if number == signal.SIGXCPU or (number == signal.SIGKILL and ended.cpu_s >= limits.cpu_s):
        return Failure(
            code="cpu_time", message=f"The file took more than the allowed {limits.cpu_s} s of CPU."
        )
    if number in _MEMORY_SIGNALS and ended.rss_bytes >= _MEMORY_SHARE * limits.memory_bytes:
        mebibytes = limits.memory_bytes // 1024**2
        message = f"The file needs more memory than the allowed {mebibytes:,} MiB."
        return Failure(code="memory", message=message, retryable=True)
    return Failure(
        code="worker_lost", message=f"The file's process was ended by {_name(number)}.", retryable=True
    )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _decode(packed: bytes, limits: Limits) -> Outcome:
    try:
        return judge(answers.decode(packed), limits)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return _NO_ANSWER


def _result(answer: Given) -> Outcome:
    try:
        data = msgspec.json.decode(answer.data)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return _violation("The processor's result is not JSON.")
    if not all(_is_named(artifact) for artifact in answer.artifacts):
        return _violation("An artifact's name or type is empty, too long or not one line of text.")
    return Result(data=data, artifacts=answer.artifacts, warnings=_fitting(answer.warnings))


def _fitting(warnings: list[str]) -> list[str]:
    """As many of them, none too long, as the file's event has room for."""
    fitting: list[str] = []
    left = _WARNINGS_BYTES_MAX
    for warning in warnings[:_WARNINGS_MAX]:
        short = warning[:_MESSAGE_CHARACTERS_MAX]
        left -= len(msgspec.json.encode(short)) + len(",")
        if left < 0:
            break
        fitting.append(short)
    return fitting


def _is_named(artifact: Artifact) -> bool:
    """A name is data, yet it ends up in a download's header and perhaps in a shell."""
    return _is_line(artifact.name) and _is_line(artifact.content_type) and "/" not in artifact.name


def _is_line(text: str) -> bool:
    plain = not any(unicodedata.category(character)[0] == "C" for character in text)
    return 0 < len(text) <= _NAME_CHARACTERS_MAX and plain


def _violation(message: str) -> Failure:
    return Failure(code="processor_error", message=message)
