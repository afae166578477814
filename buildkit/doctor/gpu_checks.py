"""Checks of GPUs, and of the CDI specifications that hand them to containers. Pure: facts in, findings out."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Sequence

from buildkit.doctor.diagnosis import Diagnosis, DiagnosisStatus, note, ok, warning
from buildkit.doctor.facts import HostFacts, InstalledTool
from buildkit.doctor.tool_checks import is_older
from buildkit.gpu.cdi_spec import NVIDIA, CdiFault, CdiFile, CdiFiles, may_read
from buildkit.gpu.device import Gpu, Gpus
from buildkit.report.text import format_bytes

_FIXED = "1.17.8"  # NVIDIA Container Toolkit, CVE-2025-23266
_READS_RESERVATIONS = "1.2.0"
_REFUSED = "podman answers `unresolvable CDI devices`: no container gets them"
_OF_A_DEVICE = re.compile(r"\d+(?::\d+)?|(?:GPU|MIG)-.+")
_SHOWN = 3


def check_gpus(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check GPUs, and whether containers can use them."""
    yield from check_gpu_host(facts.gpus, facts.cdi, facts.find_tool("podman"), facts.find_tool("nvidia-ctk"))
    if facts.gpus.devices:
        yield from check_gpu_use(facts.devices_blocked, facts.find_tool("podman-compose"))


def check_gpu_host(gpus: Gpus, cdi: CdiFiles, podman: InstalledTool, toolkit: InstalledTool) -> Iterator[Diagnosis]:
    """Check the same from these facts alone; a host without GPU and CDI specification has one finding, a note."""
    yield from _check_devices(gpus)
    if not gpus.devices and not cdi.files:
        return
    found = (*_check_files(cdi, podman, toolkit), *_check_match(gpus, cdi, toolkit), *_check_toolkit(cdi, toolkit))
    yield from found
    names = [name for file in cdi.of_kind(NVIDIA) for name in file.names]
    if gpus.devices and names and all(finding.status is DiagnosisStatus.NOTE for finding in found):
        name = f"{NVIDIA}=all"
        yield ok("cdi", f"`podman run --device {name if name in names else names[0]}` works")


def check_gpu_use(blocked: str, compose: InstalledTool) -> Iterator[Diagnosis]:
    """Check what keeps containers from GPUs that podman hands over; ``blocked`` is what SELinux says of devices."""
    if blocked:
        what, _, mend = blocked.partition(": ")
        yield warning("gpu-selinux", what, "programs find no GPU: containers that ask for one are not started", mend)
    if compose.version and is_older(compose.version, _READS_RESERVATIONS):
        what = f"podman-compose {compose.version} ignores `deploy.resources.reservations.devices`"
        cost = "services of compose files that ask for GPUs so run on the CPU, without a word"
        yield warning("podman-compose", what, cost, "pip install --upgrade podman-compose")


def _check_devices(gpus: Gpus) -> Iterator[Diagnosis]:
    if not gpus.devices:
        if gpus.driver_found and gpus.problem:
            cost = "containers get no GPU"
            yield warning("gpu", f"NVIDIA's driver does not answer: {gpus.problem}", cost, "nvidia-smi")
        else:
            yield note("gpu", f"no NVIDIA GPU ({gpus.problem or 'the driver lists none'})")
        return
    if names := ", ".join(_describe(gpu) for gpu in gpus.devices if not gpu.problem):
        yield ok("gpu", f"{names}; driver {gpus.driver}")
    for gpu in gpus.devices:
        if gpu.problem:
            what = f"GPU {gpu.index}{gpu.uuid and f' ({gpu.uuid})'} does not answer: {gpu.problem}"
            mend = "sudo dmesg | grep NVRM  # says why; a lost GPU comes back with a restart of the machine"
            yield warning("gpu", what, "nothing runs on it", mend)
        if gpu.ecc_errors:
            what = (
                f"GPU {gpu.index} ({gpu.uuid}) has {gpu.ecc_errors} uncorrected ECC errors since the driver was loaded"
            )
            mend = f"sudo nvidia-smi --gpu-reset --id={gpu.index}"
            yield warning("gpu", what, "programs on it end, or compute with wrong values", mend)


def _describe(gpu: Gpu) -> str:
    return gpu.name if gpu.memory is None else f"{gpu.name} ({format_bytes(gpu.memory)})"


def _check_files(cdi: CdiFiles, podman: InstalledTool, toolkit: InstalledTool) -> Iterator[Diagnosis]:
    """Check each file on its own, then against those that have the same names."""
    for file in cdi.files:
        if file.fault:
            yield warning("cdi", f"{file.path} {file.fault}: {file.problem}", _REFUSED, _mend_fault(file, toolkit))
        elif winner := _find_winner(file, cdi):
            what, mend = (
                f"{file.path} is not used: {winner.path} has the same names",
                f"sudo rm {shlex.quote(file.path)}",
            )
            yield note("cdi", what, "whoever edits it changes nothing", mend)
        else:
            yield from _check_spec(file, podman, toolkit)
    for number, file in enumerate(cdi.files):
        for earlier in cdi.files[:number]:
            shared = [name for name in file.names if name in earlier.names]
            if shared and _folder(file) == _folder(earlier):
                what = f"{earlier.path} and {file.path} both have {_list(shared)}"
                yield warning("cdi", what, _REFUSED, f"sudo rm {shlex.quote(file.path)}  # or the other one")


def _check_spec(file: CdiFile, podman: InstalledTool, toolkit: InstalledTool) -> Iterator[Diagnosis]:
    assert file.spec is not None  # noqa: S101 - it has no fault
    version, readable = file.spec.version, may_read(podman.version, file.spec.version)
    if podman.version and readable is False:
        what = f"{file.path} is CDI {version}, which podman {podman.version} does not read"
        yield warning("cdi", what, _REFUSED, "upgrade podman: 4.3 reads CDI up to 0.5.0, 5.4 (Debian 13) up to 0.8.0")
    elif podman.version and readable is None:
        what = f"{file.path} is CDI {version}: it is not known whether podman {podman.version} reads that"
        yield note("cdi", what, "podman may answer `unresolvable CDI devices`")
    if file.missing:
        what = f"{file.path} names what this host lacks: {_list(file.missing)}"
        yield warning("cdi", what, "containers with these devices do not start", _regenerate(file, toolkit))


def _check_match(gpus: Gpus, cdi: CdiFiles, toolkit: InstalledTool) -> Iterator[Diagnosis]:
    """Compare the specifications with what the driver says now."""
    if not gpus.devices:
        return
    files = [file for file in cdi.of_kind(NVIDIA) if not _find_winner(file, cdi)]
    if not files:
        if not any(file.fault and "nvidia" in posixpath.basename(file.path) for file in cdi.files):
            missing = "" if toolkit.path else ", and nvidia-ctk is missing"
            cost = f"`--device {NVIDIA}=all` is unknown to podman and buildah"
            mend = _generate("/etc/cdi/nvidia.yaml", toolkit)
            yield warning("cdi", f"no CDI specification describes the GPUs{missing}", cost, mend)
        return
    for file in files:
        if file.spec and file.spec.drivers and gpus.driver not in file.spec.drivers:
            what = f"{file.path} is of driver {_list(file.spec.drivers)}, and {gpus.driver} runs"
            yield warning("cdi", what, "containers get libraries that the driver refuses", _regenerate(file, toolkit))
    present = _device_names(gpus)
    named = {name for file in files if file.spec for name in file.spec.devices}
    absent = [names[0] for names in present if not named.intersection(names)]
    known = {name for names in present for name in names}
    gone = sorted(name for name in named if _OF_A_DEVICE.fullmatch(name) and name not in known)
    mend = _regenerate(files[-1], toolkit)
    if absent:
        yield warning("cdi", f"{files[-1].path} lacks {_list(absent)}", "no container gets these devices", mend)
    if gone and not any(gpu.problem for gpu in gpus.devices):  # a lost GPU has no names
        what = f"{files[-1].path} has {_list(gone)}, which the driver does not: GPUs or MIG devices have changed"
        yield warning("cdi", what, "a container with these devices does not start, or gets another", mend)


def _device_names(gpus: Gpus) -> list[tuple[str, str]]:
    """Return index and UUID of each device that CDI can name; a GPU in MIG mode is its MIG devices."""
    names = []
    for gpu in gpus.devices:
        if gpu.mig is not None:
            names += [(f"{gpu.index}:{device.index}", device.uuid) for device in gpu.mig]
        elif not gpu.problem:
            names.append((str(gpu.index), gpu.uuid))
    return names


def _check_toolkit(cdi: CdiFiles, toolkit: InstalledTool) -> Iterator[Diagnosis]:
    for hook in cdi.hooks:
        cost = "hook and CDI both inject the driver: containers fail, or get GPUs that nobody gave them"
        yield warning("cdi-hook", f"{hook} starts NVIDIA's older hook", cost, f"sudo rm {shlex.quote(hook)}")
    if toolkit.version and is_older(toolkit.version, _FIXED):
        what = f"nvidia-ctk {toolkit.version} is before {_FIXED}: CVE-2025-23266"
        mend = "sudo apt-get install --only-upgrade nvidia-container-toolkit"
        yield warning("nvidia-ctk", what, "an image can run programs as root on this host", mend)


def _find_winner(file: CdiFile, cdi: CdiFiles) -> CdiFile | None:
    """Return the file of a later folder that has all names of a file, so that this one is not used."""
    others = [one for one in cdi.files[cdi.files.index(file) :] if _folder(one) != _folder(file)]
    return next((one for one in others if file.names and all(name in one.names for name in file.names)), None)


def _folder(file: CdiFile) -> str:
    return posixpath.dirname(file.path)


def _mend_fault(file: CdiFile, toolkit: InstalledTool) -> str:
    if file.fault is CdiFault.UNREADABLE:
        return f"sudo chmod -R a+rX {shlex.quote(file.path)}"
    if file.fault is CdiFault.IGNORED:
        return f"sudo mv {shlex.quote(file.path)} {shlex.quote(posixpath.splitext(file.path)[0] + '.yaml')}"
    return _generate(file.path, toolkit) if "nvidia" in posixpath.basename(file.path) else ""


def _regenerate(file: CdiFile, toolkit: InstalledTool) -> str:
    """Return what writes a file again; empty for devices of others, whose tool is not known."""
    return _generate(file.path, toolkit) if file.spec and file.spec.kind == NVIDIA else ""


def _generate(path: str, toolkit: InstalledTool) -> str:
    form = " --format=json" if path.endswith(".json") else ""
    install = "" if toolkit.path else "sudo apt-get install nvidia-container-toolkit && "
    return f"{install}sudo nvidia-ctk cdi generate --output={shlex.quote(path)}{form}"


def _list(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
