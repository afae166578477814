"""Running containers as columns, with what is wrong in words. Pure."""

from __future__ import annotations

from buildkit.monitor.snapshot import ContainerView, Snapshot
from buildkit.monitor.usage import PressureStall
from buildkit.report.columns import Column, render_columns
from buildkit.report.text import format_bytes, format_count

TOP_COLUMNS = (
    Column(title="container"),
    Column(title="cpu", right=True),
    Column(title="throttled", right=True),
    Column(title="memory", right=True),
    Column(title="oom", right=True),
    Column(title="stalled", right=True, extra=True),
    Column(title="pids", right=True),
    Column(title="read", right=True, extra=True),
    Column(title="written", right=True, extra=True),
    Column(title="received", right=True, extra=True),
    Column(title="sent", right=True, extra=True),
    Column(title="gpu"),
    Column(title="health"),
    Column(title="restarts", right=True, extra=True),
    Column(title="image", extra=True),
)
_HEAD = 1  # lines above the rows
_FULL = 0.9  # of the limit of memory
_SHORT = 12  # digits of an id
_Line = tuple[str, str]


def top_rows(snapshot: Snapshot) -> list[tuple[str, ...]]:
    """Return a row for each container, the busiest first."""
    return [_row(view) for view in _sorted(snapshot)]


def top_lines(snapshot: Snapshot, width: int, height: int) -> list[_Line]:
    """Return lines with styles for a screen; the last one counts the containers that it has no room for."""
    views = _sorted(snapshot)
    if not views:
        return [("no container runs", "dim"), *((problem, "red") for problem in snapshot.problems)]
    room = max(1, height - _HEAD - 1 - len(snapshot.problems))
    head, *rows = render_columns(TOP_COLUMNS, [_row(view) for view in views[:room]], width)
    lines = [(head, "bold"), *((row, _style(view)) for row, view in zip(rows, views, strict=False))]
    if len(views) > room:
        lines.append((f"… {format_count(len(views) - room, 'container')} more", "dim"))
    return [*lines, *((problem, "red") for problem in snapshot.problems)]


def _sorted(snapshot: Snapshot) -> list[ContainerView]:
    return sorted(snapshot.containers, key=lambda view: (-(view.rates.cpu or 0.0), view.container.name))


def _style(view: ContainerView) -> str:
    if view.usage is None:
        return "dim"
    memory, limit = view.usage.working_set, view.limits.memory
    if view.oom_kills or view.container.health == "unhealthy":
        return "red"
    is_full = memory is not None and limit is not None and memory > _FULL * limit
    return "yellow" if is_full or view.rates.throttled or view.expected is False else ""


def _row(view: ContainerView) -> tuple[str, ...]:
    one, usage, rates, limits = view.container, view.usage, view.rates, view.limits
    if usage is None:
        return (one.name, "", "", "", "", "", "", "", "", "", "", "", "gone", str(one.restarts), _image(view))
    return (
        one.name,
        _of("" if rates.cpu is None else f"{rates.cpu:.2f}", None if limits.cpus is None else f"{limits.cpus:g}"),
        _percent(rates.throttled) if limits.cpus else "",
        _of(_size(usage.working_set), None if limits.memory is None else _size(limits.memory)),
        "" if view.oom_kills is None else str(view.oom_kills),
        _stalled(usage.cpu_pressure, usage.memory_pressure, usage.io_pressure),
        _of("" if usage.pids is None else str(usage.pids), None if limits.pids is None else str(limits.pids)),
        _rate(rates.read),
        _rate(rates.written),
        _rate(rates.received),
        _rate(rates.sent),
        ", ".join(f"{gpu.index}: {_size(gpu.memory)} {_percent(gpu.utilisation)}".rstrip() for gpu in view.gpus),
        one.health,
        str(one.restarts),
        _image(view),
    )


def _image(view: ContainerView) -> str:
    verdict = {True: " current", False: " differs", None: ""}[view.expected]
    return f"{view.container.image[:_SHORT]}{verdict}"


def _stalled(*stalls: PressureStall | None) -> str:
    """Return per cent of the last 10 s in which a process waited for CPU, memory and disks."""
    if not any(stalls):
        return ""
    return "/".join("-" if stall is None else f"{stall.some * 100:.0f}" for stall in stalls) + " %"


def _of(used: str, limit: str | None) -> str:
    return f"{used} of {limit}" if used and limit is not None else used


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.0f} %"


def _size(size: int | None) -> str:
    return "" if size is None else format_bytes(size)


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{format_bytes(rate)}/s"
