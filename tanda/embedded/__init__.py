"""The real servers, started from their installed wheels on loopback, and the supervisor over everything.

``servers(data)`` runs NATS, PostgreSQL and S3 alone; ``up(options)`` is ``tanda up``. This room knows
processes, files and ports, and nothing of the services: they are command lines to it, and all they are
told travels in the environment. It is written for Linux (``/proc``, ``prctl``).
"""

from tanda.embedded.child import Service
from tanda.embedded.folder import Folder, FolderInUse
from tanda.embedded.servers import Servers, servers
from tanda.embedded.servers.server import Server, ServerFailed
from tanda.embedded.stack import UpOptions, up

__all__ = [
    "Folder",
    "FolderInUse",
    "Server",
    "ServerFailed",
    "Servers",
    "Service",
    "UpOptions",
    "servers",
    "up",
]
