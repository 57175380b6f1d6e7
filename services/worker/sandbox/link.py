"""A running zygote as the worker sees it: one process, its control socket and the calls under way."""

import asyncio
import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from services.worker.sandbox.wire import (
    PACKET_BYTES_MAX,
    Begin,
    Broken,
    Ended,
    Fork,
    Job,
    Kill,
    Limits,
    Order,
    Ready,
    pack,
    reports,
)

#: A killed child is reaped within milliseconds; a zygote that does not report it by then hangs.
KILL_S = 5.0
_CHUNK_BYTES = 256 * 1024


class ZygoteDied(Exception):
    """The zygote ended or said why it must."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one child."""

    #: None where the zygote died with it.
    ended: Ended | None
    #: All that the child sent, up to one byte over the limit.
    answer: bytes
    #: The wall clock ran out.
    late: bool


class ZygoteLink:
    """One zygote. When it dies it stays dead: :attr:`died` is set and a new link is opened."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, on_death: Callable[[], None]
    ) -> None:
        self.died = asyncio.Event()
        self.ready = Ready(known={}, unknown={}, layers=[])
        self._process = process
        self._control = control
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[Ready] = self._loop.create_future()
        self._ended: dict[int, asyncio.Future[Ended | None]] = {}
        self._numbers = itertools.count(1)
        self._sending = asyncio.Lock()

    @classmethod
    async def open(cls, command: list[str], begin: Begin, on_death: Callable[[], None]) -> "ZygoteLink":
        """Starts a zygote and waits until it is ready; ZygoteDied where it ends before, OSError.

        ``on_death`` is called once, at the moment when :attr:`died` is set.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            descriptor = theirs.fileno()
            process = subprocess.Popen(  # noqa: ASYNC220 - our own interpreter and module, in 2 ms
                [*command, str(descriptor), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={},
                pass_fds=[descriptor],
                start_new_session=True,
                cwd="/",
            )
        link = cls(process, ours, on_death)
        link._loop.add_reader(ours.fileno(), link._take)
        try:
            await link._send(begin)
            link.ready = await link._started
        except BaseException:
            await link.close()
            raise
        return link

    @property
    def pid(self) -> int:
        """The zygote's process id."""
        return self._process.pid

    async def call(self, jobs: Sequence[Job], limits: Limits) -> Call:
        """Runs jobs in a child of their own; the child is gone when this returns, raises or is cancelled."""
        number = next(self._numbers)
        ended: asyncio.Future[Ended | None] = self._loop.create_future()
        self._ended[number] = ended
        if self.died.is_set():
            ended.set_result(None)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        answer = bytearray()
        late = False
        try:
            async with asyncio.timeout(limits.wall_s):
                with theirs:
                    await self._send(Fork(number), theirs.fileno())
                await self._ask(ours, jobs, limits)
                if await self._listen(ours, answer, limits.answer_bytes):
                    await asyncio.shield(ended)
        except TimeoutError:
            late = not ended.done()
        finally:
            ours.close()
            await self._finish(number, ended)
        return Call(ended=ended.result(), answer=bytes(answer), late=late)

    async def close(self) -> None:
        """Ends the zygote, by end-of-file and then by force, and waits for it."""
        self._lose("closed")
        try:
            await asyncio.to_thread(self._process.wait, KILL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def _ask(self, link: socket.socket, jobs: Sequence[Job], limits: Limits) -> None:
        """Sends the jobs; a child that is gone already is seen when listening."""
        packed = pack([msgspec.structs.replace(job, limits=limits) for job in jobs])
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._loop.sock_sendall(link, packed)
            link.shutdown(socket.SHUT_WR)

    async def _listen(self, link: socket.socket, answer: bytearray, bytes_max: int) -> bool:
        """Reads up to the end; False where the child sends too much."""
        while len(answer) <= bytes_max:
            try:
                chunk = await self._loop.sock_recv(link, _CHUNK_BYTES)
            except ConnectionResetError:
                return True
            if not chunk:
                return True
            answer += chunk
        return False

    async def _finish(self, number: int, ended: asyncio.Future[Ended | None]) -> None:
        """Waits for the child's end, which is forced where it has not come; a deaf zygote is killed."""
        try:
            if not ended.done():
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(KILL_S):
                        await self._send(Kill(number))
                        await asyncio.shield(ended)
            if not ended.done():
                self._process.kill()
                self._lose("it does not answer")
        finally:
            self._ended.pop(number, None)

    async def _send(self, order: Order, *descriptors: int) -> None:
        packet = pack(order)
        async with self._sending:
            while not self.died.is_set():
                try:
                    socket.send_fds(self._control, [packet], descriptors)
                    return
                except BlockingIOError:
                    await self._writable()
                except (BrokenPipeError, ConnectionResetError):
                    self._lose("its end of the socket is closed")

    async def _writable(self) -> None:
        free: asyncio.Future[None] = self._loop.create_future()
        descriptor = self._control.fileno()
        self._loop.add_writer(descriptor, lambda: free.done() or free.set_result(None))
        try:
            await free
        finally:
            self._loop.remove_writer(descriptor)

    def _take(self) -> None:
        """Takes every report that has come."""
        while not self.died.is_set():
            try:
                packet = self._control.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if packet:
                self._note(packet)
            else:
                self._lose("it ended")

    def _note(self, packet: bytes) -> None:
        try:
            report = reports.decode(packet)
        except msgspec.DecodeError:
            self._lose("it speaks nonsense")
            return
        match report:
            case Ready() as ready:
                if not self._started.done():
                    self._started.set_result(ready)
            case Broken(reason):
                self._lose(reason)
            case Ended() as end:
                waiting = self._ended.get(end.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(end)

    def _lose(self, reason: str) -> None:
        """Ends every call that is under way; does nothing the second time."""
        if self.died.is_set():
            return
        self.died.set()
        self._on_death()
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        if not self._started.done():
            self._started.set_exception(ZygoteDied(reason))
        for waiting in self._ended.values():
            if not waiting.done():
                waiting.set_result(None)
