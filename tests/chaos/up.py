"""``tanda up`` for chaos: services reach the servers through the test's proxies and have their own clocks.

``CHAOS_PROXIES`` is a JSON object of server and port.
``run.json`` names the servers' own addresses: who checks goes past the proxies.
"""

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from tanda.embedded import Folder, Service, UpOptions
from tanda.embedded.child import tanda_services
from tanda.embedded.stack import Stack

ADDRESSES = {"nats": "TANDA_NATS_URL", "postgres": "TANDA_POSTGRES_DSN", "s3": "TANDA_S3_ENDPOINT"}


class Proxied(Stack):
    """What its services are told of the servers leads through the proxies."""

    #: What ``run.json`` says does not.
    _direct = False

    def environment(self) -> dict[str, str]:
        env = super().environment()
        proxies: dict[str, int] = {} if self._direct else json.loads(os.environ["CHAOS_PROXIES"])
        for name, port in proxies.items():
            own = self.folder.remembered(name)[0]
            env[ADDRESSES[name]] = env[ADDRESSES[name]].replace(f"127.0.0.1:{own}", f"127.0.0.1:{port}")
        return env

    def _write_run(self) -> None:
        self._direct = True
        super()._write_run()
        self._direct = False


def clocked(service: Service, data: Path) -> Service:
    """A service whose wall clock goes by a file, ``clock-<name>``; see ``tests.chaos.clocked``."""
    clock = data / f"clock-{service.name}"
    clock.write_text("0")
    python, flag, module = service.argv
    argv = ("/usr/bin/env", f"CHAOS_CLOCK={clock}", python, flag, "tests.chaos.clocked", module)
    return replace(service, argv=argv)


async def main(data: Path, workers: int) -> int:
    folder = Folder(data)
    services = [clocked(one, folder.path) for one in tanda_services(workers)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHAOS_")}
    options = UpOptions(data=data, port=0, workers=workers, services=services, environ=environ)
    with folder.locked():
        return await Proxied(folder, options).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]))))
