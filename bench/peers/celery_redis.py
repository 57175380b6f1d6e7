"""Celery with Redis as broker and result store: ``python celery_redis.py URL FILES``."""

import json
import os
import subprocess
import sys
import time

from celery import Celery, group

app = Celery("celery_redis", broker=os.environ.get("PEER_URL"), backend=os.environ.get("PEER_URL"))
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=64, result_expires=3600)
BODY = "x" * 1024


@app.task
def noop(name: str, body: str) -> dict[str, str]:
    del body
    return {"name": name}


def main(url: str, files: int) -> None:
    env = os.environ | {"PEER_URL": url}
    app.conf.update(broker_url=url, result_backend=url)
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_redis", "worker", "-c", "2", "-l", "ERROR",
         "--without-gossip", "--without-mingle", "--without-heartbeat"],
        env=env, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        noop.delay("warm up", BODY).get(timeout=60)
        begun = time.perf_counter()
        result = group(noop.s(f"{n}.bin", BODY) for n in range(files)).apply_async()
        result.join_native(timeout=280)
        taken = time.perf_counter() - begun
    finally:
        worker.terminate()
        worker.wait()
    print(json.dumps({"files_per_s": files / taken}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
