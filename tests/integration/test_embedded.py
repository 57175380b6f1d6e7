"""The embedded servers are real ones, lose nothing to kill -9, and one supervisor keeps them all alive."""

import asyncio
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest
from minio import Minio
from minio.error import S3Error
from nats.js.api import StreamConfig

from tanda.embedded import Folder, FolderInUse, Servers, Service, UpOptions, orphans, runfile, servers
from tanda.embedded.child import ServiceChild
from tanda.embedded.folder import PORTS, turn_over
from tanda.embedded.process import Account
from tanda.embedded.servers.account import can_reach
from tanda.embedded.servers.http import request
from tanda.embedded.stack import Stack
from tanda.embedded.supervise import BACKOFF_S_MAX, BACKOFF_S_MIN, LIFE_S, Backoff
from tanda.settings import TOLD_LATER

PATIENCE_S = 60.0
STOP_S_MAX = 10.0


@pytest.fixture(scope="module")
async def three() -> AsyncIterator[Servers]:
    async with servers() as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not ``tmp_path``: under root another user runs PostgreSQL and has to reach it."""
    place = Path(tempfile.mkdtemp(prefix="tanda-test-"))
    place.chmod(0o711)
    yield place
    Folder(place).erase()


def objects(env: dict[str, str]) -> Minio:
    keys = {"access_key": env["TANDA_S3_ACCESS_KEY"], "secret_key": env["TANDA_S3_SECRET_KEY"]}
    return Minio(env["TANDA_S3_ENDPOINT"], secure=False, region="us-east-1", **keys)


def put(env: dict[str, str], key: str, body: bytes) -> None:
    objects(env).put_object(env["TANDA_S3_BUCKET"], key, io.BytesIO(body), len(body))


def get(env: dict[str, str], key: str) -> bytes:
    return objects(env).get_object(env["TANDA_S3_BUCKET"], key).read()


async def publish(env: dict[str, str], subject: str) -> int:
    """The sequence it got."""
    connection = await nats.connect(env["TANDA_NATS_URL"])
    try:
        stream = connection.jetstream()
        await stream.add_stream(StreamConfig(name="T", subjects=["t.>"], allow_atomic=True))
        return (await stream.publish(subject, b"event")).seq
    finally:
        await connection.close()


async def kill(server: Any) -> None:
    os.kill(server.pid, signal.SIGKILL)
    await server.exited()


async def until(true: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """What it gives as soon as that is something; polled to a deadline."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, ValueError, LookupError):
            if found := true():
                return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {within_s} s")


# -- the servers


async def test_the_log_survives_kill_9(three: Servers) -> None:
    """An acknowledged event is there after the server was killed, on the same address."""
    before, address = await publish(three.env, "t.kill"), three.env["TANDA_NATS_URL"]
    await kill(three.nats)
    await three.nats.start()
    assert three.env["TANDA_NATS_URL"] == address
    assert await publish(three.env, "t.kill") == before + 1


async def test_the_log_is_written_through_and_takes_large_batches(three: Servers) -> None:
    """What protects from a power loss is on, and 10,000 files fit one commit."""
    _, body = await request("GET", ("127.0.0.1", three.nats.monitor_port), "/jsz", timeout_s=2)
    state = json.loads(body)
    assert state["config"]["sync_always"] is True
    assert state["limits"]["max_batch_size"] == 20_000
    assert state["limits"]["default_max_consumers"] == -1


async def test_the_database_survives_kill_9_with_a_query_running(three: Servers) -> None:
    """Children of the killed one hold its memory for a moment; the next start waits for them."""
    connection = await asyncpg.connect(three.env["TANDA_POSTGRES_DSN"])
    await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('ñandú')")
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await kill(three.postgres)
    await three.postgres.start()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
        await sleeping
    connection = await asyncpg.connect(three.env["TANDA_POSTGRES_DSN"])
    assert await connection.fetchval("SELECT word FROM kept") == "ñandú"
    await connection.close()


async def test_the_database_is_durable_and_its_role_is_no_superuser(three: Servers) -> None:
    """Row security means nothing to a superuser; and nobody turned the safe defaults off."""
    connection = await asyncpg.connect(three.env["TANDA_POSTGRES_DSN"])
    settings = [
        await connection.fetchval(f"SHOW {name}")
        for name in ("fsync", "synchronous_commit", "data_checksums")
    ]
    role = await connection.fetchrow(
        "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
    )
    await connection.close()
    assert settings == ["on", "on", "on"]
    assert tuple(role) == (False, False)


async def test_objects_survive_kill_9(three: Servers) -> None:
    """A PUT that was answered can be read after the server was killed."""
    await asyncio.to_thread(put, three.env, "a/b", b"body")
    await kill(three.s3)
    await three.s3.start()
    assert await asyncio.to_thread(get, three.env, "a/b") == b"body"


async def test_the_object_store_is_left_empty_by_its_probe(three: Servers) -> None:
    """Whoever lists the bucket finds its own objects only."""
    listed = await asyncio.to_thread(lambda: list(objects(three.env).list_objects("tanda", prefix=".")))
    assert listed == []


async def test_the_object_stores_worker_finds_its_admin_server(three: Servers) -> None:
    """It does the vacuum; and where it finds nobody it tries for ever, much of what an idle store does."""
    await until(lambda: "INITIAL CONNECTION SUCCESS" in three.s3.log.read_text(encoding="utf-8"))


async def test_strangers_are_refused(three: Servers) -> None:
    """On loopback too: any process of this machine could ask."""
    host, port = three.env["TANDA_NATS_URL"].rpartition("@")[2].split(":")
    with pytest.raises(nats.errors.Error):
        await nats.connect(f"nats://{host}:{port}", allow_reconnect=False, error_cb=_ignore)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(three.env["TANDA_POSTGRES_DSN"], password="guess")
    with pytest.raises(S3Error):
        await asyncio.to_thread(put, three.env | {"TANDA_S3_SECRET_KEY": "guess-guess"}, "x", b"")
    filer = three.s3.ports[6]
    assert (await request("GET", ("127.0.0.1", filer), "/buckets/tanda/", timeout_s=2))[0] == 401
    assert (await request("PUT", ("127.0.0.1", filer), "/buckets/tanda/x", body=b"x", timeout_s=2))[0] == 401


async def _ignore(_: Exception) -> None:
    pass


async def test_nothing_listens_beyond_loopback_or_on_a_port_not_ours(three: Servers) -> None:
    """Every listener is one that was chosen for it."""
    chosen = {
        port
        for ports in json.loads((three.folder.path / "ports.json").read_text()).values()
        for port in ports
    }
    found = {address for server in three.all for address in listeners(server.pid)}
    assert {host for host, _ in found} == {"0100007F"}
    assert {port for _, port in found} <= chosen


def listeners(pid: int) -> set[tuple[str, int]]:
    """Address (hexadecimal, as the kernel writes it) and port of a process's listening sockets."""
    sockets: set[str] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed: no listener is
            sockets.add(str(link.readlink()))
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    mine = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return {(host, int(port, 16)) for host, port in (address.split(":") for address in mine)}


async def test_no_secret_can_be_read_by_others(three: Servers) -> None:
    """Whatever another user can reach inside the folder says nothing."""
    open_to_all = [path.name for path in reachable_by_all(three.folder.path) if path.is_file()]
    assert open_to_all == ["lock"]


def reachable_by_all(place: Path) -> Iterator[Path]:
    for path in place.iterdir():
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode) and mode & stat.S_IXOTH:
            yield from reachable_by_all(path)
        elif mode & stat.S_IROTH:
            yield path


async def test_a_second_start_finds_the_data_on_the_same_ports(folder: Path) -> None:
    """Stopping in time and starting again changes nothing that anyone could see."""
    async with servers(folder) as first:
        env = first.env
        await publish(env, "t.first")
        await asyncio.to_thread(put, env, "first", b"1")
        stopping = time.monotonic()
    assert time.monotonic() - stopping < STOP_S_MAX
    async with servers(folder) as second:
        assert second.env == env
        assert await publish(env, "t.second") == 2
        assert await asyncio.to_thread(get, env, "first") == b"1"


# -- the folder


def test_a_folder_has_one_holder(folder: Path) -> None:
    """The second is told who the first is."""
    with Folder(folder).locked(), pytest.raises(FolderInUse, match=str(os.getpid())), Folder(folder).locked():
        pass


def test_a_port_that_was_taken_meanwhile_is_replaced(folder: Path) -> None:
    """Remembered while it is free, and never one that the kernel gives to clients."""
    before = Folder(folder).ports("nats", 2)
    assert Folder(folder).ports("nats", 2) == before
    assert set(before) <= set(PORTS)
    with socket.create_server(("127.0.0.1", before[1])):
        assert before[1] not in Folder(folder).ports("nats", 2)
    first, second = Folder(folder).ports("s3-admin", 2, apart=10_000)
    assert second == first + 10_000
    assert second in PORTS


def test_a_log_is_bounded_while_it_is_written(folder: Path) -> None:
    """Its writer notices nothing."""
    log = folder / "x.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 10)
        turn_over(log, bytes_max=20)
        writer.write(b"new\n")
    assert (log.read_bytes(), log.with_name("x.log.1").read_bytes()) == (b"new\n", b"old\n" * 10)


async def test_a_service_that_is_spawned_early_waits_for_the_servers_addresses(folder: Path) -> None:
    """It reads its settings when it is told them; where the supervisor ends before, it ends as well."""
    asks = "from tanda.settings import from_environment as ask; print(ask().nats_url)"
    service = Service(name="worker", argv=(sys.executable, "-c", asks), early=True)
    told = ServiceChild(service, 1, Folder(folder), lambda: {**os.environ, "TANDA_NATS_URL": "nats://n:1"})
    await told.prepare(os.environ)
    await told.begin()
    assert await told.exited() == 0
    assert told.log.read_text() == "nats://n:1\n"

    argv, env = service.argv, {**os.environ, TOLD_LATER: "1"}
    left = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (left.returncode, left.stdout) == (1, b"")


def test_dying_young_is_answered_with_patience() -> None:
    """The waits double up to their bound, and a long life is forgiven."""
    backoff = Backoff()
    waits = [backoff.after(0.1) for _ in range(8)]
    assert waits[:3] == [BACKOFF_S_MIN, 2 * BACKOFF_S_MIN, 4 * BACKOFF_S_MIN]
    assert waits[-1] == BACKOFF_S_MAX
    assert backoff.after(LIFE_S) == BACKOFF_S_MIN


async def test_a_server_of_somebody_else_is_not_started(folder: Path) -> None:
    """Its address reaches the services as it was given."""
    theirs = {
        "TANDA_NATS_URL": "nats://n:1",
        "TANDA_POSTGRES_DSN": "postgresql://p",
        "TANDA_S3_ENDPOINT": "s:1",
    }
    stack = Stack(Folder(folder), UpOptions(data=folder, port=0, environ=theirs))
    assert stack.servers == []
    assert theirs.items() <= stack.environment().items()


def test_whoever_cannot_pass_a_folder_cannot_reach_what_is_in_it(folder: Path) -> None:
    """Then PostgreSQL's files move to a place of its own."""
    inner = folder / "inner"
    inner.mkdir(mode=0o755)
    stranger = Account("stranger", 4_000_000, 4_000_000)
    assert can_reach(stranger, inner)
    folder.chmod(0o700)
    assert not can_reach(stranger, inner)
    assert can_reach(Account("owner", os.getuid(), os.getgid()), inner)


# -- the supervisor, with stand-ins for the services: on uvloop, where the servers above are on asyncio's loop

_UP = """
import sys, uvloop
from pathlib import Path
from tanda.embedded import Service, UpOptions, up

GATEWAY = '''
import os, http.server
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.HTTPServer((os.environ["TANDA_HOST"], int(os.environ["TANDA_PORT"])), Ready).serve_forever()
'''
services = [
    Service(name="gateway", argv=(sys.executable, "-c", GATEWAY)),
    Service(name="worker", argv=("sleep", "1000"), count=2),
]
sys.exit(uvloop.run(up(UpOptions(data=Path(sys.argv[1]), port=0, services=services))))
"""


@contextmanager
def tanda_up(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Killed at the end if it still runs; then its children go by themselves."""
    argv = [sys.executable, "-c", _UP, str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), PATIENCE_S)
    assert line.startswith("Tanda is ready at http://127.0.0.1:"), process.communicate()


def run_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / runfile.NAME).read_text())


def env_of(folder: Path) -> dict[str, str]:
    run = run_of(folder)
    s3 = {f"TANDA_S3_{key.upper()}": value for key, value in run["s3"].items()}
    return {"TANDA_NATS_URL": run["nats_url"], "TANDA_POSTGRES_DSN": run["postgres_dsn"], **s3}


async def test_up_keeps_everything_alive_and_ends_in_time(folder: Path) -> None:
    """Kill -9 of any child is answered with a new one, in run.json too; SIGTERM leaves nothing behind."""
    with tanda_up(folder) as process:
        await ready(process)
        first = run_of(folder)
        assert first["supervisor"] == process.pid
        assert {name: len(pids) for name, pids in first["pids"].items()} == {
            "gateway": 1, "worker": 2, "storage": 0, "projector": 0, "nats": 1, "postgres": 1, "s3": 1,
        }  # fmt: skip
        assert stat.S_IMODE((folder / runfile.NAME).stat().st_mode) == 0o600

        for name in ("worker", "nats", "postgres"):
            pid = first["pids"][name][0]
            os.kill(pid, signal.SIGKILL)
            await until(lambda name=name, pid=pid: all_alive(folder, name, without=pid))
        assert {**run_of(folder), "pids": {}} == {**first, "pids": {}}
        await until(lambda: answers(first["nats_url"]))
        assert await publish(env_of(folder), "t.up") == 1

        ending = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, STOP_S_MAX) == 0
        assert time.monotonic() - ending < STOP_S_MAX
    assert orphans.marked(folder) == []
    assert not (folder / runfile.NAME).exists()


def all_alive(folder: Path, name: str, without: int) -> bool:
    """As many as before, and the killed one is none of them."""
    pids = run_of(folder)["pids"][name]
    return without not in pids and len(pids) == (2 if name == "worker" else 1)


def answers(url: str) -> bool:
    host, port = url.rpartition("@")[2].split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


async def test_up_goes_on_after_its_own_kill_9(folder: Path) -> None:
    """Its children go with it, and the next start has the same data at the same addresses."""
    with tanda_up(folder) as process:
        await ready(process)
        run = run_of(folder)
        assert await publish(env_of(folder), "t.up") == 1
        with tanda_up(folder) as other:
            _, said = await asyncio.to_thread(other.communicate, None, PATIENCE_S)
            assert (other.returncode, said) == (1, f"{folder} is already in use by process {process.pid}.\n")
        process.kill()
    with tanda_up(folder) as process:
        await ready(process)
        assert {**run_of(folder), "pids": {}, "supervisor": 0} == {**run, "pids": {}, "supervisor": 0}
        assert await publish(env_of(folder), "t.up") == 2
        process.kill()
    await until(lambda: orphans.marked(folder) == [])
