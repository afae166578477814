"""GPUs, from NVIDIA's management library (NVML). The only importer of ``pynvml`` (extra ``gpu``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device; ``memory`` in bytes."""

    index: int
    name: str
    uuid: str
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """All devices and the driver's version; ``problem`` is why there are none if NVML could not be queried.

    ``driver_found`` distinguishes a driver that does not answer from a machine without one, which is not a fault.
    """

    devices: tuple[Gpu, ...] = ()
    driver: str = ""
    driver_found: bool = False
    problem: str = ""


def find_gpus() -> Gpus:
    """Query NVML (https://docs.nvidia.com/deploy/nvml-api/). Never raises: a failure is in ``problem``."""
    try:
        import pynvml
    except ImportError:
        return Gpus(problem="the package nvidia-ml-py is not installed: pip install 'xoe-buildkit[gpu]'")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        return Gpus(problem=str(error), driver_found=getattr(error, "value", None) not in absent)
    try:
        return _list(pynvml)
    except pynvml.NVMLError as error:
        return Gpus(problem=str(error), driver_found=True)
    finally:
        pynvml.nvmlShutdown()


def _list(nvml: Any) -> Gpus:  # noqa: ANN401 - a module without types
    devices = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        devices.append(
            Gpu(
                index=index,
                name=_text(nvml.nvmlDeviceGetName(handle)),
                uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
                memory=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
            )
        )
    return Gpus(devices=tuple(devices), driver=_text(nvml.nvmlSystemGetDriverVersion()), driver_found=True)


def _text(value: str | bytes) -> str:
    """Decode ``value``, which some releases of the binding return as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
