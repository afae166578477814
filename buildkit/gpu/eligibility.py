"""Whether a device fulfils a request, and in words why not. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from buildkit.declare.gpu_request import GpuRequest, parse_size
from buildkit.gpu.host_devices import GpuHost, HostDevice
from buildkit.gpu.mps import CONTROL, EXCLUSIVE

_VOLTA = (7, 0)  # before it, programs under MPS are not isolated from each other, and limits have no effect
_GENERATE = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmet:
    """Why a device, or with an empty ``device`` the host, does not do: what is wanted, and what is there.

    ``mend`` is a command that changes it, if one does.
    """

    device: str = ""
    wanted: str
    found: str
    mend: str = ""

    @property
    def text(self) -> str:
        """One line for people."""
        return f"{self.device}{': ' if self.device else ''}{self.wanted} wanted, {self.found}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDevice:
    """A device that a running container has; ``share`` is empty if it did not say how it shares.

    ``environment`` is that of a service (``PROJECT-NAME``).
    """

    uuid: str
    container: str
    share: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedGpus:
    """A request, and the container and the environment that it is for; names of containers are unique."""

    container: str
    request: GpuRequest
    environment: str = ""

    @property
    def memory(self) -> int:
        """Bytes that must be free on each."""
        return parse_size(self.request.memory) if self.request.memory else 0


def check_host(request: GpuRequest, host: GpuHost) -> Iterator[Unmet]:
    """Yield why no device of the host does."""
    gpus = host.gpus
    if not gpus.devices:
        why = gpus.problem or "the driver lists none"
        mend = "nvidia-smi  # says why the driver does not answer" if gpus.driver_found and gpus.problem else ""
        yield Unmet(wanted="a GPU", found=f"this host has none: {why}", mend=mend)
    elif request.driver and not driver_fits(request.driver, gpus.driver):
        yield Unmet(wanted=f"driver {request.driver}", found=f"{gpus.driver or 'an unknown one'} runs")
    if gpus.devices and request.share == "mps" and host.control is False:
        found = "no CDI specification has it; install it, then: sudo nvidia-ctk cdi generate --output=FILE"
        yield Unmet(wanted=f"{CONTROL} in containers", found=found)
    if gpus.devices and host.blocked:
        found, _, mend = host.blocked.partition(": ")
        yield Unmet(wanted="access to GPUs", found=found, mend=mend)


def check_device(wanted: WantedGpus, device: HostDevice, holders: tuple[HeldDevice, ...]) -> Iterator[Unmet]:
    """Yield why a device does not do; ``holders`` are the containers that have it, its own predecessor among them."""
    request = wanted.request
    if device.problem:
        yield Unmet(device=device.title, wanted="a GPU that works", found=f"it does not answer: {device.problem}")
        return
    if not device.name:
        found = "no usable CDI specification has it"
        yield Unmet(device=device.title, wanted="a name for podman", found=found, mend=_GENERATE)
    if request.capability and not _is_capable(device.capability, request.capability):
        found = f"it has {device.capability}" if device.capability else "it does not tell its own"
        yield Unmet(device=device.title, wanted=f"compute capability {request.capability}", found=found)
    if device.is_mig and request.count > 1 and not request.devices:
        found = "a program sees one MIG device alone"
        yield Unmet(device=device.title, wanted="a whole GPU", found=found)
    if request.share == "mps":
        yield from _check_mps(device)
    is_own = any(one.container == wanted.container for one in holders)
    yield from _check_memory(wanted, device, is_own=is_own)
    for one in holders:
        if one.container != wanted.container and not may_share(wanted, one):
            found = f"the container {one.container} has it ({one.share or 'exclusive'})"
            mend = f"podman stop {one.container}"
            yield Unmet(device=device.title, wanted=_format_share(wanted), found=found, mend=mend)


def may_share(wanted: WantedGpus, other: HeldDevice) -> bool:
    """Return whether two containers may have one device: both by time slices, or both by one environment's MPS."""
    share = wanted.request.share
    if share == "exclusive" or share != other.share:
        return False
    return share != "mps" or (bool(wanted.environment) and wanted.environment == other.environment)


def driver_fits(wanted: str, driver: str) -> bool:
    """Return whether a driver (``570.86.15``) is in a range (``>=570,<600``); an unknown one is in none."""
    version = _numbers(driver)
    parts = re.findall(r"(>=|<)([\d.]+)", wanted)
    return bool(version) and all((version >= _numbers(text)) is (sign == ">=") for sign, text in parts)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d{1,6}", text))


def _is_capable(capability: str | None, wanted: str) -> bool:
    return _numbers(capability or "") >= _numbers(wanted)


def _check_mps(device: HostDevice) -> Iterator[Unmet]:
    if device.is_mig:
        yield Unmet(device=device.title, wanted="a whole GPU for MPS", found="it is a MIG device")
        return
    if device.capability and _numbers(device.capability) < _VOLTA:
        found = f"it has {device.capability}"
        yield Unmet(device=device.title, wanted="compute capability 7.0 for MPS", found=found)
    if device.compute_mode not in (None, EXCLUSIVE):  # a program that missed the daemon would run beside it, unlimited
        mend = f"sudo nvidia-smi --id={device.uuid} --compute-mode={EXCLUSIVE}"
        found = f"it is {device.compute_mode}: {mend}"
        yield Unmet(device=device.title, wanted=f"compute mode {EXCLUSIVE} for MPS", found=found)


def _check_memory(wanted: WantedGpus, device: HostDevice, *, is_own: bool) -> Iterator[Unmet]:
    """Yield too little memory; what the predecessor of the container uses will be free, and nobody knows how much."""
    have = device.memory if is_own else device.free
    if wanted.memory and (have is None or have < wanted.memory):
        what = "in all" if is_own else "free"
        found = f"{format_gib(have)} are {what}" if have is not None else "it does not tell how much it has"
        yield Unmet(device=device.title, wanted=f"{wanted.request.memory} of free memory", found=found)


def format_gib(size: int) -> str:
    """Return a size in the unit of requests, rounded down: 15.9g is less than 16g."""
    return f"{size * 10 // _GIB / 10:g}g"


def _format_share(wanted: WantedGpus) -> str:
    return {"exclusive": "an exclusive GPU", "mps": "a GPU for MPS"}.get(wanted.request.share, "a time slice")
