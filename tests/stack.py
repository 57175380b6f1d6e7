"""The real servers that the tests run on: embedded by default, containers or external ones on request.

``TANDA_TEST_STACK=containers`` starts them with testcontainers; ``TANDA_TEST_STACK=external`` takes
``TANDA_TEST_NATS_URL``, ``TANDA_TEST_POSTGRES_DSN`` and ``TANDA_TEST_S3_ENDPOINT`` (with
``..._ACCESS_KEY``, ``..._SECRET_KEY``, ``..._BUCKET``) as they are. A server that cannot start fails
the tests; nothing is skipped for it.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tanda.embedded import Servers, servers
from tanda.settings import Settings, from_environment

EXTERNAL = (
    "NATS_URL", "POSTGRES_DSN", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET",
)  # fmt: skip
NATS_IMAGE = "nats:2.15-alpine"
POSTGRES_IMAGE = "postgres:18-alpine"
S3_IMAGE = "chrislusf/seaweedfs:4.48"
CONTAINER_KEY = "tanda-tests"
NATS_CONFIG = b"jetstream { store_dir: /data, sync_interval: always, limits { batch { max_msgs: 20000 } } }\n"
S3_IDENTITY = {
    "name": "tanda",
    "credentials": [{"accessKey": CONTAINER_KEY, "secretKey": CONTAINER_KEY}],
    "actions": ["Admin", "Read", "List", "Tagging", "Write"],
}


class Stack:
    """Where the servers are (``env`` as the services take it), and the embedded ones to kill."""

    def __init__(self, env: dict[str, str], embedded: Servers | None = None) -> None:
        self.env = env
        self.embedded = embedded

    def settings(self, data: Path, **changes: str) -> Settings:
        """Settings for these servers with their own spool folder."""
        more = {f"TANDA_{name.upper()}": value for name, value in changes.items()}
        return from_environment({**self.env, "TANDA_DATA": str(data), **more})


def kind() -> str:
    return os.environ.get("TANDA_TEST_STACK", "embedded")


@asynccontextmanager
async def stack() -> AsyncIterator[Stack]:
    """The servers of this test run."""
    if kind() == "external":
        yield Stack({f"TANDA_{name}": os.environ[f"TANDA_TEST_{name}"] for name in EXTERNAL})
    elif kind() == "containers":
        async with containers() as env:
            yield Stack(env)
    else:
        async with servers() as embedded:
            yield Stack(embedded.env, embedded)


@asynccontextmanager
async def containers() -> AsyncIterator[dict[str, str]]:
    """The three servers as containers of their pinned images."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy
    from testcontainers.postgres import PostgresContainer

    nats = (
        DockerContainer(NATS_IMAGE)
        .with_exposed_ports(4222)
        .with_copy_into_container(NATS_CONFIG, "/etc/tanda.conf")
        .with_command("-c /etc/tanda.conf")
        .waiting_for(LogMessageWaitStrategy("Server is ready"))
    )
    store = (
        DockerContainer(S3_IMAGE)
        .with_exposed_ports(8333)
        .with_copy_into_container(json.dumps({"identities": [S3_IDENTITY]}).encode(), "/etc/s3.json")
        .with_command("server -s3 -s3.config=/etc/s3.json")
        .waiting_for(LogMessageWaitStrategy("Start Seaweed S3 API Server"))
    )
    postgres = PostgresContainer(POSTGRES_IMAGE, driver=None)
    started = [nats, store, postgres]
    try:
        await asyncio.gather(*(asyncio.to_thread(one.start) for one in started))
        yield {
            "TANDA_NATS_URL": f"nats://127.0.0.1:{nats.get_exposed_port(4222)}",
            "TANDA_POSTGRES_DSN": postgres.get_connection_url(),
            "TANDA_S3_ENDPOINT": f"127.0.0.1:{store.get_exposed_port(8333)}",
            "TANDA_S3_ACCESS_KEY": CONTAINER_KEY,
            "TANDA_S3_SECRET_KEY": CONTAINER_KEY,
            "TANDA_S3_BUCKET": "tanda",
        }
    finally:
        await asyncio.gather(*(asyncio.to_thread(one.stop) for one in started), return_exceptions=True)
