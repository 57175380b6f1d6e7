"""``run.json``: what runs now, for the command line and for tests that kill it."""

import json
from collections.abc import Mapping
from pathlib import Path

from tanda.embedded.folder import write_private

NAME = "run.json"
#: Always there, empty where a server is somebody else's.
_KEYS = ("gateway", "worker", "storage", "projector", "nats", "postgres", "s3")


def write(
    folder: Path, *, url: str, supervisor: int, pids: Mapping[str, list[int]], env: Mapping[str, str]
) -> None:
    """Replaces it in one step; its owner alone can read it, for the secrets in it."""
    run = {
        "url": url,
        "supervisor": supervisor,
        "pids": {key: pids.get(key, []) for key in _KEYS},
        "nats_url": env.get("TANDA_NATS_URL", ""),
        "postgres_dsn": env.get("TANDA_POSTGRES_DSN", ""),
        # on a small disk less than its default: whoever connects sees to it that the log has this bound
        "events_bytes_max": env.get("TANDA_EVENTS_BYTES_MAX", ""),
        "s3": {
            key: env.get(f"TANDA_S3_{key.upper()}", "")
            for key in ("endpoint", "access_key", "secret_key", "bucket")
        },
    }
    write_private(folder / NAME, json.dumps(run, indent=1))


def remove(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)
