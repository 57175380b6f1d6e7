"""``python -m services.storage.check_log``: is the log what its archive says? Asked before services start.

Exit code 0; 3 with one sentence on stderr where the log is damaged. It makes and changes nothing. Where a
server does not answer, it says nothing: the services wait for it by themselves.
"""

import tanda.lean  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split

import asyncio
import sys

from tanda import telemetry
from tanda.adapters.jetstream_raw import JetStreamRawLog
from tanda.adapters.nats_connection import open_client
from tanda.adapters.s3 import S3Blobs
from tanda.archive.check import check_log
from tanda.archive.log_archive import ArchiveDamaged, LogArchive
from tanda.domain.errors import LogDamaged, Unavailable
from tanda.settings import Settings, from_environment

EXIT_LOG_DAMAGED = 3


async def check(settings: Settings) -> int:
    """The exit code."""
    client = await open_client(settings.nats_url, "check-log")
    blobs = S3Blobs(settings)
    try:
        await check_log(JetStreamRawLog(client, settings), LogArchive(blobs))
    except LogDamaged as damage:
        print(damage, file=sys.stderr)
        return EXIT_LOG_DAMAGED
    except (Unavailable, ArchiveDamaged) as error:
        print(f"The log could not be compared with its archive: {error}", file=sys.stderr)
    finally:
        await blobs.close()
        await client.close()
    return 0


if __name__ == "__main__":
    telemetry.configure("check-log", "error")
    sys.exit(asyncio.run(check(from_environment())))
