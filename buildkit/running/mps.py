"""The control daemon of MPS as a service beside the containers that share GPUs through it. Pure.

It runs the driver's own program, which CDI puts into every container with a GPU, in the image and as the user of its
first client. Pipes and `/dev/shm` are volumes in memory that only daemon and clients have. Clients start when the
daemon answers, and end before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from buildkit.declare.gpu_request import GpuRequest, parse_size
from buildkit.declare.services import FILE, Dependency
from buildkit.declare.stage import Healthcheck
from buildkit.errors import DefinitionError, Problem
from buildkit.gpu.holders import DEVICES, holder_labels
from buildkit.gpu.mps import (
    ASK,
    CONTROL,
    LOG,
    PIPE,
    MpsClient,
    MpsRefusal,
    UidMap,
    check_users,
    client_variables,
    keep_id,
)
from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.running.flags import ContainerSpec
from buildkit.running.mounts import MemoryVolume, VolumeMount

NAME = "mps"
_SHM = "/dev/shm"  # noqa: S108 - the container's
_SHM_SIZE = "64m"
_BLOCK = 4096
_KEEP_ID = re.compile(r"--userns=keep-id:uid=(\d+)(?:,.*)?")
_PROGRAM = (
    f"import subprocess as s, sys; a = s.run(['{CONTROL}'], input=b'{ASK}\\n', stdout=s.PIPE, timeout=8).stdout; "
    "sys.exit(not a[:1].isdigit())"
)
_SCRIPT = f'case "$(echo {ASK} | {CONTROL})" in [0-9]*) ;; *) exit 1 ;; esac'


def mps_clients(environment: RunningEnvironment) -> tuple[RunningService, ...]:
    """Return the services that share GPUs through MPS."""
    return tuple(one for one in environment.services if one.container.gpu and one.container.gpu.share == "mps")


def with_mps(environment: RunningEnvironment) -> RunningEnvironment:
    """Return the environment with the daemon, called ``mps``, if a service shares GPUs through it.

    It has the devices of its clients; call this again once they have some.

    Raises DefinitionError if clients have different users, or another service has its name.
    """
    clients = mps_clients(environment)
    if any(_is_daemon(one) for one in environment.services):
        stay = (one for one in environment.services if clients or not _is_daemon(one))
        return replace(environment, services=tuple(_with_devices(one, clients) for one in stay))
    if not clients:
        return environment
    _check(environment, clients)
    prefix = environment.network.name
    first = clients[0].container
    owner = first.owner or (0, 0)
    blocks = max(_shm_size(one.container) for one in clients) // _BLOCK
    memory = (
        MemoryVolume(volume=f"{prefix}-mps-pipe", owner=owner),
        MemoryVolume(volume=f"{prefix}-mps-log", owner=owner),
        MemoryVolume(volume=f"{prefix}-mps-shm", owner=owner, mode="1777", blocks=blocks),
    )
    mounts = tuple(
        VolumeMount(volume=one.volume, target=target) for one, target in zip(memory, (PIPE, LOG, _SHM), strict=True)
    )
    daemon = RunningService(
        name=NAME,
        container=_daemon(first, f"{prefix}-{NAME}", mounts),
        image=first.image,  # no files of its stage are watched
    )
    joined = {one.name: _join(one, mounts) for one in clients}
    services = (daemon, *(joined.get(one.name, one) for one in environment.services))
    return with_mps(replace(environment, services=services, memory=(*environment.memory, *memory)))


def _is_daemon(service: RunningService) -> bool:
    return service.name == NAME and service.container.entrypoint == (CONTROL,)


def _with_devices(service: RunningService, clients: Sequence[RunningService]) -> RunningService:
    """Return a service with what follows from the devices of all clients."""
    container = service.container
    if _is_daemon(service):
        devices = dict.fromkeys(name for one in clients for name in one.container.devices)
        uuids = dict.fromkeys(uuid for one in clients for uuid in _uuids(one.container))
        labels = holder_labels(uuids, "mps") if uuids else ()
        return replace(service, container=replace(container, devices=tuple(devices), labels=labels))
    if service in clients and container.devices:
        variables = dict(container.env) | _variables(container)
        return replace(service, container=replace(container, env=tuple(variables.items())))
    return service if service in clients or NAME not in service.bound_to else _leave(service)


def _leave(service: RunningService) -> RunningService:
    """Return a client that runs on the CPU after all."""
    container = service.container
    mounts = tuple(mount for mount in container.mounts if mount.target not in (PIPE, LOG, _SHM))
    env = tuple((name, value) for name, value in container.env if not name.startswith("CUDA_MPS_"))
    return replace(
        service,
        container=replace(container, mounts=mounts, env=env),
        depends_on=tuple(one for one in service.depends_on if one.service != NAME),
        bound_to=tuple(name for name in service.bound_to if name != NAME),
    )


def _uuids(container: ContainerSpec) -> list[str]:
    return dict(container.labels).get(DEVICES, "").split()


def _variables(container: ContainerSpec) -> dict[str, str]:
    gpu = container.gpu or GpuRequest()
    return dict(client_variables(gpu.mps, len(container.devices or gpu.devices) or gpu.count))


def _check(environment: RunningEnvironment, clients: Sequence[RunningService]) -> None:
    problems = [
        Problem(file=FILE, key=f"services.{clients[0].name}.gpu", what=refusal.what, hint=refusal.hint)
        for refusal in check_users(list(map(_as_client, clients)))
    ]
    if any(one.name == NAME for one in environment.services):
        what = "is the name of the daemon through which services share GPUs"
        problems.append(Problem(file=FILE, key=f"services.{NAME}", what=what, hint="give the service another name"))
    if problems:
        raise DefinitionError.of(problems)


def find_strangers(environment: RunningEnvironment, uids: UidMap) -> tuple[MpsRefusal, ...]:
    """Return why daemon and clients are not one user of the host, whose containers have this map of users."""
    users = (*mps_clients(environment), *(one for one in environment.services if _is_daemon(one)))
    return tuple(check_users([_as_client(one, uids) for one in users]))


def _as_client(service: RunningService, uids: UidMap = ()) -> MpsClient:
    container = service.container
    own = container.user.partition(":")[0]
    uid = int(own) if own.isdecimal() else container.owner[0] if container.owner else None
    kept = next(filter(None, map(_KEEP_ID.fullmatch, container.options)), None)
    return MpsClient(name=service.name, uid=uid, uids=keep_id(int(kept[1]), uids) if kept else uids)


def _shm_size(container: ContainerSpec) -> int:
    return parse_size(dict(container.running.tmpfs).get(_SHM, _SHM_SIZE))


def _daemon(client: ContainerSpec, name: str, mounts: tuple[VolumeMount, ...]) -> ContainerSpec:
    running = replace(client.running, memory="2g", pids=1024, cpus=0.0, tmpfs=(), outgoing=False, stop_seconds=1)
    return ContainerSpec(
        image=client.image,
        name=name,
        running=running,
        user=client.user,
        owner=client.owner,
        hostname=NAME,
        seccomp=client.seccomp,
        entrypoint=(CONTROL,),
        command=("-f",),
        env=(("CUDA_MPS_PIPE_DIRECTORY", PIPE), ("CUDA_MPS_LOG_DIRECTORY", LOG)),
        mounts=mounts,
        health=Healthcheck(test=_test(client), interval=10, timeout=10, start_period=5, retries=3),
    )


def _test(client: ContainerSpec) -> tuple[str, ...]:
    """Return the command that asks the daemon, which reads from its standard input alone."""
    return (client.python, "-c", _PROGRAM) if client.python else ("sh", "-c", _SCRIPT)


def _join(service: RunningService, mounts: tuple[VolumeMount, ...]) -> RunningService:
    container = service.container
    variables = _variables(container)
    own = tuple((name, value) for name, value in container.env if name not in variables)
    container = replace(container, env=(*own, *variables.items()), mounts=(*container.mounts, *mounts))
    needs = Dependency(service=NAME, condition="healthy")
    return replace(
        service, container=container, depends_on=(needs, *service.depends_on), bound_to=(*service.bound_to, NAME)
    )
