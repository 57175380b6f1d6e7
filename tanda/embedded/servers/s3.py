"""SeaweedFS as ``weed mini``, for the objects.

Its acknowledged PUTs are not durable: whoever needs that calls ``syncfs`` on ``sync_dir``.
"""

import json
import os
import re
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tanda.embedded.folder import LOOPBACK, Folder, write_private
from tanda.embedded.process import spawn
from tanda.embedded.servers.binaries import program
from tanda.embedded.servers.http import request
from tanda.embedded.servers.server import ROOM_BYTES_MIN, Server
from tanda.embedded.servers.sigv4 import signed_headers

BUCKET = "tanda"
PROBE_KEY = ".probe"
PROBE_TIMEOUT_S = 2.0

#: Every listener by its flag: a port that is not named here would be a fixed one, or 10,000 above another.
_LISTENERS = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
              "filer.port", "filer.port.grpc")  # fmt: skip
#: Its worker looks for its admin server there, whatever ``-admin.port.grpc`` says; where it finds nobody it
#: tries for ever, ten times a second and twice, which was a third to a half of what it does when idle.
_ADMIN_LISTENERS = ("admin.port", "admin.port.grpc")
_ADMIN_APART = 10_000

_FLAGS = (
    f"-ip={LOOPBACK}",
    f"-ip.bind={LOOPBACK}",
    f"-bucket={BUCKET}",
    "-master.telemetry=false",
    # Elected at once instead of by its saved state, which the volume server outruns: it then tries again
    # after 5 s, and a restart took 6 to 15 s to the first PUT instead of 0.8. What the state holds, the
    # highest volume number, the one volume server in this process reports before anything can be written.
    "-master.resumeState=false",
    # There is no other master to tell that it is alive: at 300 ms this was a tenth of what it does when idle.
    "-master.heartbeatInterval=5s",
    # Its name, not its address, so that it stays the same server on another port.
    "-volume.id=tanda",
    "-s3.iam=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-webdav=false",
    "-admin.ui=false",
)

#: Go's soft limit: without it memory grew to 0.9 GB under load, with it to 367 MB.
GO_MEMORY = "500MiB"

#: What it says when the disk was full while it wrote down names. Until they are opened anew it refuses to
#: write any more there, however much room there is again; everything else of it goes on.
_STUCK = re.compile(rb"filerldb2/\S+: no space left on device")
#: Of its log, looked at in one go.
_LOG_BYTES_MAX = 1024**2

#: Maintenance for clusters, on by default. On one disk it could only harm: vacuum is all we need. The script
#: would also end uploads in parts after a day, which the gateway does when nobody can be at them any more.
_JOBS_OFF = ("erasure_coding", "ec_balance", "volume_balance", "iceberg_maintenance", "admin_script",
             "s3_lifecycle")  # fmt: skip

_SECURITY = """\
# Written at every start. Without these keys the filer and the volume server obey anyone on this machine.
[jwt.signing]
key = "{volume}"
[jwt.signing.read]
key = "{volume_read}"
[jwt.filer_signing]
key = "{filer}"
[jwt.filer_signing.read]
key = "{filer_read}"
[access]
ui = false
[filer.expose_directory_metadata]
enabled = false
[admin]
user = "tanda"
password = "{admin}"
"""


class S3(Server):
    """``ready`` is a signed PUT that works; the bucket is there by then."""

    name = "s3"
    #: Usually 0.5 s.
    ready_s = 30.0
    #: Usually 2 s, sometimes never.
    stop_s = 8.0

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder)
        self._is_stuck = False
        #: How far its log has been looked through.
        self._read_to = 0

    async def spawn(self) -> None:
        self.ports = self.ports if self.process else self._ports()
        self._prepare()
        self.fresh_log()
        self._is_stuck = False
        self._read_to = self.log.stat().st_size if self.log.exists() else 0
        argv = [
            str(program("weed", "TANDA_WEED_BIN")),
            "-logtostderr",
            "mini",
            f"-dir={self.sync_dir}",
            *_FLAGS,
        ]
        flags = (*_LISTENERS, *_ADMIN_LISTENERS)
        argv += [f"-{flag}={port}" for flag, port in zip(flags, self.ports, strict=True)]
        env = self.own_environment() | {
            "HOME": str(self.home),
            "GOMEMLIMIT": GO_MEMORY,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }
        self.process = await spawn(argv, env=env, log=self.log, cwd=self.home)

    def _ports(self) -> list[int]:
        admin = self.folder.ports("s3-admin", 2, apart=_ADMIN_APART)
        return [*self.folder.ports("s3", len(_LISTENERS)), *admin]

    @property
    def home(self) -> Path:
        """Where it looks for its security settings."""
        return self.folder.room("s3")

    @property
    def sync_dir(self) -> Path:
        """Everything it stores, objects and their names."""
        return self.home / "data"

    @property
    def access_key(self) -> str:
        return self.folder.secret("s3-access")[:20]

    @property
    def secret_key(self) -> str:
        return self.folder.secret("s3-secret")

    def _prepare(self) -> None:
        self.sync_dir.mkdir(mode=0o700, exist_ok=True)
        keys = {
            name: self.folder.secret(f"s3-{name}")
            for name in ("volume", "volume_read", "filer", "filer_read")
        }
        write_private(
            self.home / "security.toml", _SECURITY.format(admin=self.folder.secret("s3-admin"), **keys)
        )
        # It saves its flags and would mix an earlier run's with ours.
        (self.sync_dir / "mini.options").unlink(missing_ok=True)
        for job in _JOBS_OFF:
            config = self.sync_dir / "admin" / "plugin" / "job_types" / job / "config.json"
            config.parent.mkdir(parents=True, exist_ok=True)
            off = {"jobType": job, "descriptorVersion": 1, "adminRuntime": {"enabled": False}}
            config.write_text(json.dumps(off), encoding="ascii")

    async def ready(self) -> bool:
        """Puts and takes away again a little object."""
        return await self._probe("PUT", b"ready") == 200 and await self._probe("DELETE", b"") in (200, 204)

    async def complaint(self) -> str:
        """Its log tells: what it says of itself, and a look at one object, may be good all the same."""
        self._is_stuck = self._is_stuck or _STUCK.search(self._log_news()) is not None
        return "it writes no names any more since its disk was full" if self._is_stuck else ""

    def curable(self, complaint: str) -> bool:
        """On a disk that is still full it would not start again."""
        del complaint
        return shutil.disk_usage(self.sync_dir).free > ROOM_BYTES_MIN

    def _log_news(self) -> bytes:
        """What its log has got since the last time, or the end of that."""
        with suppress(FileNotFoundError), self.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            start = self._read_to if self._read_to <= end else 0  # it begins anew where it was too long
            log.seek(max(start, end - _LOG_BYTES_MAX))
            self._read_to = end
            return log.read(_LOG_BYTES_MAX)
        return b""

    async def _probe(self, method: str, body: bytes) -> int:
        path = f"/{BUCKET}/{PROBE_KEY}"
        headers = signed_headers(
            method, self.endpoint, path, body,
            access_key=self.access_key, secret_key=self.secret_key, now=datetime.now(UTC),
        )  # fmt: skip
        address = (LOOPBACK, self.ports[0])
        status, _ = await request(
            method, address, path, headers=headers, body=body, timeout_s=PROBE_TIMEOUT_S
        )
        return status

    async def stop(self, within_s: float | None = None) -> bool:
        clean = await super().stop(within_s)
        self._remove_sockets()
        return clean

    def _remove_sockets(self) -> None:
        """It leaves sockets there, named after its ports."""
        for port in self.ports if self.process else []:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - where it puts them
                left.unlink(missing_ok=True)

    @property
    def endpoint(self) -> str:
        return f"{LOOPBACK}:{self.ports[0]}"

    def environment(self) -> dict[str, str]:
        return {
            "TANDA_S3_ENDPOINT": self.endpoint,
            "TANDA_S3_ACCESS_KEY": self.access_key,
            "TANDA_S3_SECRET_KEY": self.secret_key,
            "TANDA_S3_BUCKET": BUCKET,
            "TANDA_S3_SYNC_DIR": str(self.sync_dir),
        }
