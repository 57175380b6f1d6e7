"""What the services tell of themselves, in a stream in memory that forgets within seconds."""

from typing import Any

import msgspec

from tanda.adapters.jetstream import ensure_stream
from tanda.adapters.nats_connection import ApiError, EventClient, api, request, send
from tanda.contracts.codec import encode
from tanda.contracts.work import Presence, SchedulerStatus
from tanda.domain.errors import Unavailable
from tanda.settings import Settings

STATUS = "STATUS"
#: Who has not said anything for so long is gone.
SILENCE_S = 15
_SCHEDULER = "status.scheduler"
_SERVICE = "status.service."


def status_config(settings: Settings) -> dict[str, Any]:
    """STATUS: the newest word of each."""
    return {
        "name": STATUS,
        "subjects": ["status.>"],
        "storage": "memory",
        "num_replicas": settings.replicas,
        "max_msgs_per_subject": 1,
        "max_age": SILENCE_S * 10**9,
        "duplicate_window": SILENCE_S * 10**9,
        "allow_direct": True,
        "max_consumers": 1_000,
    }


class JetStreamBoard:
    """``ports.Board`` on the stream STATUS; nobody waits for what is told there."""

    def __init__(self, client: EventClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    async def ensure(self) -> None:
        await ensure_stream(self._client, status_config(self._settings))

    async def tell(self, status: SchedulerStatus) -> None:
        await send(self._client, _SCHEDULER, encode(status))

    async def hello(self, presence: Presence) -> None:
        await send(self._client, f"{_SERVICE}{presence.name}.{presence.instance}", encode(presence))

    async def scheduler(self) -> SchedulerStatus | None:
        data = await self._newest(_SCHEDULER)
        return None if data is None else msgspec.json.decode(data, type=SchedulerStatus)

    async def services(self) -> list[Presence]:
        query = {"subjects_filter": f"{_SERVICE}>"}
        try:
            info = await api(self._client, f"STREAM.INFO.{STATUS}", query)
        except ApiError as error:
            raise Unavailable("nats", f"the board is not there: {error}") from error
        found = [await self._newest(subject) for subject in sorted(info["state"].get("subjects") or {})]
        return [msgspec.json.decode(data, type=Presence) for data in found if data is not None]

    async def _newest(self, subject: str) -> bytes | None:
        query = msgspec.json.encode({"last_by_subj": subject})
        message = await request(self._client, f"$JS.API.DIRECT.GET.{STATUS}", query)
        return None if "Status" in message.headers else message.data
