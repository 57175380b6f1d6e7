"""The servers as they are: read by their own client libraries alone, with nothing of the product between."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import nats
from minio import Minio
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

ANSWER_S_MAX = 10.0
LIMIT = 1_000


@dataclass(frozen=True)
class Told:
    """An event as its message says it."""

    seq: int
    id: str
    #: ``FileQueued``.
    name: str
    batch_id: str
    #: None for an event of the batch itself, or of a group as a whole.
    file_id: str | None
    data: dict[str, Any]
    #: When the server stored it: clocks of services may be wrong.
    at_ms: int
    #: ``grp_3``, where a group of files tells it: as a whole, or ``apart`` of one of them.
    group: str | None = None
    #: Which of a group's files it is of, from 0.
    part: int | None = None


#: What an event of a group says of each of its files; that a group was parted says nothing of them.
OF_EACH = {"FilesQueued": "FileQueued", "FilesCompleted": "FileCompleted"}


def apart(events: Iterable[Told]) -> list[Told]:
    """The same with an event for each file where a group was told."""
    found: list[Told] = []
    for one in events:
        if one.group is None:
            found.append(one)
        elif one.name in OF_EACH:
            for part, (file_id, data) in enumerate(one.data["files"]):
                found.append(replace(one, name=OF_EACH[one.name], file_id=file_id, data=data, part=part))
    return found


async def read_log(facts: dict[str, Any], after: int = 0) -> list[Told]:
    """Every event of the stream, in its order, groups as wholes."""
    client = await nats.connect(facts["nats_url"])
    try:
        stream = client.jetstream()
        end = (await stream.stream_info("EVENTS")).state.last_seq
        told: list[Told] = []
        if end <= after:
            return told
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=60,
        )
        pull = await stream.pull_subscribe("ev.>", stream="EVENTS", config=config)
        while not told or told[-1].seq < end:
            told += [_told(message) for message in await pull.fetch(LIMIT, timeout=ANSWER_S_MAX)]
        return told
    finally:
        await client.close()


def _told(message: Any) -> Told:
    headers: dict[str, str] = message.headers
    _, _, batch_id, last = message.subject.split(".")
    return Told(
        seq=message.metadata.sequence.stream,
        id=headers["ce-id"],
        name=headers["ce-type"].split(".")[1],
        batch_id=batch_id,
        file_id=None if last == "_" or last.startswith("grp_") else last,
        group=last if last.startswith("grp_") else None,
        data=json.loads(message.data),
        at_ms=int(message.metadata.timestamp.timestamp() * 1000),
    )


class Objects:
    """The objects of a stack's bucket."""

    def __init__(self, facts: dict[str, Any]) -> None:
        s3: dict[str, str] = facts["s3"]
        self._client = Minio(
            s3["endpoint"], access_key=s3["access_key"], secret_key=s3["secret_key"], secure=False
        )
        self._bucket = s3["bucket"]
        #: The object that was read last: many sources share a pack.
        self._last: tuple[str, bytes] = ("", b"")

    def read(self, key: str) -> bytes:
        """A whole object."""
        if self._last[0] != key:
            response = self._client.get_object(self._bucket, key)
            try:
                self._last = (key, response.read())
            finally:
                response.close()
                response.release_conn()
        return self._last[1]

    def part(self, ref: dict[str, Any]) -> bytes:
        """The bytes that a ``BlobRef`` names."""
        offset: int = ref.get("offset", 0)
        return self.read(ref["key"])[offset : offset + ref["bytes"]]


async def read_rows(facts: dict[str, Any], query: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(facts["postgres_dsn"])
    try:
        return [dict(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()
