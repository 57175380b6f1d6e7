"""A system call filter for a job's child: no sockets, no programs, no other processes, no writing.

Everything is allowed but what is named here, so that a new parser does not break on a harmless call; what is
named is what leaves a file, a socket or another process changed. The filter is built as classic BPF by hand:
64-bit instructions of (code, jump if true, jump if false, constant).
"""

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

#: linux/prctl.h
PR_SET_SECCOMP = 22
PR_SET_PDEATHSIG = 1
SECCOMP_MODE_FILTER = 2
#: linux/seccomp.h
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_EPERM = _ERRNO | errno.EPERM
_ENOSYS = _ERRNO | errno.ENOSYS
#: linux/bpf_common.h: load word, jump if equal / greater or equal / any bit, return; all with a constant.
_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
#: Offsets in struct seccomp_data; both machines are little-endian, so an argument's low half comes first.
_AT_NUMBER, _AT_ARCH, _AT_ARGUMENTS = 0, 4, 16

#: linux/sched.h: a new thread rather than a new process.
_CLONE_THREAD = 0x00010000
#: Opening with any of these may write or create; O_TMPFILE is only valid with one of the first two.
_OPEN_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
#: x86-64's second table of calls (x32) begins here.
_X32 = 0x40000000


class Machine(NamedTuple):
    """One architecture's numbers."""

    #: linux/audit.h: AUDIT_ARCH_…
    arch: int
    #: Refused with EPERM.
    refused: dict[str, int]
    #: Refused with ENOSYS, so that the C library falls back to the older call, which is looked at.
    absent: dict[str, int]
    clone: int
    prctl: int
    prlimit64: int
    #: kill, tgkill: only to itself.
    signals: tuple[int, ...]
    #: (call, which argument holds the flags)
    opens: tuple[tuple[int, int], ...]


#: arch/x86/entry/syscalls/syscall_64.tbl
_X86_64 = {
    **{"socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "socketpair": 53},
    **{"accept4": 288, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427},
    **{"fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "setsid": 112, "setpgid": 109},
    **{"ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312},
    **{"tkill": 200, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "process_madvise": 440},
    **{"pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438, "process_mrelease": 448},
    **{"setpriority": 141, "sched_setparam": 142, "sched_setscheduler": 144, "sched_setaffinity": 203},
    **{"sched_setattr": 314, "ioprio_set": 251, "migrate_pages": 256, "move_pages": 279},
    **{"mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308},
    **{"open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432},
    **{"fspick": 433, "mount_setattr": 442, "swapon": 167, "swapoff": 168, "quotactl": 179},
    **{"bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "syslog": 103, "acct": 163},
    **{"keyctl": 250, "add_key": 248, "request_key": 249, "personality": 135, "memfd_create": 319},
    **{"init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246},
    **{"kexec_file_load": 320, "reboot": 169, "iopl": 172, "ioperm": 173, "sethostname": 170},
    **{"setdomainname": 171, "settimeofday": 164, "adjtimex": 159, "clock_settime": 227},
    **{"clock_adjtime": 305, "name_to_handle_at": 303, "open_by_handle_at": 304},
    **{"creat": 85, "truncate": 76, "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86, "unlink": 87},
    **{"symlink": 88, "mknod": 133, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94},
    **{"utime": 132, "utimes": 235, "futimesat": 261, "mkdirat": 258, "mknodat": 259, "fchownat": 260},
    **{"unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268},
    **{"utimensat": 280, "renameat2": 316, "fchmodat2": 452, "setxattr": 188, "lsetxattr": 189},
    **{"fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199},
}

#: include/uapi/asm-generic/unistd.h
_AARCH64 = {
    **{"socket": 198, "connect": 203, "accept": 202, "bind": 200, "listen": 201, "socketpair": 199},
    **{"accept4": 242, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427},
    **{"execve": 221, "execveat": 281, "setsid": 157, "setpgid": 154},
    **{"ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272},
    **{"tkill": 130, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "process_madvise": 440},
    **{"pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438, "process_mrelease": 448},
    **{"setpriority": 140, "sched_setparam": 118, "sched_setscheduler": 119, "sched_setaffinity": 122},
    **{"sched_setattr": 274, "ioprio_set": 30, "migrate_pages": 238, "move_pages": 239},
    **{"mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268},
    **{"open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432},
    **{"fspick": 433, "mount_setattr": 442, "swapon": 224, "swapoff": 225, "quotactl": 60},
    **{"bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "syslog": 116, "acct": 89},
    **{"keyctl": 219, "add_key": 217, "request_key": 218, "personality": 92, "memfd_create": 279},
    **{"init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104},
    **{"kexec_file_load": 294, "reboot": 142, "sethostname": 161, "setdomainname": 162},
    **{"settimeofday": 170, "adjtimex": 171, "clock_settime": 112, "clock_adjtime": 266},
    **{"name_to_handle_at": 264, "open_by_handle_at": 265, "truncate": 45, "mkdirat": 34},
    **{"mknodat": 33, "fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "fchown": 55, "fchownat": 54},
    **{"unlinkat": 35, "renameat": 38, "renameat2": 276, "linkat": 37, "symlinkat": 36},
    **{"utimensat": 88, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14},
    **{"lremovexattr": 15, "fremovexattr": 16},
}

_LATE = {"clone3": 435, "openat2": 437}

MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        _X86_64,
        _LATE,
        clone=56,
        prctl=157,
        prlimit64=302,
        signals=(62, 234),
        opens=((2, 1), (257, 2)),
    ),
    "aarch64": Machine(
        0xC00000B7, _AARCH64, _LATE, clone=220, prctl=167, prlimit64=261, signals=(129, 131), opens=((56, 2),)
    ),
}


def machine() -> Machine | None:
    """The numbers of the machine we are on, or None where we do not have them."""
    return MACHINES.get(platform.machine())


def build(numbers: Machine, pid: int) -> bytes:
    """The filter for the process ``pid``, which may signal itself only."""
    parts = [
        _step(_LD, _AT_ARCH),
        *(_step(_JEQ, numbers.arch, true=1), _step(_RET, _KILL_PROCESS)),
        _step(_LD, _AT_NUMBER),
        *(_step(_JGE, _X32, false=1), _step(_RET, _EPERM)),
        _where(numbers.clone, 0, _JSET, _CLONE_THREAD, _ALLOW, _EPERM),
        _where(numbers.prctl, 0, _JEQ, PR_SET_PDEATHSIG, _EPERM, _ALLOW),
        _where(numbers.prlimit64, 0, _JEQ, 0, _ALLOW, _EPERM),
        *(_where(call, 0, _JEQ, pid, _ALLOW, _EPERM) for call in numbers.signals),
        *(_where(call, flags, _JSET, _OPEN_WRITES, _EPERM, _ALLOW) for call, flags in numbers.opens),
        *(_always(call, _EPERM) for call in numbers.refused.values()),
        *(_always(call, _ENOSYS) for call in numbers.absent.values()),
        _step(_RET, _ALLOW),
    ]
    return b"".join(parts)


def apply(libc: ctypes.CDLL, program: bytes) -> None:
    """Puts the filter on this thread for ever; OSError where the kernel will not. Needs no_new_privs."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def _step(code: int, constant: int, *, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, true, false, constant)


def _always(call: int, verdict: int) -> bytes:
    return _step(_JEQ, call, false=1) + _step(_RET, verdict)


def _where(call: int, argument: int, test: int, constant: int, yes: int, no: int) -> bytes:
    """For one call: ``yes`` where its argument's low half passes the test, else ``no``."""
    return (
        _step(_JEQ, call, false=4)
        + _step(_LD, _AT_ARGUMENTS + 8 * argument)
        + _step(test, constant, false=1)
        + _step(_RET, yes)
        + _step(_RET, no)
    )
