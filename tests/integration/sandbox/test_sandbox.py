"""The sandbox holds: every way out is shut, every bad end has its name, and nothing is left behind."""

import asyncio
import errno
import hashlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.worker.sandbox.sandbox import Job, Limits, Sandbox, SandboxFailed, installed_processors
from tanda.contracts.codec import encode
from tanda.contracts.results import Failure, Result, SourceFile
from tests.integration.sandbox import probes

_HERE = Path(__file__).parent
_PROBES = {
    name: f"probes:{kind.__name__}"
    for name, kind in {
        **{"escape": probes.Escape, "end": probes.End, "echo": probes.Echo, "wait": probes.Wait},
        **{
            "trusted": probes.Trusted,
            "parsers": probes.Parsers,
            "follow": probes.Follow,
            "draws": probes.Draws,
        },
    }.items()
}
_MiB = 1024**2


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    """One sandbox for the whole file: no job may spoil it for the next."""
    started = Sandbox(sys_path=[str(_HERE)])
    await started.start(_PROBES)
    yield started
    await started.close()


@pytest.fixture
async def own_sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox that a test may kill."""
    started = Sandbox(sys_path=[str(_HERE)])
    await started.start(_PROBES)
    yield started
    await started.close()


@pytest.fixture
def source(tmp_path: Path) -> SourceFile:
    """A file with the text ``hola``."""
    return a_source(tmp_path / "spool" / "1", b"hola")


@pytest.fixture
def listener() -> Iterator[int]:
    """A port on loopback where a connection would be accepted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def a_source(path: Path, data: bytes) -> SourceFile:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return SourceFile(path=path, name="a.txt", content_type="text/plain", bytes=len(data), sha256=digest)


async def ends(sandbox: Sandbox, source: SourceFile, act: str, **limits: Any) -> Result | Failure:
    job = Job(processor="end", source=source, options={"act": act}, limits=Limits(**limits))
    return await sandbox.run(job)


async def started(path: Path) -> int:
    """Waits until a child has opened the fifo; gives the writing end, which keeps it open."""
    return await asyncio.to_thread(os.open, path, os.O_WRONLY)


def a_fifo(folder: Path) -> SourceFile:
    path = folder / "fifo"
    os.mkfifo(path)
    return SourceFile(path=path, name="a", content_type="text/plain", bytes=1, sha256="0" * 64)


_DENIALS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EBADF, errno.EXDEV, errno.EROFS}


@pytest.mark.parametrize("act", probes.ESCAPES)
async def test_every_escape_is_denied(
    sandbox: Sandbox, source: SourceFile, tmp_path: Path, listener: int, act: str
) -> None:
    """Whatever a hijacked parser tries outside its one file, the kernel refuses."""
    neighbour = a_source(tmp_path / "spool" / "2", b"another tenant's")
    before = (neighbour.path.read_bytes(), neighbour.path.stat())
    project = _HERE.parents[2]
    options = {
        **{"act": act, "neighbour": str(neighbour.path), "outside": str(tmp_path / "out"), "port": listener},
        **{"worker": os.getpid(), "home": str(Path.home()), "project": str(project)},
    }
    outcome = await sandbox.run(Job(processor="escape", source=source, options=options))
    assert isinstance(outcome, Result), outcome
    assert outcome.data["stopped"] in _DENIALS, outcome.data
    after = (neighbour.path.read_bytes(), neighbour.path.stat())
    assert (before[0], before[1].st_mtime, before[1].st_mode) == (
        after[0],
        after[1].st_mtime,
        after[1].st_mode,
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layers", [("rlimits", "nnp", "seccomp"), ("rlimits", "nnp", "landlock")])
async def test_one_layer_alone_still_denies_writing_and_tcp(
    source: SourceFile, tmp_path: Path, listener: int, layers: tuple[str, ...]
) -> None:
    """A kernel without Landlock or without seccomp is reported, and the other layer holds these."""
    sandbox = Sandbox(sys_path=[str(_HERE)], layers=layers)
    await sandbox.start(_PROBES)
    try:
        assert ("seccomp" in sandbox.level, "landlock" in sandbox.level) == (
            "seccomp" in layers,
            "landlock" in layers,
        )
        for act in ("write_outside", "overwrite_source", "delete_source", "connect_tcp", "bind_tcp", "exec"):
            options = {"act": act, "outside": str(tmp_path / "out"), "port": listener}
            outcome = await sandbox.run(Job(processor="escape", source=source, options=options))
            assert isinstance(outcome, Result)
            assert outcome.data["stopped"] in _DENIALS, (act, outcome.data)
    finally:
        await sandbox.close()


async def test_the_level_names_every_layer_of_this_kernel(sandbox: Sandbox) -> None:
    """An operator reads in one word what confines the children."""
    first, second, *rest = sandbox.level.split("+")
    assert (first, second) == ("rlimits", "nnp")
    assert all(layer == "seccomp" or layer.startswith("landlock") for layer in rest)


async def test_without_any_layer_jobs_still_run_and_the_level_says_so(source: SourceFile) -> None:
    """An old kernel gets a warning, not an outage."""
    sandbox = Sandbox(sys_path=[str(_HERE)], layers=())
    await sandbox.start(_PROBES)
    try:
        assert sandbox.level == "none"
        assert isinstance(await ends(sandbox, source, "fine"), Result)
    finally:
        await sandbox.close()


async def test_a_result_comes_back_whole(sandbox: Sandbox, source: SourceFile) -> None:
    """Data, artifacts and warnings survive the way."""
    outcome = await ends(sandbox, source, "fine")
    assert outcome == Result(data={"ok": [1, "é", None, 1.5]}, warnings=["page 2 is empty"])


async def test_warnings_are_as_many_as_an_event_has_room_for(sandbox: Sandbox, source: SourceFile) -> None:
    """The log would refuse the outcome of a file of which there is too much to say."""
    outcome = await ends(sandbox, source, "many_warnings")
    assert isinstance(outcome, Result)
    assert set(outcome.warnings) == {"ñ" * 1_000}
    assert 60 * 1024 < len(encode(outcome.warnings)) <= 64 * 1024 + len("[]")


async def test_an_artifact_comes_back_whole(sandbox: Sandbox, source: SourceFile) -> None:
    """Also one that is larger than a socket's buffer."""
    outcome = await ends(sandbox, source, "artifact")
    assert isinstance(outcome, Result)
    assert [(a.name, a.content_type, len(a.data)) for a in outcome.artifacts] == [
        ("a.png", "image/png", _MiB)
    ]


async def test_a_failure_is_passed_on(sandbox: Sandbox, source: SourceFile) -> None:
    """A faulty file is an ordinary outcome."""
    outcome = await ends(sandbox, source, "failure")
    assert outcome == Failure(code="not_an_invoice", message="The root element is no invoice.")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("assertion", "AssertionError without a message"),
        ("path_in_message", "RuntimeError: cannot read <path>"),
        ("rude", "_Rude without a message"),
        ("surrogate", "RuntimeError: bad ? name"),
        ("sys_exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt without a message"),
        ("os_exit", "The processor ended its process without an answer (exit status 0)."),
        ("os_exit_7", "The processor ended its process without an answer (exit status 7)."),
        ("nonsense", "The processor's answer is not one."),
        ("nothing", "The processor gave NoneType, not a Result or a Failure."),
        ("not_json", "TypeError: Encoding objects of type object is unsupported"),
        ("bad_artifact_name", "An artifact's name or type is empty, too long or not one line of text."),
    ],
)
async def test_a_broken_processor_is_a_processor_error(
    sandbox: Sandbox, source: SourceFile, act: str, message: str
) -> None:
    """However it breaks: one sentence, never empty, without a path of ours, and no use in repeating it."""
    assert await ends(sandbox, source, act) == Failure(code="processor_error", message=message)


async def test_a_result_too_deep_for_json_is_a_processor_error(sandbox: Sandbox, source: SourceFile) -> None:
    """The encoder's recursion limit is an exception like any other."""
    outcome = await ends(sandbox, source, "deep")
    assert isinstance(outcome, Failure)
    assert outcome.code == "processor_error"


async def test_a_failure_without_a_reason_gets_one(sandbox: Sandbox, source: SourceFile) -> None:
    """An error message is never empty."""
    outcome = await ends(sandbox, source, "failure_without_reason")
    assert outcome == Failure(code="broken", message="The processor gave no reason (broken).")


@pytest.mark.parametrize(
    ("act", "limits", "code", "retryable"),
    [
        ("sleep", {"wall_s": 0.3}, "timeout", False),
        ("burn", {"cpu_s": 1}, "cpu_time", False),
        ("burn_stubbornly", {"cpu_s": 1}, "cpu_time", False),
        ("allocate", {"memory_bytes": 768 * _MiB}, "memory", True),
        ("allocate_slowly", {"memory_bytes": 768 * _MiB}, "memory", True),
        ("huge_result", {"result_bytes": 2 * _MiB}, "result_too_large", False),
        ("many_artifacts", {}, "result_too_large", False),
        ("huge_artifact", {"artifact_bytes": 2 * _MiB}, "result_too_large", False),
        ("kill_self", {}, "worker_lost", True),
        ("abort", {}, "worker_lost", True),
        ("segfault", {}, "worker_lost", True),
    ],
)
async def test_every_limit_has_its_failure(
    sandbox: Sandbox, source: SourceFile, act: str, limits: dict[str, Any], code: str, retryable: bool
) -> None:
    """What was used up is named, and whether another attempt may help."""
    outcome = await ends(sandbox, source, act, **limits)
    assert isinstance(outcome, Failure), outcome
    assert (outcome.code, outcome.retryable) == (code, retryable)
    assert outcome.message


async def test_a_lost_child_names_the_signal(sandbox: Sandbox, source: SourceFile) -> None:
    """The operator sees how it died."""
    outcome = await ends(sandbox, source, "abort")
    assert isinstance(outcome, Failure)
    assert outcome.message == "The file's process was ended by SIGABRT."


async def test_noise_on_stdout_is_not_an_answer(sandbox: Sandbox, source: SourceFile) -> None:
    """A parser's prints go nowhere."""
    assert await ends(sandbox, source, "noise") == Result(data="quiet")


async def test_the_environment_is_empty(sandbox: Sandbox, source: SourceFile) -> None:
    """No secret of the worker's is in a child's reach."""
    outcome = await ends(sandbox, source, "environment")
    assert isinstance(outcome, Result)
    assert outcome.data["python"] == {}


async def test_a_child_holds_its_streams_and_its_link_only(sandbox: Sandbox, source: SourceFile) -> None:
    """No descriptor of the zygote's is left to write to."""
    outcome = await ends(sandbox, source, "descriptors")
    assert isinstance(outcome, Result)
    assert len(outcome.data) == 4


async def test_a_missing_source_may_be_fetched_again(sandbox: Sandbox, tmp_path: Path) -> None:
    """The spool lost it; the object store has it."""
    gone = SourceFile(path=tmp_path / "gone", name="a", content_type="b", bytes=1, sha256="0")
    outcome = await ends(sandbox, gone, "fine")
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.retryable) == ("source_missing", True)


async def test_an_unknown_processor_is_a_failure(sandbox: Sandbox, source: SourceFile) -> None:
    """A worker that lacks a plug-in says so."""
    outcome = await sandbox.run(Job(processor="ocr", source=source))
    assert outcome == Failure(code="unknown_processor", message="There is no processor 'ocr'.")


async def test_a_processor_that_cannot_be_imported_fails_its_own_jobs_only(source: SourceFile) -> None:
    """One broken plug-in does not stop the worker."""
    sandbox = Sandbox(sys_path=[str(_HERE)])
    await sandbox.start({"broken": "no_such_module:Thing", **_PROBES})
    try:
        assert list(sandbox.unknown) == ["broken"]
        outcome = await sandbox.run(Job(processor="broken", source=source))
        assert isinstance(outcome, Failure)
        assert outcome.code == "unknown_processor"
        assert isinstance(await ends(sandbox, source, "fine"), Result)
    finally:
        await sandbox.close()


async def test_processors_describe_themselves(sandbox: Sandbox) -> None:
    """The worker learns versions and types without importing a parser."""
    end = sandbox.known["end"]
    assert (end.version, end.accepts, end.trusted) == ("7", frozenset({"text/plain"}), False)
    reusable = [name for name, known in sandbox.known.items() if known.reusable]
    assert reusable == ["draws"], "not the one that shares a child, and not the trusted one"


async def test_the_bundled_parsers_work_inside(sandbox: Sandbox, source: SourceFile) -> None:
    """What they read lazily is within reach."""
    outcome = await sandbox.run(Job(processor="parsers", source=source))
    assert outcome == Result(data=[40, 100, "tanda", "a", "UTC", "Ì"])


async def test_a_trusted_processor_runs_in_the_worker(sandbox: Sandbox, source: SourceFile) -> None:
    """It never looks at the content, so it is worth no fork; its exceptions end at the same edge."""
    fails = Job(processor="trusted", source=source, options={"fail": True})
    garbles = [
        Job(processor="trusted", source=source, options={"garble": text}) for text in ('{"half":', '"\xff"')
    ]
    jobs = [Job(processor="trusted", source=source), fails, *garbles]
    result, failure, *garbled = await sandbox.run_many(jobs)
    assert isinstance(result, Result)
    assert encode(result.data) == str(os.getpid()).encode()
    assert failure == Failure(code="processor_error", message="RuntimeError: failed")
    assert garbled == 2 * [Failure(code="processor_error", message="The processor's result is not JSON.")]


async def test_fifty_jobs_at_once_keep_to_themselves(sandbox: Sandbox, tmp_path: Path) -> None:
    """Each reads its own file, in its own process, and answers its own caller."""
    sources = [a_source(tmp_path / f"{n}", f"text {n}".encode()) for n in range(50)]
    jobs = [Job(processor="echo", source=s, options={"n": n}) for n, s in enumerate(sources)]
    outcomes = await sandbox.run_many(jobs)
    assert outcomes == [Result(data={"text": f"text {n}", "calls": 1, "n": n}) for n in range(50)]


async def test_large_options_reach_the_child(sandbox: Sandbox, source: SourceFile) -> None:
    """They travel on the job's own stream, which has no packet size."""
    large = "x" * (2 * _MiB)
    outcome = await sandbox.run(Job(processor="echo", source=source, options={"n": large}))
    assert outcome == Result(data={"text": "hola", "calls": 1, "n": large})


async def test_a_killed_zygote_loses_its_jobs_and_comes_back(
    own_sandbox: Sandbox, source: SourceFile, tmp_path: Path
) -> None:
    """kill -9: the running job ends as lost, the next one runs in a new zygote, no child survives."""
    fifo = a_fifo(tmp_path)
    running = asyncio.create_task(own_sandbox.run(Job(processor="wait", source=fifo)))
    writer = await started(fifo.path)
    zygote = own_sandbox.zygote_pid
    assert zygote is not None
    children = psutil.Process(zygote).children()
    os.kill(zygote, signal.SIGKILL)
    outcome = await running
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.retryable) == ("worker_lost", True)
    assert isinstance(await ends(own_sandbox, source, "fine"), Result)
    assert own_sandbox.zygote_pid != zygote
    assert (len(children), psutil.wait_procs(children, timeout=5)[1]) == (1, [])
    os.close(writer)


async def test_a_stopped_zygote_is_replaced(own_sandbox: Sandbox, source: SourceFile, tmp_path: Path) -> None:
    """SIGSTOP: it answers nothing, the wall clock ends the job, and force ends the zygote."""
    zygote = own_sandbox.zygote_pid
    assert zygote is not None
    os.kill(zygote, signal.SIGSTOP)
    outcome = await ends(own_sandbox, source, "fine", wall_s=0.1)
    assert isinstance(outcome, Failure)
    assert outcome.code == "worker_lost"
    assert isinstance(await ends(own_sandbox, source, "fine"), Result)


async def test_a_cancelled_job_leaves_no_child(sandbox: Sandbox, tmp_path: Path) -> None:
    """A worker that stops takes its children with it, at once."""
    fifo = a_fifo(tmp_path)
    running = asyncio.create_task(sandbox.run(Job(processor="wait", source=fifo)))
    writer = await started(fifo.path)
    assert sandbox.zygote_pid is not None
    children = psutil.Process(sandbox.zygote_pid).children()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (len(children), [child.is_running() for child in children]) == (1, [False])
    os.close(writer)


async def test_jobs_cancelled_before_they_start_do_no_harm(sandbox: Sandbox, source: SourceFile) -> None:
    """Whichever step the cancellation meets, the zygote stays and the next job runs."""
    zygote = sandbox.zygote_pid
    for steps in range(20):
        running = asyncio.create_task(sandbox.run(Job(processor="echo", source=source)))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert isinstance(await ends(sandbox, source, "fine"), Result)
    assert sandbox.zygote_pid == zygote


async def test_a_closed_sandbox_says_so_at_once(source: SourceFile) -> None:
    """Jobs that come too late are lost, and may be tried by another worker."""
    sandbox = Sandbox(sys_path=[str(_HERE)])
    await sandbox.start(_PROBES)
    await sandbox.close()
    outcome = await ends(sandbox, source, "fine")
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.retryable) == ("worker_lost", True)


async def test_nothing_outlives_the_worker(tmp_path: Path) -> None:
    """The worker is killed with -9: its zygote and the running child go with it."""
    fifo = a_fifo(tmp_path)
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _A_WORKER, str(_HERE), str(fifo.path)), cwd=_HERE.parents[2]
    )
    writer = await started(fifo.path)
    family = psutil.Process(worker.pid).children(recursive=True)
    worker.kill()
    await worker.wait()
    assert (len(family), psutil.wait_procs(family, timeout=10)[1]) == (2, [])
    os.close(writer)


_A_WORKER = """
import asyncio, sys
from pathlib import Path
from services.worker.sandbox.sandbox import Job, Sandbox
from tanda.contracts.results import SourceFile

async def main():
    sandbox = Sandbox(sys_path=[sys.argv[1]])
    await sandbox.start({"wait": "probes:Wait"})
    source = SourceFile(path=Path(sys.argv[2]), name="a", content_type="b", bytes=1, sha256="0")
    await sandbox.run(Job(processor="wait", source=source))

asyncio.run(main())
"""


async def test_the_zygote_does_not_grow(sandbox: Sandbox, source: SourceFile) -> None:
    """Three hundred jobs later it holds no more memory and no more descriptors."""
    assert sandbox.zygote_pid is not None
    zygote = psutil.Process(sandbox.zygote_pid)

    async def a_hundred() -> None:
        await sandbox.run_many([Job(processor="echo", source=source) for _ in range(100)])

    await a_hundred()
    before = (zygote.memory_info().rss, zygote.num_fds())
    await a_hundred()
    await a_hundred()
    after = (zygote.memory_info().rss, zygote.num_fds())
    assert after[0] - before[0] <= _MiB // 2
    assert after[1] == before[1]


async def test_a_sandbox_that_cannot_start_says_why() -> None:
    """A zygote that dies before it is ready is an error of the start, not of a job."""
    sandbox = Sandbox(sys_path=[str(_HERE)])
    with pytest.raises(SandboxFailed, match="did not start"):
        await sandbox.start({"suicide": "probes_suicide:Thing"})


async def test_the_installed_processors_are_found_by_entry_point() -> None:
    """The bundled ones are all there."""
    assert {"noop", "invoice", "pdf", "image", "table"} <= set(installed_processors())
