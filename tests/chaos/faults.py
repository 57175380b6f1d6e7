"""Faults for a running stack, planned by a seed: the same seed gives the same faults in the same order."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from tests.chaos.proxy import CUTS, Mode
from tests.chaos.world import ChaosStack
from tests.running import SERVERS, SERVICES, Running

Kind = Literal["kill", "stop", "cut", "slow", "full", "clock", "power"]

#: How often each kind comes, of 100.
WEIGHTS: dict[Kind, int] = {"kill": 45, "stop": 18, "cut": 18, "slow": 6, "full": 4, "clock": 6, "power": 3}
BACK_S_MAX = 60.0
#: A slow disk is a server that stands still half of the time: the kernel here cannot throttle one.
SLOW_TURN_S = 0.1
CLOCK_STEPS_S = ("3600", "-3600", "40", "-40")
LASTS_S: dict[Kind, tuple[float, float]] = {
    "stop": (0.5, 7.0),
    "slow": (0.5, 7.0),
    "cut": (0.5, 7.0),
    "full": (1.0, 4.0),
    "clock": (2.0, 6.0),
}


@dataclass(frozen=True)
class Fault:
    kind: Kind
    victim: str
    #: Quiet time before it.
    after_s: float
    #: How long the victim stands still, is cut off, has no room, or has the wrong time.
    lasts_s: float = 0.0
    #: The way of a cut, or the step of a clock in seconds.
    how: str = ""


@dataclass(frozen=True)
class Injected:
    fault: Fault
    at_ms: int
    #: When the victim was running and reachable again.
    until_ms: int


def plan(seed: int, count: int, quiet_s: float, *, without: Collection[str] = ()) -> list[Fault]:
    """The faults of a seed; ``quiet_s`` is the mean time between two."""
    rng = random.Random(seed)
    weights: dict[Kind, int] = {kind: weight for kind, weight in WEIGHTS.items() if kind not in without}
    return [
        _fault(rng, kind, quiet_s) for kind in rng.choices(list(weights), list(weights.values()), k=count)
    ]


def _fault(rng: random.Random, kind: Kind, quiet_s: float) -> Fault:
    victims: dict[Kind, tuple[str, ...]] = {
        "cut": SERVERS, "slow": SERVERS, "full": ("nats", "s3"), "clock": SERVICES, "power": ("everything",),
    }  # fmt: skip
    victim = rng.choice(victims.get(kind, (*SERVICES, *SERVERS)))
    lasts_s = rng.uniform(*LASTS_S.get(kind, (0.0, 0.0)))
    how = rng.choice(CUTS if kind == "cut" else CLOCK_STEPS_S) if kind in ("cut", "clock") else ""
    return Fault(kind, victim, rng.uniform(0.5, 1.5) * quiet_s, lasts_s, how)


async def inject(stack: ChaosStack, fault: Fault) -> Injected:
    """One fault; ends once the victim runs again, by itself or by the supervisor."""
    at_ms = now_ms()
    if fault.kind == "power":
        stack.kill_everything()
        await stack.start()
    elif fault.kind == "cut":
        await cut(stack, fault.victim, fault.how, fault.lasts_s)  # pyright: ignore[reportArgumentType]
    elif fault.kind == "full":
        with stack.full(fault.victim):
            await asyncio.sleep(fault.lasts_s)
    elif fault.kind == "clock":
        with stack.clock(fault.victim, fault.how):
            await asyncio.sleep(fault.lasts_s)
    else:
        at_ms = await hurt(stack, fault)
    return Injected(fault, at_ms, now_ms())


async def hurt(stack: Running, fault: Fault) -> int:
    """A process is killed or stands still; when that began."""
    pid: int = await stack.until(lambda: pid_of(stack, fault.victim), BACK_S_MAX)
    at_ms = now_ms()
    if fault.kind == "kill":
        send(pid, signal.SIGKILL)
    elif fault.kind == "stop":
        await stand_still(pid, fault.lasts_s)
    else:
        for _ in range(max(1, int(fault.lasts_s / (2 * SLOW_TURN_S)))):
            await stand_still(pid, SLOW_TURN_S)
            await asyncio.sleep(SLOW_TURN_S)
    killed = pid if fault.kind == "kill" else 0
    await stack.until(lambda: pid_of(stack, fault.victim, other_than=killed), BACK_S_MAX)
    return at_ms


async def cut(stack: ChaosStack, victim: str, mode: Mode, lasts_s: float) -> None:
    stack.proxies.cut(victim, mode)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        stack.proxies.cut(victim, "open")


async def stand_still(pid: int, lasts_s: float) -> None:
    send(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        send(pid, signal.SIGCONT)


def send(pid: int, number: signal.Signals) -> None:
    """A supervisor may have ended the victim meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def pid_of(stack: Running, name: str, other_than: int = 0) -> int:
    """The first process of a service or server, or 0 while there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        pids: list[int] = stack.facts()["pids"][name]
        if other_than not in pids and pids:
            return pids[0]
    return 0


def now_ms() -> int:
    return time.time_ns() // 1_000_000
