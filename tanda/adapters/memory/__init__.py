"""The ports in this process's memory: products for tests, for trying an integration, and for simulations."""

from tanda.adapters.memory.streams import (
    MemoryBoard,
    MemoryLease,
    MemoryLog,
    MemorySignals,
    MemoryTimers,
    MemoryWork,
)

__all__ = ["MemoryBoard", "MemoryLease", "MemoryLog", "MemorySignals", "MemoryTimers", "MemoryWork"]
