"""GPUs and CDI specifications as columns. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit.gpu.cdi_spec import CdiFile
from buildkit.gpu.device import Gpu, Gpus
from buildkit.gpu.eligibility import HeldDevice
from buildkit.gpu.host_devices import GpuHost
from buildkit.report.columns import Column
from buildkit.report.text import format_bytes

GPU_COLUMNS = (
    Column(title="gpu"),
    Column(title="name"),
    Column(title="uuid"),
    Column(title="free", right=True),
    Column(title="memory", right=True),
    Column(title="capability", right=True, extra=True),
    Column(title="temperature", right=True, extra=True),
    Column(title="power", right=True, extra=True),
    Column(title="processes", extra=True),
    Column(title="state"),
)
HELD_COLUMNS = (
    Column(title="gpu"),
    Column(title="uuid", extra=True),
    Column(title="container"),
    Column(title="environment"),
    Column(title="share"),
)
CDI_COLUMNS = (
    Column(title="specification"),
    Column(title="kind"),
    Column(title="version", right=True, extra=True),
    Column(title="devices"),
)


def gpu_rows(gpus: Gpus) -> list[tuple[str, ...]]:
    """Return a row for each GPU, and one below it for each of its MIG devices, named as CDI does (``0:1``)."""
    rows = []
    for gpu in gpus.devices:
        rows.append(_gpu_row(gpu))
        for device in gpu.mig or ():
            sizes = (_size(device.free), _size(device.memory))
            rows.append((f"{gpu.index}:{device.index}", device.name, device.uuid, *sizes, "", "", "", "", ""))
    return rows


def held_rows(held: Sequence[HeldDevice], host: GpuHost) -> list[tuple[str, ...]]:
    """Return a row for each device that a container has, by index."""
    indices = {device.uuid: device.index for device in host.devices()}
    rows = [
        (indices.get(one.uuid, ""), one.uuid, one.container, one.environment, one.share or "does not say")
        for one in held
    ]
    return sorted(rows)


def cdi_rows(files: Sequence[CdiFile]) -> list[tuple[str, ...]]:
    """Return a row for each specification that can be read."""
    return [
        (file.path, file.spec.kind, file.spec.version, " ".join(file.spec.devices))
        for file in files
        if file.spec is not None
    ]


def _gpu_row(gpu: Gpu) -> tuple[str, ...]:
    return (
        str(gpu.index),
        gpu.name,
        gpu.uuid,
        _size(gpu.free),
        _size(gpu.memory),
        gpu.capability or "",
        "" if gpu.temperature is None else f"{gpu.temperature} °C",
        "" if gpu.power is None else f"{gpu.power:.0f} W",
        ", ".join(
            f"{one.pid}{f' ({_size(one.memory)})' if one.memory is not None else ''}" for one in gpu.processes or ()
        ),
        _state(gpu),
    )


def _state(gpu: Gpu) -> str:
    if gpu.problem:
        return gpu.problem
    words = [f"slowed by {', '.join(gpu.throttled)}"] if gpu.throttled else []
    words += ["MIG"] if gpu.mig is not None else []
    words += [f"{gpu.ecc_errors} ECC errors"] if gpu.ecc_errors else ["no ECC"] if gpu.ecc is False else []
    return "; ".join(words) or "ok"


def _size(size: int | None) -> str:
    return "" if size is None else format_bytes(size)
