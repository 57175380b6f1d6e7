"""The stored document as the gateway serves it, beside what file servers make of the same bytes."""

import http.client
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.stack import cpu_s, pid_of
from tests.running import Running

TURNS = 40
START_S = 10.0
POLL_S = 0.05
_NGINX = """daemon off; master_process off; pid {folder}/pid; error_log stderr crit; events {{}}
http {{ access_log off; sendfile on; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2;
fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
server {{ listen 127.0.0.1:{port}; root {folder}; }} }}
"""
_UVICORN = """import sys, uvicorn
from starlette.responses import FileResponse
async def app(scope, receive, send):
    if scope["type"] == "http":
        await FileResponse(sys.argv[1])(scope, receive, send)
uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False, lifespan="off")
"""
#: Where it answers, and the process that does.
Place = tuple[int, str, int]


def run(stack: Running, batch_id: str) -> dict[str, float]:
    """Medians in MB/s and the server's ms of CPU an answer, in turns; nginx where this machine has it."""
    port, path = int(stack.url.rpartition(":")[2]), f"/v1/batches/{batch_id}/results"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx gives up being root
        document = folder / "document.json"
        for _ in range(2):  # from the second time on it is at hand
            document.write_bytes(_body(port, path))
        places: dict[str, Place] = {"ours": (port, path, pid_of(stack, "gateway"))}
        with _uvicorn(document) as places["uvicorn"]:
            if shutil.which("nginx") is None:
                return _in_turns(places, document.stat().st_size)
            with _nginx(folder) as places["nginx"]:
                figures = _in_turns(places, document.stat().st_size)
    return figures | {"served_ratio": figures["ours_mb_per_s"] / figures["nginx_mb_per_s"]}


def _in_turns(places: dict[str, Place], size: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in places}
    before = {name: cpu_s(pid) for name, (_, _, pid) in places.items()}
    for _ in range(TURNS):
        for name, (port, path, _) in places.items():
            taken[name].append(_seconds(port, path))
    figures = {f"{name}_mb_per_s": size / 1e6 / statistics.median(one) for name, one in taken.items()}
    used = {name: cpu_s(pid) - before[name] for name, (_, _, pid) in places.items()}
    return figures | {f"{name}_cpu_ms": 1000 * one / TURNS for name, one in used.items()}


def _seconds(port: int, path: str) -> float:
    """Of one answer; the client throws the bytes away."""
    buffer = bytearray(1024**2)
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        while client.recv_into(buffer):
            pass
    return time.perf_counter() - begun


def _body(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    return answer.read()


@contextmanager
def _uvicorn(document: Path) -> Generator[Place]:
    port = _free_port()
    with _child([sys.executable, "-c", _UVICORN, str(document), str(port)], port) as pid:
        yield port, "/", pid


@contextmanager
def _nginx(folder: Path) -> Generator[Place]:
    port = _free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port))
    with _child(["nginx", "-c", str(config)], port) as pid:
        yield port, "/document.json", pid


@contextmanager
def _child(command: list[str], port: int) -> Generator[int]:
    """A server for the length of the block; its pid."""
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, f"{command[0]} does not answer"
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
