"""FastStream on NATS JetStream, results in a stream of their own: ``python faststream_nats.py URL FILES``."""

import asyncio
import json
import sys
import time

import uvloop
from faststream import FastStream
from faststream.nats import JStream, NatsBroker, PullSub

BODY = b"x" * 1024
#: Messages that are taken, worked on and published at once.
TAKEN, AT_ONCE, PUBLISHED = 500, 64, 256
JOBS, RESULTS = JStream(name="PEER_JOBS"), JStream(name="PEER_RESULTS")


async def work(url: str) -> None:
    broker = NatsBroker(url, logger=None)

    @broker.subscriber(
        "peer.jobs", stream=JOBS, durable="peer", pull_sub=PullSub(batch_size=TAKEN), max_workers=AT_ONCE
    )
    async def noop(body: bytes) -> None:
        del body
        await broker.publish(b'{"kind":"noop"}', "peer.results", stream="PEER_RESULTS", timeout=60)

    @broker.subscriber("peer.results.unused", stream=RESULTS)
    async def nothing(body: bytes) -> None:
        del body

    await FastStream(broker).run()


async def main(url: str, files: int) -> None:
    broker = NatsBroker(url, logger=None)
    await broker.connect()
    streams = broker.config.connection_state.stream
    await streams.add_stream(name="PEER_JOBS", subjects=["peer.jobs"])
    await streams.add_stream(name="PEER_RESULTS", subjects=["peer.results", "peer.results.>"])
    worker = await asyncio.create_subprocess_exec(sys.executable, __file__, url)

    async def results() -> int:
        return (await streams.stream_info("PEER_RESULTS")).state.messages

    try:
        await broker.publish(BODY, "peer.jobs", stream="PEER_JOBS", timeout=60)
        while await results() < 1:
            await asyncio.sleep(0.05)
        begun = time.perf_counter()
        for start in range(0, files, PUBLISHED):
            count = min(PUBLISHED, files - start)
            await asyncio.gather(
                *(broker.publish(BODY, "peer.jobs", stream="PEER_JOBS", timeout=60) for _ in range(count))
            )
        while await results() < files + 1:
            await asyncio.sleep(0.02)
        taken = time.perf_counter() - begun
    finally:
        worker.terminate()
        await worker.wait()
    await broker.stop()
    print(json.dumps({"files_per_s": files / taken}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 2 else work(sys.argv[1]))
