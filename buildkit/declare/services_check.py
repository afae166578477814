"""What one key of ``services.toml`` says against another: names, cycles, ports, and secrets that are written down."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

from buildkit.declare.gpu_request import check_gpu_variables
from buildkit.declare.nim_check import check_nim
from buildkit.declare.schema import ValueLocation, suggest_word
from buildkit.declare.services import Environment, Service
from buildkit.declare.written_secrets import IN_SERVICES, check_variables

_CAPABILITIES = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH
    FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE
    NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
    SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"""


def report_unknown(kind: str, name: str, known: Collection[str], place: ValueLocation) -> None:
    """Report a name that is none of the known ones, with the most similar one."""
    if name not in known:
        hint = suggest_word(name, list(known)) or (
            f"there are {', '.join(sorted(known))}" if known else "there is none"
        )
        place.report(f"there is no {kind} `{name}`", hint)


def check_service(
    service: Service,
    place: ValueLocation,
    *,
    stages: Collection[str],
    secrets: Collection[str],
    services: Collection[str],
) -> None:
    """Report what is wrong in one service, given the names that it may use."""
    if bool(service.stage) == bool(service.image) and not (place.at("stage").faulty or place.at("image").faulty):
        place.report("needs either `stage` or `image`")
    if service.stage:
        report_unknown("stage", service.stage, stages, place.at("stage"))
    if service.image and not service.user and not place.at("user").faulty:
        place.at("user").report("is missing", "an image says too late that it runs as root; name its user")
    if service.user.partition(":")[0] in ("0", "root"):
        place.at("user").report("a service must not run as root", "name another user")
    for name in service.secrets:
        report_unknown("secret", name, secrets, place.at("secrets"))
    for dependency in service.depends_on:
        report_unknown("service", dependency.service, services, place.at("depends-on"))
    check_nim(service, place, secrets)
    _check_proxied(service, place, stages)
    _check_env(service, service.env, place.at("env"))
    for version in service.rollout.versions if service.rollout else ():
        _check_env(service, version.env, place.at("rollout").at("versions").at(version.name).at("env"))
    _check_exceptions(service, place.at("exceptions"))
    for one, other in combinations(service.volumes, 2):
        if one.target == other.target:
            place.at("volumes").report(f"{one.name} and {other.name} are both mounted at {one.target}")


def _check_proxied(service: Service, place: ValueLocation, stages: Collection[str]) -> None:
    if service.proxy is None:
        return
    if service.proxy.stage not in stages:
        place.at("proxy").at("stage").report(
            f"there is no stage `{service.proxy.stage}`", "docs/rollout.md shows the stage of the proxy"
        )
    if len(service.ports) != 1 or service.ports[0].protocol != "tcp":
        place.at("ports").report("a service behind a proxy has one port, which the proxy passes on", 'ports = ["8000"]')
    if service.replicas and service.scale:
        place.at("replicas").report("conflicts with `scale`", "scale.min and scale.max say how many there are")
    if service.volumes or service.nim:
        place.at("nim" if service.nim else "volumes").report(
            "replicas would write one volume at once", "let another service keep the data"
        )


def _check_env(service: Service, env: tuple[tuple[str, str], ...], place: ValueLocation) -> None:
    """Report variables of a service, or of a version of it, that hold a secret or choose GPUs."""
    if service.gpu:
        check_gpu_variables(dict(env), place)
    check_variables(env, place, IN_SERVICES)


def _check_exceptions(service: Service, place: ValueLocation) -> None:
    for number, exemption in enumerate(service.exceptions):
        kind, _, name = exemption.allow.partition(":")
        if kind == "capability":
            report_unknown("capability", name.removeprefix("CAP_"), _CAPABILITIES.split(), place.at(number))
        if sum(other.allow == exemption.allow for other in service.exceptions[: number + 1]) > 1:
            place.at(number).report(f"`{exemption.allow}` is allowed twice")


def check_environment(environment: Environment, place: ValueLocation, *, known: Collection[str]) -> None:
    """Report services that cannot run together: absent dependencies, cycles, and ports asked for twice."""
    services = {service.name: service for service in environment.services}
    for service in environment.services:
        for dependency in service.depends_on:
            if dependency.service in known and dependency.service not in services:
                place.at("services").report(
                    f"`{service.name}` depends on `{dependency.service}`, which is not among them",
                    f"add it, or set overrides.{service.name}.depends-on",
                )
    if loop := _find_cycle(services):
        place.report(f"services wait for each other in a cycle: {' → '.join(loop)}")
    published = [(service.name, port) for service in environment.services for port in service.ports]
    for (name, port), (other, second) in combinations(published, 2):
        if port.meets(second):
            who = f"{name} twice" if name == other else f"both {name} and {other}"
            place.report(f"port {port.host} of the host is published by {who}", "give one of them another: `9000:8000`")


def _find_cycle(services: Mapping[str, Service]) -> tuple[str, ...]:
    """Return the names along a cycle, the first one again at its end; empty if there is none."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if name in path:
            return (*path[path.index(name) :], name)
        if name in done or name not in services:
            return ()
        found = (visit(below.service, (*path, name)) for below in services[name].depends_on)
        loop = next(filter(None, found), ())
        done.add(name)
        return loop

    return next(filter(None, (visit(name, ()) for name in services)), ())
