"""GPUs for containers that are about to start: chosen, and reserved until podman knows who has them.

Between the choice and the moment in which `podman ps` lists a container, another process could choose the same device.
So each process writes down what it chose, in a file that it keeps locked; a lock ends with its process.
"""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

from buildkit.declare.gpu_request import GpuRequest
from buildkit.errors import BuildError
from buildkit.gpu.allocation import Grant, Refusal, allocate
from buildkit.gpu.assumed import assume_devices
from buildkit.gpu.cdi_spec import find_names
from buildkit.gpu.eligibility import HeldDevice, WantedGpus
from buildkit.gpu.holders import holder_labels
from buildkit.running.flags import ContainerSpec
from buildkit.store.file_locks import acquire_lock, locked_temporary_file
from buildkit.store.ledger_key import key_file
from buildkit.tools import podman
from buildkit.tools.cdi import find_cdi
from buildkit.tools.gpu_host import find_gpu_host, find_held

Warn = Callable[[str], None]
_PREFIX = "gpus-"
_CDI_NAME = re.compile(r"[A-Za-z][\w.-]*/[A-Za-z][\w.-]*=.+")
_HINT = "nox -s gpus lists devices, what keeps containers from them, and who has them"


@contextmanager
def grant_gpus(
    containers: Sequence[ContainerSpec], warn: Warn, *, environment: str = "", leaving: frozenset[str] = frozenset()
) -> Iterator[tuple[ContainerSpec, ...]]:
    """Yield the containers with the devices that they get, reserved until the block ends.

    ``environment`` (``PROJECT-NAME``) is that of services; containers of the names ``leaving`` end before. A container
    whose request is optional gets no device where it cannot be met, and ``warn`` says so. Raises BuildError, with all
    reasons, for any other one, and for devices among ``options`` that podman does not know.
    """
    _check_options(containers)
    wanted = _wanted(containers, environment)
    if not wanted:
        yield tuple(containers)
        return
    folder = key_file().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked_temporary_file(folder, prefix=_PREFIX, suffix=".json") as reservation:
        with (folder / "gpus.lock").open("w") as turn:
            acquire_lock(turn.fileno(), fcntl.LOCK_EX, lambda: None, lambda: False)
            host = find_gpu_host()
            held = (one for one in (*find_held(host), *_reserved(folder)) if one.container not in leaving)
            results = allocate(wanted, host, held)
            _check_refusals(wanted, results)
            reservation.write(json.dumps([asdict(one) for one in _as_held(wanted, results)]).encode())
            reservation.flush()
        yield tuple(_granted(one, results.get(one.name), warn) for one in containers)


def plan_gpus(containers: Sequence[ContainerSpec], *, environment: str = "") -> tuple[ContainerSpec, ...]:
    """Return the containers with devices for a file that starts them later: of this host, whatever runs on it now.

    If it does not have what they ask for, the file is for another one: devices are by index there.
    """
    wanted = _wanted(containers, environment)
    if not wanted:
        return tuple(containers)
    results = allocate(wanted, find_gpu_host().emptied())
    grants = {name: found for name, found in results.items() if isinstance(found, Grant)}
    if len(grants) == len(wanted):
        return tuple(_with_devices(one, grants[one.name]) if one.gpu else one for one in containers)
    return assume_gpus(containers)


def assume_gpus(containers: Sequence[ContainerSpec]) -> tuple[ContainerSpec, ...]:
    """Return the containers with devices that are named, or those of the first indices."""
    names = assume_devices(_wanted(containers, ""))
    return tuple(replace(one, devices=names[one.name]) if one.gpu else one for one in containers)


def _wanted(containers: Sequence[ContainerSpec], environment: str) -> list[WantedGpus]:
    asking = ((one.name, one.gpu) for one in containers)
    return [WantedGpus(container=name, request=gpu, environment=environment) for name, gpu in asking if gpu]


def _with_devices(container: ContainerSpec, grant: Grant) -> ContainerSpec:
    profiles = tuple(filter(None, (device.profile for device in grant.devices)))
    return replace(container, devices=grant.names, mig=profiles if len(profiles) == len(grant.devices) else ())


def _reserved(folder: Path) -> Iterator[HeldDevice]:
    """Yield what other processes have chosen; called by one process at a time."""
    for path in sorted(folder.glob(f"{_PREFIX}*.json")):
        with suppress(FileNotFoundError), path.open("rb+") as file:  # its process may end meanwhile
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield from (HeldDevice(**row) for row in json.loads(file.read() or b"[]"))  # empty: not chosen yet
            else:
                path.unlink()  # its process has ended


def _as_held(wanted: Sequence[WantedGpus], results: dict[str, Grant | Refusal]) -> Iterator[HeldDevice]:
    for one in wanted:
        if isinstance(found := results[one.container], Grant):
            for uuid in found.uuids:
                share, environment = one.request.share, one.environment
                yield HeldDevice(uuid=uuid, container=one.container, share=share, environment=environment)


def _check_refusals(wanted: Sequence[WantedGpus], results: dict[str, Grant | Refusal]) -> None:
    refused = [
        (one, found)
        for one in wanted
        if isinstance(found := results[one.container], Refusal) and not one.request.optional
    ]
    lines = [
        line
        for one, found in refused
        for line in (f"\n{one.container} wants {format_request(one.request)}:", *_lines(found))
    ]
    if refused:
        mend = next((reason.mend for _, found in refused for reason in found.reasons if reason.mend), "")
        hint = f"{mend}  # {_HINT}" if mend else _HINT
        raise BuildError(f"nothing was started: GPUs cannot be had{''.join(lines)}", hint=hint)


def _lines(refusal: Refusal) -> list[str]:
    return [f"\n  - {reason.text}" for reason in refusal.reasons]


def format_request(request: GpuRequest) -> str:
    """Return a request in a few words."""
    if request.devices:
        return f"the device{'s' if len(request.devices) > 1 else ''} {', '.join(request.devices)}"
    if request.every:
        return "all GPUs"
    return f"{request.count} GPU{'s' if request.count > 1 else ''}"


def _granted(container: ContainerSpec, found: Grant | Refusal | None, warn: Warn) -> ContainerSpec:
    if found is None or container.gpu is None:
        return container
    if isinstance(found, Refusal):
        warn(f"{container.name} runs on the CPU, its GPUs cannot be had{''.join(_lines(found))}")
        return replace(container, gpu=None)
    labels = dict(container.labels) | dict(holder_labels(found.uuids, container.gpu.share))
    return replace(_with_devices(container, found), labels=tuple(labels.items()))


def _check_options(containers: Sequence[ContainerSpec]) -> None:
    """Raise BuildError for devices that podman would not resolve, of which it says neither which nor why.

    With ``--gpus``, podman 4.3 starts a container without any, and 5.4 takes a number for an index.
    """
    if gpus := next((option for one in containers for option in one.options if option.startswith("--gpus")), ""):
        hint = "ask for GPUs in the stage's [gpu], or name one: --option=--device=nvidia.com/gpu=UUID"
        raise BuildError(
            f"nothing was started: podman reads {gpus} in other ways than Docker, or not at all", hint=hint
        )
    given = (option for one in containers for option in one.options)
    words = [word for option in given for word in (option.split("=", 1) if option.startswith("--") else (option,))]
    values = [value for option, value in pairwise(words) if option == "--device"]
    if not (asked := [value for value in values if _CDI_NAME.fullmatch(value)]):
        return
    names = find_names(find_cdi(), ".".join(map(str, podman.find_version())))
    for name in asked:
        if name not in names:
            there = f"there are {', '.join(sorted(names))}" if names else "no usable CDI specification names any"
            raise BuildError(f"nothing was started: podman has no device {name}: {there}", hint=_HINT)
