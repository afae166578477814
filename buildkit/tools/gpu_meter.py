"""The use of GPUs from look to look, though the driver may fail or hang: what is not known now is not told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from buildkit.errors import ToolError
from buildkit.gpu.use import GpuHealth, GpuUse
from buildkit.tools.asked_apart import AskedApart
from buildkit.tools.gpu import SILENT, NvmlUse

_FIRST = 10.0  # seconds: the driver may have to initialise its GPUs
_PATIENCE = 2.0
_Answer = tuple[float, tuple[GpuUse, ...]]


@contextmanager
def open_gpu_meter(
    *, health: bool = False, first: float = _FIRST, patience: float = _PATIENCE
) -> Iterator[Callable[[], tuple[GpuUse, ...]]]:
    """Yield a function that returns the present use of every GPU; NVML stays open until the block ends.

    Without GPUs or their driver it returns none. A GPU that fails has the reason in ``problem``. So has each known one
    if the driver fails, or does not answer within ``patience`` (seconds, the first time ``first``). With ``health``,
    what GPUs say of themselves is read, too.
    """
    source = NvmlUse(health=health)

    def ask() -> _Answer:
        began = time.monotonic()
        return began, source.read()

    apart = AskedApart(ask, patience, first)
    try:
        yield _GpuMeter(ask=apart).measure
    finally:
        if not apart.waits:  # or closing would wait, too
            source.close()


@dataclass(slots=True, kw_only=True)
class _GpuMeter:
    """``ask`` returns when it began to look, and what it saw; ``known`` is how GPUs that fail are named."""

    ask: Callable[[], _Answer]
    known: dict[int, GpuUse] = field(default_factory=dict)

    def measure(self) -> tuple[GpuUse, ...]:
        try:
            uses = self._look()
        except ToolError as error:
            problem = f"{SILENT}: {error.message}"
            return tuple(_fail(one, problem) for one in self.known.values()) or (_fail(_UNNAMED, problem),)
        self.known = {use.index: self.known.get(use.index, use) if use.problem else use for use in uses}
        return tuple(_fail(self.known[use.index], use.problem) if use.problem else use for use in uses)

    def _look(self) -> tuple[GpuUse, ...]:
        now = time.monotonic()
        began, uses = self.ask()
        return uses if began >= now else self.ask()[1]  # the late answer to an earlier question tells of the past


_UNNAMED = GpuUse(index=0, uuid="")


def _fail(use: GpuUse, problem: str) -> GpuUse:
    return GpuUse(index=use.index, uuid=use.uuid, health=GpuHealth(name=use.health.name), problem=problem)
