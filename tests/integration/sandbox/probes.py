"""Processors that misbehave, for the sandbox's tests. Each act is one way out, or one way to end badly."""

# The calls themselves are what is tried here:
# ruff: noqa: PTH101, PTH111, PTH208, PTH211, SIM115

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tanda.contracts.results import Artifact, Failure, Result, SourceFile

_MiB = 1024**2


def _call(name: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def _syscall(number: int, *arguments: Any) -> None:
    _call("syscall", ctypes.c_long(number), *arguments)


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _connect_tcp(options: Mapping[str, Any]) -> None:
    with socket.create_connection(("127.0.0.1", options["port"]), timeout=5):
        pass


def _send_udp(options: Mapping[str, Any]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.sendto(b"secret", ("127.0.0.1", options["port"]))


def _unix_socket(options: Mapping[str, Any]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.connect(options["outside"])


def _bind(options: Mapping[str, Any]) -> None:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))


def _spawn_thread_and_look(options: Mapping[str, Any]) -> None:
    import threading

    found: list[OSError] = []

    def look() -> None:
        try:
            Path("/etc/passwd").read_text()
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    if found:
        raise found[0]


#: Every one must raise OSError in the sandbox. ``options`` names a folder, a port and a process outside.
ESCAPES: dict[str, Callable[[Mapping[str, Any]], object]] = {
    "read_passwd": lambda o: Path("/etc/passwd").read_text(),
    "read_parents_environ": lambda o: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "read_workers_environ": lambda o: Path(f"/proc/{o['worker']}/environ").read_bytes(),
    "read_own_maps": lambda o: Path("/proc/self/maps").read_bytes(),
    "read_neighbour_file": lambda o: Path(o["neighbour"]).read_bytes(),
    "list_spool": lambda o: os.listdir(Path(o["neighbour"]).parent),
    "list_home": lambda o: os.listdir(Path(o["home"])),
    "list_root": lambda o: os.listdir("/"),
    "read_project": lambda o: (Path(o["project"]) / "pyproject.toml").read_text(),
    "write_outside": lambda o: Path(o["outside"]).write_text("x"),
    "write_tmp": lambda o: Path("/tmp/tanda-probe").write_text("x"),
    "write_shared_memory": lambda o: Path("/dev/shm/tanda-probe").write_text("x"),
    "overwrite_source": lambda o: Path(o["source"]).write_text("x"),
    "append_to_neighbour": lambda o: Path(o["neighbour"]).open("ab"),
    "delete_source": lambda o: Path(o["source"]).unlink(),
    "rename_source": lambda o: Path(o["source"]).rename(o["outside"]),
    "make_folder": lambda o: Path(o["outside"]).mkdir(),
    "link_out": lambda o: os.link(o["source"], o["outside"]),
    "symlink_out": lambda o: os.symlink("/etc/passwd", o["outside"]),
    "chmod_neighbour": lambda o: os.chmod(o["neighbour"], 0o777),
    "chown_neighbour": lambda o: os.chown(o["neighbour"], 1, 1),
    "touch_neighbour": lambda o: os.utime(o["neighbour"], (0, 0)),
    "truncate_neighbour": lambda o: os.truncate(o["neighbour"], 0),
    "set_attribute": lambda o: os.setxattr(o["neighbour"], "user.a", b"b"),
    "connect_tcp": _connect_tcp,
    "send_udp": _send_udp,
    "unix_socket": _unix_socket,
    "bind_tcp": _bind,
    "raw_socket": lambda o: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "netlink": lambda o: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "socket_pair": lambda o: socket.socketpair(),
    "io_uring": lambda o: _syscall(425, 8, None),
    "exec": lambda o: os.execv("/bin/true", ["true"]),
    "spawn": lambda o: os.posix_spawn("/bin/true", ["true"], {}),
    "fork": lambda o: _fork(),
    "signal_zygote": lambda o: os.kill(os.getppid(), signal.SIGKILL),
    "signal_worker": lambda o: os.kill(o["worker"], signal.SIGKILL),
    "signal_all": lambda o: os.kill(-1, signal.SIGCONT),
    "signal_by_handle": lambda o: os.pidfd_open(o["worker"]),
    "limit_worker": lambda o: _syscall(302 if os.uname().machine == "x86_64" else 261, o["worker"], 0, None),
    "raise_own_limit": lambda o: __import__("resource").setrlimit(9, (-1, -1)),
    "slow_worker": lambda o: os.setpriority(os.PRIO_PROCESS, o["worker"], 19),
    "ptrace": lambda o: _call("ptrace", 16, o["worker"], 0, 0),
    "read_memory": lambda o: _call("process_vm_readv", o["worker"], None, 0, None, 0, 0),
    "mount": lambda o: _call("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "chroot": lambda o: os.chroot("/"),
    "new_namespace": lambda o: _call("unshare", 0x10000000),
    "become_other": lambda o: os.setuid(1),
    "new_session": lambda o: os.setsid(),
    "outlive_worker": lambda o: _call("prctl", 1, 0, 0, 0, 0),
    "keyring": lambda o: _syscall(250 if os.uname().machine == "x86_64" else 219, 0, -3, 0),
    "bpf": lambda o: _syscall(321 if os.uname().machine == "x86_64" else 280, 0, None, 0),
    "hidden_program": lambda o: os.memfd_create("x"),
    "open_by_handle": lambda o: _call("open_by_handle_at", -100, None, 0),
    "inherited_link": lambda o: next(os.write(n, b"x") for n in range(3, 64) if n != o["link"]),
    "thread_looks": _spawn_thread_and_look,
}


class Escape:
    """Tries ``options["act"]`` and says how it was stopped."""

    name = "escape"
    version = "1"
    accepts: frozenset[str] = frozenset()

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """``{"stopped": errno}``, or ``{"stopped": 0}`` for an escape."""
        link = next(int(number) for number in range(3, 64) if _is_open(number))
        try:
            ESCAPES[options["act"]]({**options, "source": str(source.path), "link": link})
        except (OSError, ValueError) as error:
            return Result(data={"stopped": getattr(error, "errno", 1), "error": str(error)})
        return Result(data={"stopped": 0})


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _burn() -> None:
    while True:
        pass


def _burn_stubbornly() -> None:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    _burn()


def _noise() -> Result:
    print("x" * 100_000)
    print("noise", file=sys.stderr)
    os.write(1, b"\x00\x01")
    return Result(data="quiet")


def _speak_nonsense() -> Result:
    for number in range(3, 64):
        if _is_open(number):
            os.write(number, b"\xff\xff nonsense")
    os._exit(0)


def _deep() -> Result:
    data: list[Any] = []
    for _ in range(100_000):
        data = [data]
    return Result(data=data)


class _Rude(Exception):
    def __str__(self) -> str:
        raise ValueError


def _raise(error: BaseException) -> Result:
    raise error


ENDS: dict[str, Callable[[], Any]] = {
    "fine": lambda: Result(data={"ok": [1, "é", None, 1.5]}, warnings=["page 2 is empty"]),
    "artifact": lambda: Result(
        data=1, artifacts=[Artifact(name="a.png", content_type="image/png", data=b"x" * _MiB)]
    ),
    "failure": lambda: Failure(code="not_an_invoice", message="The root element is no invoice."),
    "failure_without_reason": lambda: Failure(code="broken", message="  "),
    "sleep": signal.pause,
    "burn": _burn,
    "burn_stubbornly": _burn_stubbornly,
    "allocate": lambda: len(bytearray(1024 * _MiB)),
    "allocate_slowly": lambda: [bytearray(_MiB) for _ in range(4096)],
    "huge_result": lambda: Result(data="x" * (3 * _MiB)),
    "many_warnings": lambda: Result(data=1, warnings=["ñ" * 2_000] * 2_000),
    "many_artifacts": lambda: Result(data=1, artifacts=[Artifact(name="a", content_type="b", data=b"")] * 17),
    "huge_artifact": lambda: Result(
        data=1, artifacts=[Artifact(name="a", content_type="b", data=bytes(3 * _MiB))]
    ),
    "bad_artifact_name": lambda: Result(
        data=1, artifacts=[Artifact(name="../a\r\n", content_type="b", data=b"")]
    ),
    "assertion": lambda: _raise(AssertionError()),
    "path_in_message": lambda: _raise(RuntimeError("cannot read /srv/data/t/1.xml\nsecond line")),
    "rude": lambda: _raise(_Rude()),
    "surrogate": lambda: _raise(RuntimeError("bad \udcff name")),
    "sys_exit": lambda: sys.exit(3),
    "os_exit": lambda: os._exit(0),
    "os_exit_7": lambda: os._exit(7),
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "kill_self": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "noise": _noise,
    "nonsense": _speak_nonsense,
    "nothing": lambda: None,
    "not_json": lambda: Result(data=object()),
    "deep": _deep,
    "environment": lambda: Result(data={"python": dict(os.environ), "home": os.path.expanduser("~x")}),
    "descriptors": lambda: Result(data=[number for number in range(64) if _is_open(number)]),
}


class End:
    """Ends as ``options["act"]`` says."""

    name = "end"
    version = "7"
    accepts = frozenset({"text/plain"})

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Whatever the act gives or raises."""
        return ENDS[options["act"]]()


class Draws:
    """Has a result, and draws as ``options["act"]`` says."""

    name = "draws"
    version = "1"
    reusable = True
    accepts: frozenset[str] = frozenset()

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """A result in any case."""
        return Result(data={"read": True}, warnings=["page 2 is empty"])

    def draw(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Whatever the act gives or raises."""
        return ENDS[options["act"]]()


class Echo:
    """Gives the source's text, and how often this class was called in this process."""

    name = "echo"
    version = "1"
    accepts: frozenset[str] = frozenset()
    calls = 0

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """``{"text": ..., "calls": n}``"""
        Echo.calls += 1
        return Result(data={"text": source.path.read_text(), "calls": Echo.calls, "n": options.get("n")})


class Follow:
    """Ends as the file's content says, so that files of one child can end differently."""

    name = "follow"
    version = "1"
    accepts: frozenset[str] = frozenset()
    shares_child = True
    reusable = True
    pids: tuple[int, ...] = ()

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Who was processed in this process before, or whatever ``ENDS`` has for the text."""
        text = source.path.read_text()
        if text in ENDS:
            return ENDS[text]()
        Follow.pids += (os.getpid(),)
        return Result(data={"text": text, "before": len(Follow.pids) - 1})


class Wait:
    """Says that it runs, by a byte on a fifo's other end being closed, and waits to be killed."""

    name = "wait"
    version = "1"
    accepts: frozenset[str] = frozenset()

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Never returns. Reading the source, a fifo, tells the test that the job is under way."""
        with source.path.open("rb") as fifo:
            fifo.read(1)
        signal.pause()
        return Result(data=None)


class Trusted:
    """Never looks at the content."""

    name = "trusted"
    version = "1"
    accepts: frozenset[str] = frozenset()
    trusted = True
    reusable = True

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """The process it runs in."""
        if options.get("fail"):
            raise RuntimeError("failed")
        if options.get("garble"):
            return Result(data=msgspec.Raw(options["garble"].encode("latin-1")))
        return Result(data=os.getpid())


class Parsers:
    """Uses every parser that the product bundles, to show that the sandbox leaves them what they need."""

    name = "parsers"
    version = "1"
    accepts: frozenset[str] = frozenset()

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Imports lazily, on purpose."""
        import io
        import zoneinfo

        import pypdfium2
        import zxingcpp
        from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]
        from PIL import Image

        picture = io.BytesIO()
        Image.new("RGB", (40, 40)).save(picture, "webp")
        width = Image.open(io.BytesIO(picture.getvalue())).size[0]
        pdf = pypdfium2.PdfDocument.new()
        pdf.new_page(100, 100)
        picture_of_page = pdf[0].render().to_pil()
        code = zxingcpp.create_barcode("tanda", zxingcpp.BarcodeFormat.QRCode)
        read = zxingcpp.read_barcodes(zxingcpp.write_barcode_to_image(code, scale=4))
        return Result(
            data=[
                *(width, picture_of_page.size[0], read[0].text),
                *(
                    etree.fromstring("<a/>").tag,
                    zoneinfo.ZoneInfo("UTC").key,
                    "x".encode("cp1252").decode("cp037"),
                ),
            ]
        )
