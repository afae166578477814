"""The devices of a host that a container can be given: whole GPUs, and MIG devices of those that are divided. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from buildkit.gpu.cdi_spec import NVIDIA
from buildkit.gpu.device import Gpu, Gpus, MigDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHost:
    """What is known of a host: NVML's answer, and the full names of devices that podman resolves by CDI.

    ``blocked`` is why no container can use a GPU even if podman hands it over; empty if nothing is known to.
    ``control`` is whether containers get the control daemon of MPS, None if that is not known.
    """

    gpus: Gpus
    names: frozenset[str] = frozenset()
    blocked: str = ""
    control: bool | None = None

    def devices(self) -> tuple[HostDevice, ...]:
        """Return the devices in the order of their indices."""
        return tuple(device for gpu in self.gpus.devices for device in _divided(gpu, self.names))

    def emptied(self) -> GpuHost:
        """Return the same host with nothing running on it."""
        gpus = tuple(
            replace(
                gpu,
                free=gpu.memory,
                processes=(),
                mig=gpu.mig and tuple(replace(slot, free=slot.memory) for slot in gpu.mig),
            )
            for gpu in self.gpus.devices
        )
        return replace(self, gpus=replace(self.gpus, devices=gpus))

    def find(self, word: str) -> tuple[HostDevice, ...]:
        """Return what a request or a CDI name means: a UUID, an index (``0``, ``1:0``) or ``all``.

        The index of a GPU that is divided means all its MIG devices.
        """
        devices = self.devices()
        if word == "all":
            return devices
        return tuple(one for one in devices if word in (one.uuid, one.index, one.gpu, one.gpu_uuid))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A GPU, or a MIG device on it.

    ``name`` is the full CDI name by which podman hands it over, empty if there is none. ``gpu`` and ``gpu_uuid`` are
    index and UUID of the whole. Sizes are bytes; what is not known is None. ``busy`` is whether programs use it.
    ``compute_mode`` is that of `Gpu`.
    """

    uuid: str
    index: str
    model: str
    name: str
    gpu: str
    gpu_uuid: str
    is_mig: bool = False
    problem: str = ""
    memory: int | None = None
    free: int | None = None
    capability: str | None = None
    busy: bool = False
    compute_mode: str | None = None

    @property
    def profile(self) -> str:
        """The profile of a MIG device as Kubernetes names resources (``3g.71gb``, ``1g.10gb.me``); empty for others."""
        found = re.search(r"MIG (\d+g\.\d+gb)(?:\+([a-z.]+))?", self.model) if self.is_mig else None
        return ".".join(filter(None, found.groups())) if found else ""

    @property
    def title(self) -> str:
        """As messages name it: ``GPU-… (0, NVIDIA H200)``."""
        known = ", ".join(filter(None, (self.index, self.model)))
        return f"{self.uuid} ({known})" if self.uuid else f"GPU {self.index}"


def _divided(gpu: Gpu, names: frozenset[str]) -> Iterator[HostDevice]:
    if gpu.mig is None:
        yield HostDevice(
            uuid=gpu.uuid,
            index=str(gpu.index),
            model=gpu.name,
            name=_find_name(names, gpu.uuid, str(gpu.index)),
            gpu=str(gpu.index),
            gpu_uuid=gpu.uuid,
            problem=gpu.problem,
            memory=gpu.memory,
            free=gpu.free,
            capability=gpu.capability,
            busy=bool(gpu.processes),
            compute_mode=gpu.compute_mode,
        )
    for slot in gpu.mig or ():
        yield _mig_device(gpu, slot, names)


def _mig_device(gpu: Gpu, slot: MigDevice, names: frozenset[str]) -> HostDevice:
    index = f"{gpu.index}:{slot.index}"
    return HostDevice(
        uuid=slot.uuid,
        index=index,
        model=slot.name or f"MIG device of {gpu.name}",
        name=_find_name(names, slot.uuid, index),
        gpu=str(gpu.index),
        gpu_uuid=gpu.uuid,
        is_mig=True,
        problem=gpu.problem,
        memory=slot.memory,
        free=slot.free,
        capability=gpu.capability,
    )


def _find_name(names: frozenset[str], *ways: str) -> str:
    """Return the CDI name of a device: by UUID, which stays its own, else by index."""
    return next((full for way in ways if way and (full := f"{NVIDIA}={way}") in names), "")
