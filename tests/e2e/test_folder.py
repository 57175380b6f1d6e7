"""A watched folder on a running Tanda: stopped before every one of its effects, killed, left alone."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tanda.client import Client
from tanda.intake.folder import Folder, free_name
from tanda.intake.watch import FolderTaken, Quiet, alone, watch
from tests.running import Running

pytestmark = pytest.mark.timeout(240)

GOOD = ("a.csv", "sub/c.csv")
LIE = "b.pdf"
#: More effects than one pass has; the loop ends at the first point that no pass reaches.
POINTS_MAX = 100


class Stopped(BaseException):
    """The watcher is killed here."""


def drop(place: Path, *names: str) -> None:
    for name in names:
        path = place / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a;b\n1;2\n")


def stop_before(point: int, reached: list[bool]) -> Any:
    steps = iter(range(point))

    def step(_what: str) -> None:
        if next(steps, None) is None:
            reached.append(True)
            raise Stopped

    return step


def batches(client: Client, place: Path) -> Counter[str]:
    """How often each name of a folder's batches is in them."""
    names: Counter[str] = Counter()
    for batch in client.batches(q=place.name):
        names.update(file["name"] for file in client.files(batch["id"]))
    return names


#: For the tests that watch in this process.
hurried = pytest.mark.usefixtures("hurry")


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher in this process looks more often, and takes a file sooner for complete."""
    monkeypatch.setattr("tanda.intake.watch.LOOK_EVERY_S", 0.05)
    monkeypatch.setattr("tanda.intake.watch.QUIET_S", 0.02)


def watched(folder: Folder) -> int:
    """Watches until nothing is left to do, or a deadline: then it was stopped and says 0."""
    stop = threading.Event()
    deadline = threading.Timer(60, stop.set)
    deadline.start()
    try:
        return watch(folder, stop, lambda _line: None, once=True)
    finally:
        deadline.cancel()


def in_folder(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def stopped_and_begun_again(url: str, place: Path, point: int) -> bool:
    """Killed before one effect, then watched to the end; whether the point was reached at all."""
    drop(place, *GOOD, LIE)
    reached: list[bool] = []
    with Client(url) as client:
        fields = {"name": place.name}
        try:
            broken = Folder(place, client, fields, step=stop_before(point, reached))
            watched(broken)
        except Stopped:
            pass
        assert watched(Folder(place, client, fields)) == 1, "one file lies about its type"
        assert in_folder(place / "archived") == sorted([*GOOD, *(f"{name}.result.json" for name in GOOD)]), (
            point
        )
        assert in_folder(place / "processing") == [LIE, f"{LIE}.error.json"], point
        assert not in_folder(place / "source"), point
        sent = Counter(Path(name).name for name in (*GOOD, LIE))
        assert batches(client, place) == sent, f"not each file once: killed at {point}"
    return bool(reached)


@hurried
async def test_each_file_goes_once_wherever_the_watcher_is_killed(tanda: Running, tmp_path: Path) -> None:
    """Every effect once the last thing that it does not do; then the rest, by another watcher."""
    point, going = 0, True
    while going:
        points = range(point, point + 6)
        assert points.stop < POINTS_MAX
        places = [tmp_path / f"inbox-{tmp_path.name}-{one:03}-{os.getpid()}" for one in points]
        runs = (
            asyncio.to_thread(stopped_and_begun_again, tanda.url, place, one)
            for place, one in zip(places, points, strict=True)
        )
        going = all(await asyncio.gather(*runs))
        point = points.stop
    assert point > 12, "the watcher has more effects than that"


@hurried
async def test_a_removed_error_is_a_wish_to_try_anew(tanda: Running, tmp_path: Path) -> None:
    """The file goes back into the source and in again; the same name twice is archived under two."""
    place = tmp_path / f"anew-{tmp_path.name}"
    drop(place, LIE, "a.csv")
    with tanda.client() as client:
        folder = Folder(place, client, {"name": place.name})
        assert await asyncio.to_thread(watched, folder) == 1
        (place / "processing" / f"{LIE}.error.json").unlink()
        drop(place, "a.csv")
        assert await asyncio.to_thread(watched, folder) == 1
        assert batches(client, place) == Counter({LIE: 2, "a.csv": 2})
    assert in_folder(place / "archived") == [
        "a (2).csv", "a (2).csv.result.json", "a.csv", "a.csv.result.json",
    ]  # fmt: skip


async def test_the_command_survives_kills_and_a_gateway_that_is_away(tmp_path: Path) -> None:
    """kill -9 of the watcher and of everything else in the middle of 40 files; each is archived once."""
    tmp_path.chmod(0o711)
    place = tmp_path / "inbox"
    names = [f"{number:02}.csv" for number in range(40)]
    drop(place, *names)
    stack = Running(tmp_path / "data")
    watcher = None
    try:
        await stack.start()
        watcher = start(place, stack)
        await stack.until(lambda: len(in_folder(place / "processing")) > 5, 60)
        watcher.send_signal(signal.SIGKILL)
        watcher.wait()
        watcher = start(place, stack)
        await stack.until(lambda: is_watched(place), 30)
        second = await asyncio.to_thread(
            subprocess.run, command(place, stack), capture_output=True, text=True, check=False, timeout=30
        )
        assert (second.returncode, "watched already" in second.stderr) == (1, True)
        stack.kill_everything()
        await stack.start()
        watcher.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(watcher.wait, 15) == 0
        watcher = start(place, stack)
        await stack.until(lambda: len(in_folder(place / "archived")) == 80, 120)
        with stack.client() as client:
            assert batches(client, place) == Counter(names)
    finally:
        if watcher is not None:
            watcher.kill()
            watcher.wait()
        await stack.stop()


def is_watched(place: Path) -> bool:
    try:
        with alone(place):
            return False
    except FolderTaken:
        return True


def command(place: Path, stack: Running) -> list[str]:
    return [sys.executable, "-m", "tanda.cli", "watch-folder", str(place), "--data", str(stack.data)]


def start(place: Path, stack: Running) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(place, stack), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_file_is_complete_when_it_has_been_quiet(tmp_path: Path) -> None:
    """A writer that goes on makes it wait; a file that vanishes is none."""
    now = [0.0]
    quiet, path = Quiet(lambda: now[0]), tmp_path / "a"
    path.write_bytes(b"1")
    looks = [quiet(path)]
    now[0] = 0.9
    path.write_bytes(b"12")
    looks.append(quiet(path))
    now[0] = 1.8
    looks.append(quiet(path))
    now[0] = 2.0
    looks.append(quiet(path))
    path.unlink()
    assert [*looks, quiet(path)] == [False, False, False, True, False]


def test_nothing_in_the_archive_is_overwritten() -> None:
    assert free_name("x/a.xml", {"x/a.xml", "x/a (2).xml"}.__contains__) == "x/a (3).xml"
