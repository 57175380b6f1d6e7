"""The process that has imported every processor and forks one child for each job or few small ones.

``python -I -m services.worker.sandbox.zygote DESCRIPTOR PARENT`` with one end of a ``SOCK_SEQPACKET``
pair, see ``wire.py``. It stays single-threaded, so that forking it is safe; it never reads a job, so that
nothing of one remains here; and it ends, with all its children, when the worker does.
"""

import gc
import importlib
import os
import select
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from services.worker.sandbox import child, confine
from services.worker.sandbox.wire import (
    PACKET_BYTES_MAX,
    Begin,
    Broken,
    Ended,
    Fork,
    Kill,
    Known,
    Limits,
    Ready,
    Report,
    orders,
    pack,
)
from tanda.contracts.results import Processor

#: Linux gives ru_maxrss in units of this many bytes.
_RSS_UNIT_BYTES = 1024
#: The trial child's limits: it only enters and leaves.
_TRIAL = Limits()


class Zygote:
    """The loop over orders and ended children."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._libc = confine.load_libc()
        self._processors: dict[str, Processor] = {}
        #: Process id to number, and back.
        self._numbers: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._woken, self._wake = socket.socketpair()

    def run(self, begin: Begin) -> None:
        """Imports, says that it is ready, and serves until the worker is gone."""
        self._watch_children()
        sys.path[:0] = begin.sys_path
        known, unknown = self._import(begin.processors)
        self._confinement = self._try_on(
            confine.Confinement.prepare(self._libc, begin.layers, readable_folders())
        )
        gc.collect()
        gc.disable()
        gc.freeze()
        self._send(Ready(known=known, unknown=unknown, layers=self._confinement.names()))
        self._serve()

    def _watch_children(self) -> None:
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def _import(self, paths: dict[str, str]) -> tuple[dict[str, Known], dict[str, str]]:
        known: dict[str, Known] = {}
        unknown: dict[str, str] = {}
        for name, path in paths.items():
            try:
                processor = load(path)
                known[name] = _describe(path, processor)
                self._processors[name] = processor
            except Exception as error:  # one broken plug-in must not stop the others
                unknown[name] = child.describe(error)
        return known, unknown

    def _try_on(self, confinement: confine.Confinement) -> confine.Confinement:
        """Leaves out the layers that a trial child cannot put on here."""
        for layer in confinement.layers():
            trial = os.fork()
            if trial == 0:
                _exit_by(partial(_try_layer, confinement, layer))
            _, status = os.waitpid(trial, 0)
            if status != 0:
                confinement = confinement.without(layer)
        return confinement

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._woken.fileno() in ready:
                self._reap()
            if self._link.fileno() in ready and not self._obey():
                return

    def _obey(self) -> bool:
        """Takes one order; False when the worker is gone."""
        packet, descriptors, _, _ = socket.recv_fds(self._link, PACKET_BYTES_MAX, 1)
        if not packet:
            return False
        match orders.decode(packet):
            case Fork(number):
                self._fork(number, descriptors[0])
            case Kill(number) if number in self._pids:
                self._kill(self._pids[number])
            case Kill(number):
                # It has ended, or its Fork was never sent: either way the worker waits for nothing.
                self._send(_never_run(number))
            case Begin():
                pass
        return True

    def _fork(self, number: int, descriptor: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            os.close(descriptor)
            self._send(_never_run(number))
            return
        if pid == 0:
            _exit_by(lambda: self._become_child(descriptor, parent))
        os.close(descriptor)
        self._numbers[pid], self._pids[number] = number, pid

    def _become_child(self, descriptor: int, parent: int) -> None:
        confine.die_with_parent(self._libc, parent)
        child.forget_parent()
        child.be_first_out_of_memory()
        child.run(socket.socket(fileno=descriptor), self._processors, self._confinement)

    def _kill(self, pid: int) -> None:
        """The child has not been reaped, so its number is still its own."""
        for kill in (os.killpg, os.kill):
            try:
                kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _reap(self) -> None:
        while self._woken_now():
            pass
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._numbers.pop(pid, None)
            if number is None:
                continue
            del self._pids[number]
            code = os.waitstatus_to_exitcode(status)
            cpu_s = usage.ru_utime + usage.ru_stime
            rss_bytes = usage.ru_maxrss * _RSS_UNIT_BYTES
            self._send(Ended(number=number, code=code, cpu_s=cpu_s, rss_bytes=rss_bytes))

    def _woken_now(self) -> bytes:
        try:
            return self._woken.recv(4096)
        except BlockingIOError:
            return b""

    def _send(self, report: Report) -> None:
        self._link.send(pack(report))

    def end(self) -> None:
        """Kills every child that is left."""
        for pid in list(self._numbers):
            self._kill(pid)


def load(path: str) -> Processor:
    """Makes the processor at ``package.module:Class``; whatever its import raises."""
    module, _, name = path.partition(":")
    return cast(Processor, getattr(importlib.import_module(module), name)())


def readable_folders() -> set[Path]:
    """The standard library, installed packages, and the package of every module imported from elsewhere.

    Not ``sys.path`` as it is: of a project installed in place that would be its whole folder, with its data.
    """
    installed = {Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed.add(Path(sys.base_prefix) / "lib")
    folders = set(installed)
    for name, module in list(sys.modules.items()):
        if "." not in name:
            places = getattr(module, "__path__", None) or [getattr(module, "__file__", None)]
            folders.update(Path(place) for place in places if place)
    return {f for f in folders if f in installed or not any(f.is_relative_to(i) for i in installed)}


def _describe(path: str, processor: Processor) -> Known:
    trusted, shares_child, reusable = (
        getattr(processor, name, False) is True for name in ("trusted", "shares_child", "reusable")
    )
    return Known(
        path=path, version=processor.version, accepts=frozenset(processor.accepts), trusted=trusted,
        shares_child=shares_child, draws=callable(getattr(processor, "draw", None)),
        # Looking a result up costs as much as cheap work.
        reusable=reusable and not trusted and not shares_child,
    )  # fmt: skip


def _never_run(number: int) -> Ended:
    return Ended(number=number, code=-signal.SIGKILL, cpu_s=0.0, rss_bytes=0)


def _try_layer(confinement: confine.Confinement, layer: str) -> None:
    if layer == "seccomp":
        # Without it an unprivileged process may not install a filter at all.
        confinement.put_on("nnp", (), _TRIAL)
    confinement.put_on(layer, (), _TRIAL)


def _exit_by(act: Callable[[], None]) -> None:
    """Runs ``act`` as the last thing of a forked child: nothing of the zygote's stack is ever unwound."""
    try:
        act()
    except BaseException:  # the exit status is all that is left to say it with
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Serves on the descriptor named on the command line."""
    libc = confine.load_libc()
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    confine.die_with_parent(libc, int(sys.argv[2]))
    confine.adopt_orphans(libc)
    zygote = Zygote(link)
    try:
        begin = orders.decode(link.recv(PACKET_BYTES_MAX))
        if isinstance(begin, Begin):
            zygote.run(begin)
    except (BrokenPipeError, ConnectionResetError):
        pass
    except Exception as error:  # the worker logs it and starts another
        link.send(pack(Broken(child.describe(error))))
    finally:
        zygote.end()


if __name__ == "__main__":
    main()
