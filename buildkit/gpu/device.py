"""GPUs as NVIDIA's management library (NVML, https://docs.nvidia.com/deploy/nvml-api/) describes them: values.

None stands for what a GPU does not report: a GeForce has no ECC, a GPU that shares the memory of its CPU no size.
Sizes are bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MigDevice:
    """A slice of a GPU (multi-instance GPU). CDI calls the one of ``index`` 1 on GPU 0 ``0:1``."""

    index: int
    uuid: str
    name: str
    memory: int | None = None
    free: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A program that uses a GPU; ``pid`` is the host's, also for a program in a container."""

    pid: int
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU; ``problem`` is why it does not answer, and then only what it said before is known.

    ``capability`` is the compute capability (``9.0``). ``mig`` is None if MIG is off or unknown to the GPU.
    ``ecc_errors`` counts uncorrected errors since the driver was loaded. ``throttled`` says in words why clocks are
    below their most, idleness left out. ``temperature`` is °C, ``power`` watts. ``compute_mode`` is as ``nvidia-smi
    --compute-mode`` takes it: ``DEFAULT``, ``EXCLUSIVE_PROCESS`` or ``PROHIBITED``.
    """

    index: int
    uuid: str = ""
    name: str = ""
    problem: str = ""
    memory: int | None = None
    free: int | None = None
    capability: str | None = None
    mig: tuple[MigDevice, ...] | None = None
    ecc: bool | None = None
    ecc_errors: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    throttled: tuple[str, ...] | None = None
    temperature: int | None = None
    power: float | None = None
    compute_mode: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """All GPUs; ``driver`` and ``cuda`` are versions: of the driver, and the newest CUDA that it serves.

    ``problem`` is why there are none if NVML could not be queried. ``driver_found`` distinguishes a driver that does
    not answer from a machine without one, which is not a fault.
    """

    devices: tuple[Gpu, ...] = ()
    driver: str = ""
    cuda: str = ""
    driver_found: bool = False
    problem: str = ""


def gpus_as_json(gpus: Gpus) -> dict[str, object]:
    """Return plain values for JSON, without what is unknown."""
    return _without_unknown(asdict(gpus))


def _without_unknown(table: dict[str, object]) -> dict[str, object]:
    return {key: _plain(value) for key, value in table.items() if value is not None}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return _without_unknown(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
