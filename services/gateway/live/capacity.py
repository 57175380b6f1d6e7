"""How many live clients a process takes: a setting, and no more than it may have files open."""

import resource
from typing import Final

import structlog

from tanda.settings import Settings

#: Kept for uploads, the servers' connections and everybody else's requests.
FILES_RESERVED: Final = 512

log = structlog.get_logger(__name__)


def raise_open_files() -> None:
    """As many as the machine allows: shells give 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def clients_max(settings: Settings) -> int:
    """The smaller of the two; a client beyond it is told so, instead of hanging at a door nobody opens."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = settings.sse_clients_max if soft == resource.RLIM_INFINITY else max(1, soft - FILES_RESERVED)
    if allowed < settings.sse_clients_max:
        log.warning("Fewer live clients than set: no more files may be open.", clients=allowed, files=soft)
    return min(allowed, settings.sse_clients_max)
