"""PostgreSQL, for the read models: its programs driven directly, TCP and scram, durable by its defaults."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Coroutine, Sequence
from pathlib import Path

from tanda.embedded import orphans
from tanda.embedded.folder import LOOPBACK, write_private
from tanda.embedded.process import Account, spawn
from tanda.embedded.servers.account import can_reach, outside_data, outside_programs, unprivileged
from tanda.embedded.servers.binaries import postgres_programs
from tanda.embedded.servers.server import Server, ServerFailed

CLUSTER = "cluster"
ADMIN = "postgres"
USER = DATABASE = "tanda"
PROBE_TIMEOUT_S = 3

#: fsync and synchronous_commit stay on, their default: with them nothing acknowledged is lost.
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

#: Text compares by code point whatever the machine's locale; the wheel has no ICU.
_INITDB = ("-A", "scram-sha-256", "-E", "UTF8", "--locale-provider=builtin", "--locale=C.UTF-8")


class Postgres(Server):
    """The services' role owns its database and may create others (tests do), and is no superuser."""

    name = "postgres"
    #: A crash restart took 0.3 to 1.9 s; a long recovery may take more.
    ready_s = 60.0
    #: Fast shutdown: connections are closed, a checkpoint is written.
    stop_signal = signal.SIGINT
    stop_s = 5.0

    async def spawn(self) -> None:
        self.port = self.port if self.process else self.folder.ports("postgres", 1)[0]
        self.home, self.account = self._home()
        self.programs = self._programs()
        if not (self.home / CLUSTER).exists():
            await _to_its_end(asyncio.to_thread(self._create))
        await self._clear()
        self.fresh_log()
        self.process = await spawn(
            self._argv(),
            env=self.own_environment(),
            log=self.log,
            cwd=self.home,
            account=self.account,
            on_our_death=signal.SIGINT,
        )

    def _home(self) -> tuple[Path, Account | None]:
        """Its folder, and who runs it. Where that user cannot reach us, the folder is a link outwards."""
        home = self.folder.path / "postgres"
        account = unprivileged(home)
        if home.is_symlink() and not home.exists():
            raise ServerFailed(f"{home} leads to {home.readlink()}, where its data no longer is.")
        if not home.exists():
            if can_reach(account, self.folder.path):
                home.mkdir(mode=0o700)
            else:
                home.symlink_to(outside_data())
        if account:
            os.chown(home, account.uid, account.gid)
        return home.resolve(), account

    def _programs(self) -> Path:
        programs = postgres_programs()
        return programs if can_reach(self.account, programs) else outside_programs(programs)

    def _create(self) -> None:
        """Makes the cluster beside its place and moves it there when it is whole: a kill leaves none."""
        draft = self.home / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        password = self.home / "password"
        write_private(password, self.folder.secret("postgres-admin"))
        if self.account:
            os.chown(password, self.account.uid, self.account.gid)
        try:
            self._run("initdb", "-D", str(draft), "-U", ADMIN, f"--pwfile={password}", *_INITDB)
        finally:
            password.unlink()
        role = f"CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{self.folder.secret('postgres')}';\n"
        statements = f"{role}CREATE DATABASE {DATABASE} OWNER {USER};\n"
        self._run("postgres", "--single", "-D", str(draft), "postgres", stdin=statements)
        draft.rename(self.home / CLUSTER)

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        result = subprocess.run(
            [self.programs / program, *arguments],
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
            env=self.own_environment(),
            cwd=self.home,
            user=self.account.uid if self.account else None,
            group=self.account.gid if self.account else None,
            extra_groups=[] if self.account else None,
        )
        if result.returncode or "ERROR" in result.stderr:
            raise ServerFailed(f"{program} could not create the database: {result.stderr.strip()}")

    async def _clear(self) -> None:
        """After a kill: waits for the children of the one before, which hold its shared memory, to go.

        Nobody works in the cluster then, so its lock file is stale, though another process may have come
        to bear the number in it.
        """
        cluster = self.home / CLUSTER
        await orphans.stop(lambda: orphans.working_in(cluster), signal.SIGINT)
        (cluster / "postmaster.pid").unlink(missing_ok=True)

    def _argv(self) -> Sequence[str]:
        settings = _SETTINGS | {"port": str(self.port)}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.home / CLUSTER), *flags]

    async def ready(self) -> bool:
        probe = await asyncio.create_subprocess_exec(
            self.programs / "pg_isready", "-q", "-h", LOOPBACK, "-p", str(self.port), "-d", DATABASE,
            "-t", str(PROBE_TIMEOUT_S), env=self.own_environment(),
        )  # fmt: skip
        return await probe.wait() == 0

    def environment(self) -> dict[str, str]:
        password = self.folder.secret("postgres")
        return {"TANDA_POSTGRES_DSN": f"postgresql://{USER}:{password}@{LOOPBACK}:{self.port}/{DATABASE}"}


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """Also when we are cancelled meanwhile: a thread cannot be, and would go on writing behind our back."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
