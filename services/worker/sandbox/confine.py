"""The kernel's calls that a job's child is confined with: limits, capabilities, Landlock and the filter.

:meth:`Confinement.prepare` is called once in the zygote and does what is slow or may fail (opening the
folders, asking the kernel for versions); :meth:`Confinement.enter` is called in every child, before the
processor sees a byte. A layer that the kernel lacks is left out and not reported; a layer that was there for
the trial child and fails later raises, so that no job ever runs with less than the level says.
"""

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from services.worker.sandbox import seccomp
from services.worker.sandbox.wire import Limits

#: linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
#: linux/capability.h: _LINUX_CAPABILITY_VERSION_3
_CAPABILITY_VERSION = 0x20080522

#: The three calls have the same numbers on every architecture.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1
#: linux/landlock.h: LANDLOCK_ACCESS_FS_…
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
#: How many file rights each version of the interface knows; later versions add other things.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FILE_RIGHTS_LATEST = 16
#: Bind and connect of TCP, from version 4.
_NET_RIGHTS = 0b11
#: Abstract sockets and signals to processes outside, from version 6.
_SCOPES = 0b11

#: Every layer there is, outermost first.
LAYERS = ("rlimits", "nnp", "landlock", "seccomp")

#: Where the loader finds libraries and Python its time zones; missing ones are skipped.
_SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/usr/share/zoneinfo",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def load_libc() -> ctypes.CDLL:
    """The C library that this process runs on."""
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent(libc: ctypes.CDLL, parent: int) -> None:
    """Has the kernel kill this process when its parent ends; exits at once where that is too late."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans(libc: ctypes.CDLL) -> None:
    """Makes this process the parent of whatever its children leave behind."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def landlock_version(libc: ctypes.CDLL) -> int:
    """The kernel's version of the interface, 0 where there is none."""
    version = libc.syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_CREATE_RULESET_VERSION)
    )
    return max(0, int(version))


class Confinement:
    """What every child puts on, prepared."""

    def __init__(
        self, libc: ctypes.CDLL, layers: Iterable[str], readable: dict[int, int], version: int
    ) -> None:
        self._libc = libc
        self._readable = readable
        self._version = version
        self._machine = seccomp.machine()
        self._layers = frozenset(layers)

    @classmethod
    def prepare(cls, libc: ctypes.CDLL, layers: Iterable[str], readable: Iterable[Path]) -> "Confinement":
        """Opens the folders that Python and the parsers read lazily; they stay open."""
        paths = {str(path) for path in readable} | {*_SYSTEM, *_DEVICES}
        opened: dict[int, int] = {}
        for path in sorted(paths):
            with suppress(OSError):
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
                opened[handle] = _READ_FILE | _READ_DIR if Path(path).is_dir() else _READ_FILE
        return cls(libc, layers, opened, landlock_version(libc))

    def names(self) -> list[str]:
        """The layers as they are reported, Landlock with its version."""
        return [
            f"landlock{self._version}" if layer == "landlock" else layer
            for layer in LAYERS
            if layer in self._layers
        ]

    def without(self, layer: str) -> "Confinement":
        """The same with one layer less."""
        return Confinement(self._libc, self._layers - {layer}, self._readable, self._version)

    def layers(self) -> list[str]:
        """The layers in the order in which they are put on."""
        return [layer for layer in LAYERS if layer in self._layers]

    def enter(self, sources: Sequence[Path], limits: Limits) -> None:
        """Confines this process for ever; OSError with the layer's name where the kernel refuses one."""
        for layer in self.layers():
            self.put_on(layer, sources, limits)

    def put_on(self, layer: str, sources: Sequence[Path], limits: Limits) -> None:
        """Puts one layer on this process; OSError where the kernel refuses it."""
        match layer:
            case "rlimits":
                _limit(limits)
            case "nnp":
                self._give_up_rights()
            case "landlock":
                self._restrict_files(sources)
            case _:
                self._filter_calls()

    def _give_up_rights(self) -> None:
        """No set-uid program gives new rights, and root keeps its name only."""
        _must(self._libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0))
        nothing = ctypes.create_string_buffer(24)
        _must(self._libc.capset(header, nothing), "capset")

    def _restrict_files(self, sources: Sequence[Path]) -> None:
        """Reading of the sources and of what was prepared; no writing, no TCP, no signals outside."""
        ruleset = self._ruleset()
        for handle, rights in self._readable.items():
            self._allow(ruleset, handle, rights)
        for source in sources:
            handle = os.open(source, os.O_PATH | os.O_CLOEXEC)
            self._allow(ruleset, handle, _READ_FILE)
            os.close(handle)
        _must(self._libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)), "landlock")
        os.close(ruleset)

    def _ruleset(self) -> int:
        if self._version < 1:
            raise OSError("landlock")
        files = (1 << _FILE_RIGHTS.get(self._version, _FILE_RIGHTS_LATEST)) - 1
        words = [files]
        if self._version >= 4:
            words.append(_NET_RIGHTS)
        if self._version >= 6:
            words.append(_SCOPES)
        attributes = ctypes.create_string_buffer(struct.pack(f"={len(words)}Q", *words))
        size = ctypes.c_size_t(8 * len(words))
        call = self._libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, size, ctypes.c_uint32(0))
        return _must(call, "landlock")

    def _allow(self, ruleset: int, handle: int, rights: int) -> None:
        attributes = ctypes.create_string_buffer(struct.pack("=Qi", rights, handle))
        call = self._libc.syscall(
            _LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH_BENEATH, attributes, ctypes.c_uint32(0)
        )
        _must(call, "landlock")

    def _filter_calls(self) -> None:
        if self._machine is None:
            raise OSError("seccomp")
        seccomp.apply(self._libc, seccomp.build(self._machine, os.getpid()))


def _limit(limits: Limits) -> None:
    """The hard CPU limit is one second above the soft one, for a child that ignores SIGXCPU."""
    for which, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
        (resource.RLIMIT_NOFILE, limits.files, limits.files),
        (resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1),
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
    ):
        _, ceiling = resource.getrlimit(which)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)  # noqa: PLW2901
        resource.setrlimit(which, (soft, hard))


def _must(outcome: int, what: str) -> int:
    if outcome < 0:
        raise OSError(ctypes.get_errno(), what)
    return outcome
