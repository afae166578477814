"""Critical errors of GPUs (XID), which the driver tells as events; the binding of NVML is given.

Source: NVML's *Event Handling Methods*. The codes are in NVIDIA's *XID Errors*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_MOST = 100  # events of a look


def open_error_watch(nvml: Any) -> Callable[[], Mapping[str, int]]:  # noqa: ANN401 - a module without types
    """Return a function that returns the code of the last error since now, by UUID of the GPU: 0 if there was none.

    GPUs that tell none are absent. What a GPU that is lost would say is not waited for.
    """
    codes: dict[str, int] = {}
    try:
        events = nvml.nvmlEventSetCreate()
        for index in range(nvml.nvmlDeviceGetCount()):
            codes |= _register(nvml, index, events)
    except (nvml.NVMLError, AttributeError):  # a driver or binding without events
        return lambda: codes

    def look() -> Mapping[str, int]:
        for _ in range(_MOST):
            try:
                event = nvml.nvmlEventSetWait_v2(events, 0)
                codes[_uuid(nvml, event.device)] = int(event.eventData)
            except nvml.NVMLError:  # none came since, which is a timeout; or the GPU is lost, which its figures tell
                break
        return codes

    return look


def _register(nvml: Any, index: int, events: Any) -> dict[str, int]:  # noqa: ANN401
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        nvml.nvmlDeviceRegisterEvents(device, nvml.nvmlEventTypeXidCriticalError, events)
        return {_uuid(nvml, device): 0}
    except nvml.NVMLError:
        return {}  # this GPU tells none


def _uuid(nvml: Any, device: Any) -> str:  # noqa: ANN401
    uuid = nvml.nvmlDeviceGetUUID(device)
    return uuid if isinstance(uuid, str) else str(uuid, "utf-8", "replace")
