"""A reader of the list as one process: ``python -m bench.live.reader HOST PORT TENANT``.

It reads again and again, says ``{"ready": true}`` after the first answer, and at a line on its stdin what
each took, in ms. The process has nothing else to do, so that it waits for the system only.
"""

import http.client
import json
import select
import sys
import time

PATH = "/v1/batches?limit=50"
READ_EVERY_S = 0.02


def main(host: str, port: int, tenant: str) -> None:
    connection = http.client.HTTPConnection(host, port)
    taken: list[float] = []

    def read() -> None:
        begun = time.perf_counter()
        connection.request("GET", PATH, headers={"Tanda-Tenant": tenant})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        taken.append(1000 * (time.perf_counter() - begun))

    read()
    print(json.dumps({"ready": True}), flush=True)
    taken.clear()
    while not select.select([sys.stdin], [], [], READ_EVERY_S)[0]:
        read()
    print(json.dumps({"taken_ms": taken}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
