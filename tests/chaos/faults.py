"""Faults for a running stack, planned by a seed: the same seed gives the same faults in the same order."""

import asyncio
import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass
from typing import Literal

from tests.running import SERVERS, SERVICES, Running

Kind = Literal["kill", "stop", "slow", "power"]

#: How often each kind comes, of 100.
WEIGHTS: dict[Kind, int] = {"kill": 62, "stop": 25, "slow": 10, "power": 3}
BACK_S_MAX = 60.0
#: A slow disk is a server that stands still half of the time: the kernel here cannot throttle one.
SLOW_TURN_S = 0.1


@dataclass(frozen=True)
class Fault:
    kind: Kind
    victim: str
    #: Quiet time before it.
    after_s: float
    #: How long the victim stands still.
    lasts_s: float = 0.0


@dataclass(frozen=True)
class Injected:
    fault: Fault
    at_ms: int


def plan(seed: int, count: int, quiet_s: float) -> list[Fault]:
    """The faults of a seed; ``quiet_s`` is the mean time between two."""
    rng = random.Random(seed)
    faults: list[Fault] = []
    for kind in rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count):
        victims = SERVERS if kind == "slow" else (*SERVICES, *SERVERS)
        victim = "everything" if kind == "power" else rng.choice(victims)
        lasts_s = rng.uniform(0.5, 7.0) if kind in ("stop", "slow") else 0.0
        faults.append(Fault(kind, victim, rng.uniform(0.5, 1.5) * quiet_s, lasts_s))
    return faults


async def inject(stack: Running, fault: Fault) -> Injected:
    """One fault; ends once the victim runs again, by itself or by the supervisor."""
    if fault.kind == "power":
        at_ms = now_ms()
        stack.kill_everything()
        await stack.start()
        return Injected(fault, at_ms)
    pid = await stack.until(lambda: pid_of(stack, fault.victim), BACK_S_MAX)
    at_ms = now_ms()
    if fault.kind == "kill":
        send(pid, signal.SIGKILL)
    elif fault.kind == "stop":
        await stand_still(pid, fault.lasts_s)
    else:
        for _ in range(max(1, int(fault.lasts_s / (2 * SLOW_TURN_S)))):
            await stand_still(pid, SLOW_TURN_S)
            await asyncio.sleep(SLOW_TURN_S)
    await stack.until(
        lambda: pid_of(stack, fault.victim, other_than=pid if fault.kind == "kill" else 0), BACK_S_MAX
    )
    return Injected(fault, at_ms)


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
