"""Hosts with GPUs as values."""

from __future__ import annotations

from buildkit.gpu.device import Gpu, GpuProcess, Gpus, MigDevice
from buildkit.gpu.host_devices import GpuHost

GIB = 1 << 30


def uuid(number: int, kind: str = "GPU") -> str:
    return f"{kind}-{number:08x}-0000-4000-8000-000000000000"


def gpu(index: int, **more: object) -> Gpu:
    usual = {"name": "NVIDIA H200", "memory": 140 * GIB, "free": 130 * GIB, "capability": "9.0", "processes": ()}
    return Gpu(index=index, uuid=uuid(index), **usual | more)


def divided(index: int, slots: int = 2) -> Gpu:
    """A GPU in MIG mode."""
    devices = (
        MigDevice(
            index=slot,
            uuid=uuid(16 * index + slot, "MIG"),
            name="NVIDIA H200 MIG 3g.71gb",
            memory=66 * GIB,
            free=60 * GIB,
        )
        for slot in range(slots)
    )
    return gpu(index, mig=tuple(devices))


def host(*gpus: Gpu, driver: str = "580.65.06", unnamed: tuple[str, ...] = (), blocked: str = "") -> GpuHost:
    """A host whose CDI specification names all devices but ``unnamed`` by UUID and index."""
    names = {f"nvidia.com/gpu={word}" for one in gpus for word in _words(one) if word not in unnamed}
    listed = Gpus(devices=gpus, driver=driver, cuda="13.0", driver_found=True)
    return GpuHost(gpus=listed, names=frozenset(names), blocked=blocked)


def _words(one: Gpu) -> list[str]:
    if one.mig is None:
        return [one.uuid, str(one.index)]
    return [word for slot in one.mig for word in (slot.uuid, f"{one.index}:{slot.index}")]


BUSY = (GpuProcess(pid=1, memory=GIB),)
