"""pgqueuer on PostgreSQL, results in its own log: ``python pgqueuer_postgres.py DSN FILES``."""

import asyncio
import json
import sys
import time
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import Job, PgQueuer, Queries

BODY = b"x" * 1024
#: Jobs that are taken and enqueued at once.
TAKEN, ENQUEUED = 500, 1_000


async def work(dsn: str) -> None:
    queuer = PgQueuer.from_asyncpg_connection(await asyncpg.connect(dsn))

    @queuer.entrypoint("noop")
    async def noop(job: Job) -> None:
        del job

    await queuer.run(dequeue_timeout=timedelta(seconds=1), batch_size=TAKEN)


async def main(dsn: str, files: int) -> None:
    connection = await asyncpg.connect(dsn)
    queries = Queries.from_asyncpg_connection(connection)
    await queries.install()
    worker = await asyncio.create_subprocess_exec(sys.executable, __file__, dsn)
    done = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"
    try:
        await queries.enqueue(["noop"], [BODY], [0])
        while await connection.fetchval(done) < 1:
            await asyncio.sleep(0.05)
        begun = time.perf_counter()
        for start in range(0, files, ENQUEUED):
            count = min(ENQUEUED, files - start)
            await queries.enqueue(["noop"] * count, [BODY] * count, [0] * count)
        while await connection.fetchval(done) < files + 1:
            await asyncio.sleep(0.02)
        taken = time.perf_counter() - begun
    finally:
        worker.terminate()
        await worker.wait()
    await connection.close()
    print(json.dumps({"files_per_s": files / taken}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 2 else work(sys.argv[1]))
