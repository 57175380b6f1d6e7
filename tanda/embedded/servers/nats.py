"""NATS JetStream, for the log."""

import json
import shutil
from pathlib import Path

from tanda.embedded.folder import LOOPBACK, write_private
from tanda.embedded.process import spawn
from tanda.embedded.servers.binaries import program
from tanda.embedded.servers.http import request
from tanda.embedded.servers.server import ROOM_BYTES_MIN, Server

USER = "tanda"

#: Of the disk, JetStream leaves a tenth and at least 1 GiB: a stream that meets the end of the disk answers
#: with silence until the server is restarted, one that meets its own limit answers with an error.
RESERVE_SHARE = 0.10
RESERVE_BYTES_MIN = 1024**3
STORE_BYTES_MIN = 256 * 1024**2
#: The log's own default bound (``events_bytes_max``), and the share of the store it may reserve where that
#: is less: its mirror for integrators takes as much again.
EVENTS_BYTES = 16 * 1024**3
EVENTS_SHARE = 0.4
EVENTS_BYTES_VARIABLE = "TANDA_EVENTS_BYTES_MAX"

#: A batch of 10,000 files with room to spare in one atomic commit (0.1 s measured); the server's own limit
#: is 1,000.
ATOMIC_MESSAGES_MAX = 20_000
ATOMIC_IDLE_S = 30
#: Open at once. A gateway that dies leaves up to eight for that long, and with the server's own 50 seven of
#: them kept all others from writing.
ATOMIC_OPEN_MAX = 500
HEALTH_TIMEOUT_S = 2.0

_CONFIG = """\
# Written at every start: change nothing here.
server_name: tanda
listen: {client}
http: {monitor}
max_payload: 8MB
authorization {{ user: {user}, password: {password} }}
jetstream {{
  store_dir: {store}
  # Every acknowledged event is on the disk: on a power loss the default lost everything it had acknowledged.
  sync_interval: always
  max_memory_store: 256MB
  max_file_store: {store_bytes_max}
  limits {{
    batch {{ max_msgs: {atomic_max}, timeout: {atomic_idle_s}s, max_inflight_per_stream: {atomic_open_max} }}
    # -1 is without end; unset means 1,000 on a stream.
    default_max_consumers: -1
  }}
}}
"""


class Nats(Server):
    """``ready`` is its own ``/healthz`` with every stream and consumer looked at."""

    name = "nats"
    #: 0.9 s for a million events; a large log on a slow disk may take a minute.
    ready_s = 90.0
    #: A clean stop costs 10 ms a durable consumer, and we keep few.
    stop_s = 4.0

    async def spawn(self) -> None:
        self.client_port, self.monitor_port = self._ports()
        self.store_bytes_max = store_bytes_max(self.folder.room("nats"))
        config = self.folder.room("nats") / "nats.conf"
        write_private(config, self._config())
        self.fresh_log()
        argv = [str(program("nats-server", "TANDA_NATS_BIN")), "-c", str(config)]
        self.process = await spawn(argv, env=self.own_environment(), log=self.log)

    def _ports(self) -> list[int]:
        """Once started, a server keeps its ports for ever: its clients know them."""
        return [self.client_port, self.monitor_port] if self.process else self.folder.ports("nats", 2)

    def _config(self) -> str:
        return _CONFIG.format(
            client=f"{LOOPBACK}:{self.client_port}",
            monitor=f"{LOOPBACK}:{self.monitor_port}",
            user=USER,
            password=json.dumps(self.folder.secret("nats")),
            store=json.dumps(str(self.folder.room("nats"))),
            store_bytes_max=self.store_bytes_max,
            atomic_max=ATOMIC_MESSAGES_MAX,
            atomic_idle_s=ATOMIC_IDLE_S,
            atomic_open_max=ATOMIC_OPEN_MAX,
        )

    async def ready(self) -> bool:
        return not await self.complaint()

    async def complaint(self) -> str:
        """What is wrong with it by its own word, else nothing. A full disk shows here and nowhere else."""
        status, body = await request(
            "GET", (LOOPBACK, self.monitor_port), "/healthz", timeout_s=HEALTH_TIMEOUT_S
        )
        if status == 200:
            return ""
        return body.decode("utf-8", "replace") if status else "no answer"

    def curable(self, complaint: str) -> bool:
        """On a disk that is still full a restart would only stop the readers as well."""
        free = shutil.disk_usage(self.folder.path).free
        return "no space left" not in complaint or free > ROOM_BYTES_MIN

    def environment(self) -> dict[str, str]:
        url = f"nats://{USER}:{self.folder.secret('nats')}@{LOOPBACK}:{self.client_port}"
        limit = int(self.store_bytes_max * EVENTS_SHARE)
        small = {EVENTS_BYTES_VARIABLE: str(limit)} if limit < EVENTS_BYTES else {}
        return {"TANDA_NATS_URL": url, **small}


def store_bytes_max(store: Path) -> int:
    """What the log may fill of its disk.

    Of the whole disk, not of what is free now: a limit taken on a full disk would hold long after there is
    room again, until the next restart. What others need of the disk is the gateway's to watch (507).
    """
    total = shutil.disk_usage(store).total
    return max(total - max(int(total * RESERVE_SHARE), RESERVE_BYTES_MIN), STORE_BYTES_MIN)
