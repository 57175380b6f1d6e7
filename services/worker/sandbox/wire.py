"""What the worker, the zygote and a job's child say to each other.

Worker and zygote hold one ``SOCK_SEQPACKET`` pair, one message a packet: :class:`Begin`, :class:`Fork`
(with one descriptor) and :class:`Kill` go down; :class:`Ready`, :class:`Broken` and :class:`Ended` come up.
Worker and child hold a stream pair of their own for each child: a list of :class:`Job` goes down, an
:class:`Answer` for each comes up behind its length, each way ended by end-of-file. A child is never
believed: what it sends is decoded against these types.
"""

import struct
from pathlib import Path
from typing import Any

import msgspec

from tanda.contracts.results import Artifact, SourceFile

#: Larger than any packet below; options travel on the job's own stream.
PACKET_BYTES_MAX = 64 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one job may use."""

    #: From the request to the end of the process.
    wall_s: float = 60.0
    cpu_s: int = 30
    #: Address space, including what Python and the parsers map.
    memory_bytes: int = 1024**3
    #: The result as JSON.
    result_bytes: int = 32 * 1024**2
    artifacts: int = 16
    #: Of one artifact.
    artifact_bytes: int = 8 * 1024**2
    #: Open files.
    files: int = 64

    @property
    def answer_bytes(self) -> int:
        """The most that a child may send: everything at its limit, and room for names and warnings."""
        return self.result_bytes + self.artifacts * self.artifact_bytes + 1024**2


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One call of one processor."""

    processor: str
    source: SourceFile
    options: dict[str, Any] = {}
    #: Whether to ``draw`` rather than to ``process``.
    drawing: bool = False
    #: The sandbox's own limits where None.
    limits: Limits | None = None


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first packet: what to import and how far to confine."""

    #: Name to ``package.module:Class``.
    processors: dict[str, str]
    #: Put before ``sys.path``; for processors that are not installed, in tests.
    sys_path: list[str]
    #: The layers to try, see :mod:`services.worker.sandbox.confine`.
    layers: list[str]


class Fork(msgspec.Struct, frozen=True, tag=True):
    """Start a child on the descriptor that comes with this packet."""

    number: int


class Kill(msgspec.Struct, frozen=True, tag=True):
    """End a child and its group; answered by :class:`Ended` in any case."""

    number: int


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A processor as its class describes itself."""

    path: str
    version: str
    accepts: frozenset[str]
    #: It never looks at the content, so it needs no child.
    trusted: bool
    #: Small files of one batch may follow one another in one child.
    shares_child: bool
    #: It has a ``draw``.
    draws: bool = False
    #: Its result may be taken again for the same bytes, options and version.
    reusable: bool = False


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The imports are done."""

    #: Name to description.
    known: dict[str, Known]
    #: Name to the reason why it could not be imported.
    unknown: dict[str, str]
    #: The layers that a trial child could put on, with Landlock's version: ``landlock7``.
    layers: list[str]


class Broken(msgspec.Struct, frozen=True, tag=True):
    """The zygote gives up."""

    reason: str


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A child is gone."""

    number: int
    #: As ``os.waitstatus_to_exitcode``: the exit status, or minus the signal.
    code: int
    cpu_s: float
    #: Peak resident memory.
    rss_bytes: int


class Given(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The processor's result."""

    #: JSON.
    data: bytes
    artifacts: list[Artifact]
    warnings: list[str]


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The processor's failure, or what the child made of an exception."""

    code: str
    message: str
    retryable: bool = False


Order = Begin | Fork | Kill
Report = Ready | Broken | Ended
Answer = Given | Refused


def _out(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError


def _in(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError


_encoder = msgspec.msgpack.Encoder(enc_hook=_out)
orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
reports: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)
jobs: msgspec.msgpack.Decoder[list[Job]] = msgspec.msgpack.Decoder(list[Job], dec_hook=_in)
answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


#: Before each answer: its length.
_LENGTH = struct.Struct(">I")


def pack(message: Order | Report | list[Job]) -> bytes:
    """Encodes any of the above; TypeError where a job's options hold what msgpack cannot."""
    return _encoder.encode(message)


def frame(answer: Answer) -> bytes:
    """An answer as it goes into the child's stream."""
    data = _encoder.encode(answer)
    return _LENGTH.pack(len(data)) + data


def unframe(stream: bytes) -> list[bytes]:
    """The answers of a stream, still encoded; ValueError where it does not end with one."""
    found: list[bytes] = []
    at = 0
    while at < len(stream):
        begin = at + _LENGTH.size
        if begin > len(stream):
            raise ValueError("a length is cut off")
        (length,) = _LENGTH.unpack_from(stream, at)
        at = begin + length
        if at > len(stream):
            raise ValueError("an answer is cut off")
        found.append(stream[begin:at])
    return found
