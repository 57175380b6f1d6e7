"""Every setting and every limit, read once from the environment into one frozen object.

``TANDA_NATS_URL`` sets ``nats_url`` and so on; an unknown ``TANDA_`` name is refused with the nearest
known one, so that a typing error cannot pass for a default.
"""

import difflib
import os
import re
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

#: Set for the tooling around the services and not read by them: whole names, and the start of names.
_FOREIGN = frozenset(
    {
        "TANDA_URL",
        "TANDA_API_KEY",
        "TANDA_NATS_BIN",
        "TANDA_POSTGRES_BIN",
        "TANDA_WEED_BIN",
        "TANDA_REAL_DATA",
    }
)
#: One token of a subject, short enough to have a prefix.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,48}")
#: What a header can carry, and what every provider's keys are of.
_KEY = re.compile(r"[!-~]*")
_FOREIGN_PREFIXES = ("TANDA_TEST_", "TANDA_BENCH_")
#: In the environment of a service that was started before its servers: the rest comes as JSON on its stdin.
TOLD_LATER = "EMBEDDED_TOLD_LATER"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers are and how much of everything is allowed. Sizes in bytes, times in seconds."""

    # -- the servers
    nats_url: str = "nats://127.0.0.1:4222"
    postgres_dsn: str = "postgresql://tanda@127.0.0.1:5432/tanda"
    #: host:port
    s3_endpoint: str = "127.0.0.1:8333"
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_bucket: str = "tanda"
    s3_region: str = "us-east-1"
    s3_secure: bool = False
    #: The data folder of an object store on this machine whose acknowledged PUTs are not durable:
    #: one ``syncfs`` of it is the barrier. Empty for stores that promise durability.
    s3_sync_dir: str = ""

    # -- this process
    host: str = "127.0.0.1"
    port: int = 8420
    #: Where results are built and processors get their file.
    data: str = ".tanda"
    log_level: str = "info"
    #: ``tenant:key,tenant:key``; empty is open mode, on loopback only.
    api_keys: str = ""
    #: Tenants whose keys may also set limits and see the whole system, separated by commas; without any keys
    #: everybody on this machine may.
    operators: str = ""

    # -- the log
    #: EVENTS refuses new events beyond this size rather than forget old ones.
    events_bytes_max: int = 16 * 1024**3
    replicas: int = 1
    #: How long an append may take before its outcome counts as unknown and is looked up.
    append_timeout_s: float = 5.0
    #: How long a caller waits for a server that is down, before 503.
    patience_s: float = 10.0

    # -- uploads
    upload_bytes_max: int = 16 * 1024**3
    file_bytes_max: int = 4 * 1024**3
    batch_files_max: int = 20_000
    #: Files up to this size are packed together into one object (1,300 PUTs/s is the store's limit).
    pack_file_bytes_max: int = 512 * 1024
    pack_bytes: int = 4 * 1024**2
    #: A body slower than this, after the first ten seconds, is cut.
    upload_bytes_per_s_min: int = 10 * 1024
    uploads_concurrent_max: int = 64

    # -- live
    sse_clients_max: int = 5_000
    sse_queue_events_max: int = 2_000
    sse_ping_s: float = 15.0
    #: A client further behind than this gets a fresh snapshot instead of every event.
    sse_resume_events_max: int = 20_000
    min_seq_wait_s: float = 2.0

    # -- work
    #: Files that one worker process runs at once.
    slots: int = 4
    #: Cheap work is taken, started and finished in groups up to this size.
    work_group_max: int = 256
    #: Released and not yet settled, over all workers; a small window keeps the release fair.
    window: int = 512
    #: A delivery that is not renewed within this time is given to another runner.
    lease_s: float = 10.0
    #: Starts of one attempt before the file counts as poison.
    deliveries_max: int = 5
    attempts_max: int = 4
    process_wall_s: float = 60.0
    process_cpu_s: int = 30
    process_memory_bytes: int = 1024**3
    snapshot_every_events: int = 20_000

    # -- outside providers; none is there until it is named here
    #: Where the ``http`` processor may post: ``name=url,name=url``.
    http_endpoints: str = ""
    #: Where a callback finds the gateway: ``https://tanda.example``. Empty: this machine's own address.
    public_url: str = ""
    #: How long a confirmation may take where the endpoint's options say nothing.
    callback_wait_s: float = 3600.0
    anthropic_api_key: str = ""
    anthropic_url: str = "https://api.anthropic.com"
    openai_api_key: str = ""
    #: Any OpenAI-compatible API, up to and with its ``/v1``; empty: the ``llm`` processor does not offer it.
    openai_url: str = ""
    #: ``model=input/output`` in US dollars a million tokens, separated by commas.
    llm_prices: str = ""
    #: Calls of one provider at once, over all workers, where ``tanda limits`` says nothing else.
    provider_limit: int = 3
    #: From the call to the last byte of its answer.
    provider_wall_s: float = 300.0
    provider_answer_bytes_max: int = 8 * 1024**2

    # -- views
    projector_events_max: int = 5_000
    #: How long the projector waits to gather more events after the first one.
    projector_gather_s: float = 0.002


def http_endpoints(settings: Settings) -> dict[str, str]:
    """Where the ``http`` processor may post, by name; ValueError where the setting is no list of them."""
    found: dict[str, str] = {}
    for entry in filter(None, (one.strip() for one in settings.http_endpoints.split(","))):
        name, equals, url = entry.partition("=")
        if not equals or not _NAME.fullmatch(name) or not _is_url(url):
            raise ValueError("TANDA_HTTP_ENDPOINTS must be name=url pairs, separated by commas.")
        found[name] = url
    return found


def llm_prices(settings: Settings) -> dict[str, tuple[float, float]]:
    """What a million tokens in and out cost, by model; ValueError where the setting is no list of that."""
    found: dict[str, tuple[float, float]] = {}
    for entry in filter(None, (one.strip() for one in settings.llm_prices.split(","))):
        model, _, prices = entry.partition("=")
        price = re.fullmatch(r"(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)", prices)
        if not model or price is None:
            raise ValueError("TANDA_LLM_PRICES must be model=input/output pairs, separated by commas.")
        found[model] = (float(price[1]), float(price[2]))
    return found


def providers(settings: Settings) -> frozenset[str]:
    """The outside providers that are configured, by the names that limits and lanes have."""
    found = {f"http-{name}" for name in http_endpoints(settings)}
    if settings.anthropic_api_key:
        found.add("llm-anthropic")
    if settings.openai_url:
        found.add("llm-openai")
    return frozenset(found)


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads and checks the settings; ValueError with one sentence where one is wrong."""
    if TOLD_LATER in environ:
        environ = _wait_for_environment()
    known = {f"TANDA_{name.upper()}": name for name in Settings.__struct_fields__}
    values: dict[str, str] = {}
    for key, value in environ.items():
        if not key.startswith("TANDA_") or key in _FOREIGN or key.startswith(_FOREIGN_PREFIXES):
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"{key} is not a setting of Tanda.{hint}")
        values[known[key]] = value
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"A TANDA_ setting does not fit: {error}") from error
    return check(settings)


def _wait_for_environment() -> Mapping[str, str]:
    """What ``tanda up`` tells a service once its servers are there; it ends where that ended before."""
    del os.environ[TOLD_LATER]  # of no concern to a child of ours
    told = sys.stdin.buffer.read()
    if not told:
        raise SystemExit("The supervisor ended before it had anything to do.")
    os.environ.update(msgspec.json.decode(told, type=dict[str, str]))
    return os.environ


def check(settings: Settings) -> Settings:
    """The relations between settings; ValueError where they contradict each other."""
    if not settings.api_keys and settings.host not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError("Without TANDA_API_KEYS the gateway binds to loopback only: set keys or TANDA_HOST.")
    if settings.pack_file_bytes_max > settings.pack_bytes:
        raise ValueError("TANDA_PACK_FILE_BYTES_MAX must not exceed TANDA_PACK_BYTES.")
    if settings.file_bytes_max > settings.upload_bytes_max:
        raise ValueError("TANDA_FILE_BYTES_MAX must not exceed TANDA_UPLOAD_BYTES_MAX.")
    http_endpoints(settings)
    llm_prices(settings)
    for name in ("anthropic_url", "openai_url"):
        if (url := getattr(settings, name)) and not _is_url(url):
            raise ValueError(f"TANDA_{name.upper()} must be an address, http:// or https://.")
    for name in ("anthropic_api_key", "openai_api_key"):
        if not _KEY.fullmatch(getattr(settings, name)):
            raise ValueError(
                f"TANDA_{name.upper()} holds what no key does: a space, a line's end, a letter like ñ."
            )
    return settings


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
