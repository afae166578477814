"""Checks of MPS on a host with GPUs: compute mode, control daemons, their folders and users. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.doctor.diagnosis import Diagnosis, note, ok, warning
from buildkit.doctor.facts import HostFacts
from buildkit.gpu.cdi_spec import NVIDIA
from buildkit.gpu.device import Gpu
from buildkit.gpu.mps import CONTROL, DEFAULT_PIPE, EXCLUSIVE, check_pipe, has_control
from buildkit.gpu.mps_host import MpsDaemon, MpsHost

_QUIT = f"echo quit | {CONTROL}"
_FOLDER, _SHM = "/dev/shm", 0o1777  # noqa: S108 - it is looked at


def check_mps(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check what keeps containers from sharing GPUs through MPS; a host without GPU has no finding."""
    gpus = facts.gpus.devices
    if not gpus:
        return
    wanted = any(gpu.compute_mode == EXCLUSIVE for gpu in gpus)
    found = (
        *(finding for gpu in gpus for finding in _check_mode(gpu, facts.mps)),
        *_check_default(facts),
        *(finding for daemon in facts.mps.daemons for finding in _check_daemon(daemon, facts.mps)),
        *(_check_control(facts) if wanted else ()),
    )
    yield from found
    if wanted and not found:
        yield ok("mps", 'services can share GPUs: share = "mps"')


def _check_mode(gpu: Gpu, mps: MpsHost) -> Iterator[Diagnosis]:
    name, change = f"GPU {gpu.index} ({gpu.uuid})", f"sudo nvidia-smi --id={gpu.uuid} --compute-mode="
    if gpu.compute_mode == "PROHIBITED":
        yield warning("mps", f"{name} is in compute mode PROHIBITED", "no program may use it", f"{change}DEFAULT")
    elif gpu.compute_mode == "DEFAULT" and mps.daemons:
        what = f"{name} is in compute mode DEFAULT, and a daemon of MPS runs"
        yield warning("mps", what, "a program that misses the daemon runs beside it, unlimited", f"{change}{EXCLUSIVE}")
    elif gpu.compute_mode == EXCLUSIVE and gpu.mig is not None:
        what = f"{name} is in compute mode {EXCLUSIVE} and divided by MIG"
        yield note("mps", what, "each MIG device serves one program at a time", f"{change}DEFAULT")


def _check_default(facts: HostFacts) -> Iterator[Diagnosis]:
    injected = [file.path for file in facts.cdi.of_kind(NVIDIA) if file.spec and DEFAULT_PIPE in file.spec.needs]
    if not (facts.mps.default_pipe or injected):
        return
    by = f"{injected[0]} gives it" if injected else "nvidia-ctk gives it"
    what = f"{DEFAULT_PIPE} exists, and {by} to every container with a GPU"
    mend = f"{_QUIT}; rm -r {DEFAULT_PIPE}; export CUDA_MPS_PIPE_DIRECTORY=/run/mps/pipe  # then start it again"
    yield warning("mps", what, "containers that never asked for it become clients, and wait for other users", mend)


def _check_daemon(daemon: MpsDaemon, mps: MpsHost) -> Iterator[Diagnosis]:
    who = f"the daemon of MPS on this host (process {daemon.pid})"
    if daemon.uid not in (0, mps.uid):
        what = f"{who} is that of user {daemon.uid}"
        yield warning("mps", what, "your programs wait until that user's have ended", f"sudo kill {daemon.pid}")
    for fault in check_pipe(daemon.pipe) if daemon.pipe and daemon.pipe.path != DEFAULT_PIPE else ():
        yield warning("mps", fault.what, f"programs in containers do not reach {who}", fault.hint)
    if mps.shm != _SHM:
        what = f"{_FOLDER} is missing" if mps.shm is None else f"{_FOLDER} has mode {mps.shm:04o}"
        mend = f"sudo mount -t tmpfs tmpfs {_FOLDER}" if mps.shm is None else f"sudo chmod 1777 {_FOLDER}"
        yield warning("mps", what, f"clients share no memory with {who}", mend)


def _check_control(facts: HostFacts) -> Iterator[Diagnosis]:
    if has_control(facts.cdi) is False:
        what = f"no CDI specification has {CONTROL}"
        mend = "sudo apt-get install nvidia-cuda-mps && sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
        yield note("mps", what, 'services with share = "mps" are refused', mend)
