"""GPUs, from NVIDIA's management library (NVML). The only importer of ``pynvml`` (extra ``gpu``)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from buildkit.errors import ToolError
from buildkit.gpu.device import Gpu, GpuProcess, Gpus, MigDevice
from buildkit.gpu.use import GpuHealth, GpuProcessUse, GpuUse
from buildkit.tools.asked_apart import AskedApart
from buildkit.tools.gpu_errors import open_error_watch

_REASONS = {  # nvmlClocksEventReasons; bit 0 is idleness
    0x002: "application clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "temperature",
    0x040: "hardware temperature",
    0x080: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}
_PATIENCE = 30.0  # seconds: a driver that nobody keeps loaded initialises many GPUs one after another
SILENT = "the driver does not answer"
_ECC = "nvmlDeviceGetTotalEccErrors"
_MODES = {0: "DEFAULT", 2: "PROHIBITED", 3: "EXCLUSIVE_PROCESS"}  # nvmlComputeMode


def find_gpus(patience: float = _PATIENCE) -> Gpus:
    """Query NVML. Never raises: a failure is in ``problem``, of one GPU in that of the GPU.

    So is a driver that does not answer within ``patience`` (seconds).
    """
    try:
        return AskedApart(_find_gpus, first=patience)()
    except ToolError as error:
        return Gpus(problem=f"{SILENT}: {error.message}", driver_found=True)


def _find_gpus() -> Gpus:
    try:
        import pynvml
    except ImportError:
        return Gpus(problem="the package nvidia-ml-py is not installed: pip install 'xoe-buildkit[gpu]'")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Gpus(problem=str(error), driver_found=not _is_absent(pynvml, error))
    try:
        return _list(pynvml)
    except pynvml.NVMLError as error:
        return Gpus(problem=str(error), driver_found=True)
    finally:
        with contextlib.suppress(pynvml.NVMLError):  # everything is known already, or its failure is
            pynvml.nvmlShutdown()


@dataclass(slots=True, kw_only=True)
class NvmlUse:
    """The present use of every GPU; NVML is open from the first answer to `close`. With ``health``, theirs is read."""

    health: bool = False
    _nvml: Any = None
    _since: dict[int, int] = field(default_factory=dict)
    _errors: Callable[[], Mapping[str, int]] | None = None

    def read(self) -> tuple[GpuUse, ...]:
        """Return none without GPUs or their driver; of a GPU that fails, why. Raises ToolError if the driver fails."""
        try:
            import pynvml
        except ImportError:
            return ()
        try:
            if self._nvml is None:
                self._open(pynvml)
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            if _is_absent(pynvml, error):
                return ()
            raise ToolError(str(error)) from error
        codes = self._errors() if self._errors else None
        return tuple(_read_use(pynvml, index, self._since, codes) for index in range(count))

    def close(self) -> None:
        """Close NVML."""
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _open(self, nvml: Any) -> None:  # noqa: ANN401
        nvml.nvmlInit()
        self._errors = open_error_watch(nvml) if self.health else None
        self._nvml = nvml


def _is_absent(nvml: Any, error: Exception) -> bool:  # noqa: ANN401
    absent = (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED)
    return getattr(error, "value", None) in absent


def _read_use(
    nvml: Any,  # noqa: ANN401
    index: int,
    since: dict[int, int],
    codes: Mapping[str, int] | None,
) -> GpuUse:
    """Return the use of a GPU; ``since`` keeps the driver's time of the last samples that were seen of each.

    ``codes`` are those of critical errors by UUID; None: the GPU's health is not asked for.
    """
    uuid = ""
    try:
        handle = _Handle(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
        uuid = _text(handle.ask("nvmlDeviceGetUUID"))
        health = GpuHealth() if codes is None else _read_health(handle, codes.get(uuid))
        memory, rates = handle.ask("nvmlDeviceGetMemoryInfo"), handle.ask("nvmlDeviceGetUtilizationRates")
        busy = _read_busy(handle, index, since)
        processes = {one.pid: one.memory for one in _read_processes(handle) or ()}
        return GpuUse(
            index=index,
            uuid=uuid,
            memory=memory and memory.total - memory.free,
            total=memory and memory.total,
            utilisation=rates and rates.gpu / 100,
            processes=tuple(
                GpuProcessUse(pid=pid, memory=used, utilisation=busy.get(pid, 0.0 if busy else None))
                for pid, used in processes.items()
            ),
            health=health,
        )
    except nvml.NVMLError as error:
        return GpuUse(index=index, uuid=uuid, problem=str(error))


def _read_health(handle: _Handle, code: int | None) -> GpuHealth:
    nvml = handle.nvml
    watts = handle.ask("nvmlDeviceGetPowerUsage")
    return GpuHealth(
        name=_text(handle.ask("nvmlDeviceGetName")),
        temperature=handle.ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        power=None if watts is None else watts / 1000,
        corrected=handle.ask(_ECC, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_VOLATILE_ECC),
        uncorrected=handle.ask(_ECC, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC),
        xid=code,
    )


def _read_busy(handle: _Handle, index: int, since: dict[int, int]) -> dict[int, float]:
    """Return the share of time that each process computed lately; none where the GPU does not tell (MIG)."""
    try:
        samples = handle.ask("nvmlDeviceGetProcessUtilization", since.get(index, 0)) or ()
    except handle.nvml.NVMLError as error:
        if getattr(error, "value", None) in (0, handle.nvml.NVML_ERROR_NOT_FOUND):
            return {}  # nothing computed since
        raise
    newest = {one.pid: one for one in sorted(samples, key=lambda one: int(one.timeStamp))}
    since[index] = max((int(one.timeStamp) for one in newest.values()), default=since.get(index, 0))
    return {pid: min(100, one.smUtil) / 100 for pid, one in newest.items()}


@dataclass(frozen=True, slots=True)
class _Handle:
    """A device of NVML, and the binding, a module without types."""

    nvml: Any
    device: Any

    def ask(self, function: str, *arguments: object) -> Any:  # noqa: ANN401
        """Call a function of the binding; None if binding, driver or device does not know it, or not tells this user.

        Raises NVMLError for any other failure.
        """
        nvml = self.nvml
        if not hasattr(nvml, function):
            return None
        try:
            return getattr(nvml, function)(self.device, *arguments)
        except nvml.NVMLError as error:
            unknown = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NO_PERMISSION)
            if getattr(error, "value", None) in unknown:
                return None
            raise


def _list(nvml: Any) -> Gpus:  # noqa: ANN401
    cuda = nvml.nvmlSystemGetCudaDriverVersion()
    return Gpus(
        devices=tuple(_read_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())),
        driver=_text(nvml.nvmlSystemGetDriverVersion()),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
        driver_found=True,
    )


def _read_gpu(nvml: Any, index: int) -> Gpu:  # noqa: ANN401
    names: dict[str, Any] = {}
    try:
        handle = _Handle(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
        names["uuid"] = _text(handle.ask("nvmlDeviceGetUUID"))
        names["name"] = _text(handle.ask("nvmlDeviceGetName"))
        return Gpu(index=index, **names, **_read_state(handle))
    except nvml.NVMLError as error:
        return Gpu(index=index, **names, problem=str(error))


def _read_state(handle: _Handle) -> dict[str, Any]:
    nvml = handle.nvml
    memory = handle.ask("nvmlDeviceGetMemoryInfo")
    capability = handle.ask("nvmlDeviceGetCudaComputeCapability")
    ecc = handle.ask("nvmlDeviceGetEccMode")
    watts = handle.ask("nvmlDeviceGetPowerUsage")
    errors = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    return {
        "memory": memory and memory.total,
        "free": memory and memory.free,
        "capability": capability and f"{capability[0]}.{capability[1]}",
        "mig": _read_mig(handle),
        "ecc": ecc and ecc[0] == nvml.NVML_FEATURE_ENABLED,
        "ecc_errors": handle.ask(_ECC, *errors),
        "processes": _read_processes(handle),
        "throttled": _read_reasons(handle),
        "temperature": handle.ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        "power": None if watts is None else watts / 1000,
        "compute_mode": _MODES.get(handle.ask("nvmlDeviceGetComputeMode")),
    }


def _read_mig(handle: _Handle) -> tuple[MigDevice, ...] | None:
    nvml = handle.nvml
    mode = handle.ask("nvmlDeviceGetMigMode")
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return None
    devices = []
    for index in range(handle.ask("nvmlDeviceGetMaxMigDeviceCount") or 0):
        try:
            slot = _Handle(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle.device, index))
        except nvml.NVMLError as error:
            if getattr(error, "value", None) == nvml.NVML_ERROR_NOT_FOUND:
                continue  # no device in this slot
            raise
        memory = slot.ask("nvmlDeviceGetMemoryInfo")
        devices.append(
            MigDevice(
                index=index,
                uuid=_text(slot.ask("nvmlDeviceGetUUID")),
                name=_text(slot.ask("nvmlDeviceGetName")),
                memory=memory and memory.total,
                free=memory and memory.free,
            )
        )
    return tuple(devices)


def _read_processes(handle: _Handle) -> tuple[GpuProcess, ...] | None:
    answers = [handle.ask(f"nvmlDeviceGet{kind}RunningProcesses") for kind in ("Graphics", "Compute")]
    if answers == [None, None]:
        return None
    found = {process.pid: process.usedGpuMemory for answer in answers for process in answer or ()}
    return tuple(GpuProcess(pid=pid, memory=memory) for pid, memory in sorted(found.items()))


def _read_reasons(handle: _Handle) -> tuple[str, ...] | None:
    bits = handle.ask("nvmlDeviceGetCurrentClocksEventReasons")
    if bits is None:  # a driver older than 535 knows the older name only
        bits = handle.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    if bits is None:
        return None
    return tuple(word for bit, word in _REASONS.items() if bits & bit)


def _text(value: str | bytes | None) -> str:
    """Decode ``value``, which some releases of the binding return as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
