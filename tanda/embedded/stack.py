"""``tanda up``: the servers, then the services, kept alive until they are told to end."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tanda.embedded import orphans, runfile
from tanda.embedded.child import EXIT_LOG_DAMAGED, Service, ServiceChild, tanda_services
from tanda.embedded.folder import LOOPBACK, Folder, FolderInUse, free_ports, is_free, turn_over
from tanda.embedded.log_check import LogCheck
from tanda.embedded.servers import Servers, start_all, stop_all
from tanda.embedded.servers.account import NoPlace
from tanda.embedded.servers.binaries import BinaryMissing
from tanda.embedded.servers.http import request
from tanda.embedded.servers.nats import EVENTS_BYTES_VARIABLE
from tanda.embedded.servers.server import Server, ServerFailed
from tanda.embedded.supervise import Child, LogDamaged, keep

PORT = 8420
#: The services' first start includes streams, migrations and a look at the whole log.
READY_S = 90.0
READY_POLL_S = 0.1
READY_TIMEOUT_S = 2.0
#: Everything is down in under 10 s: services first, and the servers get what is left of it.
STOP_S = 9.5
SERVICE_STOP_S = 3.0
SERVER_STOP_S_MIN = 1.0
#: After a full disk JetStream is silent until it is restarted, and says so only on its ``/healthz``.
HEALTH_POLL_S = 2.0
HEALTH_COMPLAINTS = 3

#: A server whose address is in the environment is somebody else's.
_EXTERNAL = {"nats": "TANDA_NATS_URL", "postgres": "TANDA_POSTGRES_DSN", "s3": "TANDA_S3_ENDPOINT"}


class NotReady(Exception):
    """The gateway did not say that all is well in time."""


class PortTaken(Exception):
    """The port asked for is somebody else's."""


@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """What ``tanda up`` was asked for."""

    data: Path = Path(".tanda")
    #: None prefers the port of last time, then 8420, then any; 0 that of last time, then any.
    port: int | None = None
    #: None leaves one core to everything else.
    workers: int | None = None
    #: None runs Tanda's own; supervision tests pass stand-ins.
    services: Sequence[Service] | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def worker_count(self) -> int:
        return self.workers or max(1, (os.cpu_count() or 1) - 1)


async def up(options: UpOptions) -> int:
    """Runs until SIGTERM or Ctrl-C; the exit code, its reason printed in one line where it is not 0."""
    folder = Folder(options.data)
    try:
        with folder.locked():
            return await Stack(folder, options).run()
    except LogDamaged as damage:
        command = f"tanda replay --from-archive --data {options.data}"
        print(f"The event log is damaged, so nothing runs: {damage}.", file=sys.stderr)
        print(f"`{command}` restores it from its archive; `tanda doctor` tells more.", file=sys.stderr)
        return EXIT_LOG_DAMAGED
    except (FolderInUse, ServerFailed, BinaryMissing, NoPlace, NotReady, PortTaken, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1


class Stack:
    """Everything that one ``tanda up`` runs."""

    def __init__(self, folder: Folder, options: UpOptions) -> None:
        self.folder = folder
        self.environ = options.environ
        self.host = options.environ.get("TANDA_HOST", LOOPBACK)
        self.port = choose_port(folder, options.port, self.host)
        every = Servers(folder).all
        self.servers = [server for server in every if not options.environ.get(_EXTERNAL[server.name])]
        services = tanda_services(options.worker_count) if options.services is None else options.services
        #: A folder that is new has no log to be damaged, and stand-ins for services have none at all.
        self._has_log = options.services is None and not folder.is_new
        self.services = [
            ServiceChild(service, number, folder, self.environment)
            for service in services
            for number in range(1, service.count + 1)
        ]
        self._log_check = LogCheck()
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def environment(self) -> dict[str, str]:
        """All that a service is told."""
        own = {name: value for server in self.servers for name, value in server.environment().items()}
        if EVENTS_BYTES_VARIABLE in self.environ:
            own.pop(EVENTS_BYTES_VARIABLE, None)
        return {**self._place(), **own}

    def _place(self) -> dict[str, str]:
        """What is known before any server runs."""
        place = {"TANDA_HOST": self.host, "TANDA_PORT": str(self.port), "TANDA_DATA": str(self.folder.path)}
        return {**self.environ, **place}

    async def run(self) -> int:
        self._listen()
        try:
            await self._until_ending(self._start())
            await self._until_ending(self._serve())
        finally:
            await self._stop()
        return 0

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._ending.set)

    async def _until_ending(self, work: Coroutine[None, None, None]) -> None:
        """Does the work unless told to end meanwhile."""
        task, ending = asyncio.create_task(work), asyncio.create_task(self._ending.wait())
        await asyncio.wait({task, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        elif error := task.exception():
            raise error

    async def _start(self) -> None:
        await orphans.stop(lambda: orphans.marked(self.folder.path), signal.SIGTERM)
        if self._has_log:
            await self._log_check.prepare(str(self.folder.path), self._place())
        # Python's libraries take longer to load than the servers to start: both at once.
        for service in self.services:
            await service.prepare(self._place())
        await start_all(self.servers)
        for server in self.servers:
            self._keep(server)
        if self._has_log and (sentence := await self._log_check.verdict(self.environment())):
            say(sentence.splitlines()[-1])
        for service in self.services:
            await service.begin()
            self._keep(service)
        self._watch()
        self._write_run()
        await self._until_gateway_ready()
        with contextlib.suppress(OSError):
            print(f"Tanda is ready at {self.url}", flush=True)

    async def _serve(self) -> None:
        """A keeper never ends; one that does has met a bug, and its error ends everything."""
        await asyncio.gather(*self._tasks)

    def _keep(self, child: Child) -> None:
        self._tasks.append(asyncio.create_task(keep(child, say=say, changed=self._write_run)))

    def _watch(self) -> None:
        self._tasks.append(asyncio.create_task(self._bound_logs()))
        for server in self.servers:
            self._tasks.append(asyncio.create_task(watch_health(server)))

    async def _bound_logs(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                for log in self.folder.logs():
                    turn_over(log)
            await asyncio.sleep(HEALTH_POLL_S)

    async def _until_gateway_ready(self) -> None:
        """Without a gateway among the services, as in tests of supervision, there is nothing to wait for."""
        gateway = next((service for service in self.services if service.name == "gateway"), None)
        deadline = time.monotonic() + READY_S
        address = (LOOPBACK if self.host in ("0.0.0.0", "localhost", "::") else self.host, self.port)  # noqa: S104
        while gateway:
            for ended in (task for task in self._tasks if task.done()):
                ended.result()
            status, body = await request("GET", address, "/readyz", timeout_s=READY_TIMEOUT_S)
            if status == 200:
                return
            if time.monotonic() > deadline:
                answer = body.decode("utf-8", "replace")[:500] or "it does not answer"
                raise NotReady(f"Not ready after {READY_S:.0f} s: {answer}; see {gateway.log}")
            await asyncio.sleep(READY_POLL_S)

    def _write_run(self) -> None:
        pids: dict[str, list[int]] = {}
        for child in [*self.services, *self.servers]:
            pids.setdefault(child.name, []).extend(child.pids)
        env = self.environment()
        try:
            runfile.write(self.folder.path, url=self.url, supervisor=os.getpid(), pids=pids, env=env)
        except OSError as error:
            say(f"{runfile.NAME} could not be written: {error}")

    async def _stop(self) -> None:
        """Services first, so that what they do is finished and written; then the servers."""
        deadline = time.monotonic() + STOP_S
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._log_check.stop()
        await asyncio.gather(*(service.stop(SERVICE_STOP_S) for service in self.services))
        await stop_all(self.servers, max(deadline - time.monotonic(), SERVER_STOP_S_MIN))
        runfile.remove(self.folder.path)


async def watch_health(server: Server) -> None:
    """Ends a server that complains several times in a row and can be cured; its keeper starts it again."""
    complaints = 0
    while True:
        await asyncio.sleep(HEALTH_POLL_S)
        complaint = await server.complaint() if server.settled and server.pids else ""
        complaints = complaints + 1 if complaint and server.curable(complaint) else 0
        if complaints >= HEALTH_COMPLAINTS:
            say(f"{server.name} is not well and is restarted: {complaint}")
            await server.stop()
            complaints = 0


def choose_port(folder: Folder, asked: int | None, host: str) -> int:
    """The gateway's port: as asked, or that of last time, so that bookmarks and clients find it again."""
    if asked:
        if not is_free(asked, host):
            raise PortTaken(f"Port {asked} is taken; --port 0 takes a free one.")
        return asked
    wanted = [*folder.remembered("gateway"), *([PORT] if asked is None else [])]
    port = next((port for port in wanted if is_free(port, host)), 0) or free_ports(1, set())[0]
    folder.remember("gateway", [port])
    return port


def say(line: str) -> None:
    """To whoever runs ``tanda up`` in the foreground."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
