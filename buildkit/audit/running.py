"""Findings about a running container, from observations by the host and from inside. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from buildkit.audit import running_rules as rules
from buildkit.audit.capabilities import NAMES
from buildkit.audit.secret_patterns import DISTINCT, WRITTEN, find_all
from buildkit.audit.secret_scan import redact
from buildkit.findings import Finding, Rule, Severity
from buildkit.running.proc import CAPABILITY_SETS, ListeningSocket, MountPoint, ProcessStatus

_STATUS = "/proc/1/status"
_KERNELS = ("proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue")
_DEVICES = "/dev"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the container's
_NODES = frozenset(f"{_DEVICES}/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "console"))
_KILLED = 137


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health check's exit code, output, and exit code while the service was halted (None: not tried)."""

    code: int
    output: str = ""
    code_halted: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Observations of a container under the recommended flags.

    ``ended`` is its exit code and the end of its log, if it ended before it could be observed; the rest is then empty.
    ``tmpfs`` are the writable folders that it was given, ``written`` the paths at which a write succeeded (None: no
    interpreter to try it with). Limits are bytes and processes, None for none. ``ports`` are those that the image
    exposes (``8000/tcp``), ``silent`` those on which nothing answers. ``stopped`` is its exit code after the stop
    signal, and ``stop_seconds`` the grace period.
    """

    ended: tuple[int, str] | None = None
    processes: tuple[ProcessStatus, ...] = ()
    environment: tuple[str, ...] = ()
    mounts: tuple[MountPoint, ...] = ()
    tmpfs: tuple[str, ...] = ()
    written: tuple[str, ...] | None = None
    memory: int | None = None
    pids: int | None = None
    listening: tuple[ListeningSocket, ...] = ()
    ports: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    outgoing: bool = False
    ways_out: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    health: Health | None = None
    stopped: int = 0
    stop_seconds: int = 10


def check_running(seen: Observation) -> tuple[Finding, ...]:
    """Return all findings about a container."""
    if seen.ended is not None:
        code, log = seen.ended
        end = f": {log[-400:]}" if log else ""
        return (Finding(rule=rules.DOES_NOT_RUN, what=f"it ended with {code}{end}", path="/"),)
    return tuple(finding for check in (*_KERNELS_FACTS, *_TRIED) for finding in check(seen))


def check_observed(seen: Observation) -> tuple[Finding, ...]:
    """Return the findings from what the kernel reports alone, about a container that was not started to be examined."""
    return tuple(finding for check in _KERNELS_FACTS for finding in check(seen))


def _processes(seen: Observation) -> Iterator[Finding]:
    for process in dict.fromkeys(seen.processes):
        yield from _process(process)


def _process(process: ProcessStatus) -> Iterator[Finding]:
    name = process.name
    if 0 in process.uids:
        yield _finding(rules.PROCESS_ROOT, f"{name} runs with uid 0")
    elif 0 in process.gids:
        what = f"{name} is in root's group (gid 0), as is any uid without an account in the image"
        yield Finding(rule=rules.PROCESS_ROOT, what=what, path=_STATUS, override=Severity.MEDIUM)
    for sort in CAPABILITY_SETS:
        bits = dict(process.capabilities).get(sort, 0)
        if bits:
            yield _finding(rules.PROCESS_CAPABILITIES, f"{name} has {sort}: {format_capability_bits(bits)}")
    if not process.no_new_privileges:
        yield _finding(rules.NEW_PRIVILEGES, f"{name} has NoNewPrivs 0")
    if process.seccomp != 2:
        yield _finding(rules.NO_SECCOMP, f"{name} has Seccomp {process.seccomp}, not 2")


def format_capability_bits(bits: int) -> str:
    """Return the names of a set of capabilities, or how many there are if they are many."""
    names = [NAMES[number] if number < len(NAMES) else str(number) for number in range(64) if bits >> number & 1]
    return ", ".join(names) if len(names) < 8 else f"{len(names)} of them, {names[0]} and {names[-1]} among them"


def _secrets(seen: Observation) -> Iterator[Finding]:
    for line in dict.fromkeys(seen.environment):
        found = next(find_all(line.encode("utf-8", "surrogateescape") + b"\n", DISTINCT + WRITTEN), None)
        if found is not None:
            what = f"{line.partition('=')[0]} holds {found[0]}: {redact(found[2])}"
            yield Finding(rule=rules.ENVIRONMENT_SECRET, what=what, path="/proc/1/environ")


def _mounts(seen: Observation) -> Iterator[Finding]:
    written = set(seen.written or ())
    root = next((mount for mount in seen.mounts if mount.target == "/"), None)
    if root is None or "ro" not in root.options:
        yield Finding(rule=rules.ROOT_WRITABLE, what="/ is mounted for reading and writing", path="/")
    elif inside := sorted(path for path in written if not _within(path, [m.target for m in seen.mounts if m != root])):
        yield Finding(rule=rules.ROOT_WRITABLE, what=f"writing worked at {', '.join(inside)}", path=inside[0])
    for mount in seen.mounts:
        if mount.target != "/" and "rw" in mount.options and mount.kind not in _KERNELS:
            yield from _writable(mount, seen.tmpfs)


def _writable(mount: MountPoint, tmpfs: tuple[str, ...]) -> Iterator[Finding]:
    if mount.target in _NODES or _within(mount.target, ["/proc", "/sys"]):
        return  # devices, which a rootless runtime binds one by one; mounts over the kernel's files
    named = mount.target in tmpfs or (_within(mount.target, [_DEVICES]) and mount.target != _SHARED_MEMORY)
    if not named:
        what = f"{mount.target} ({mount.kind}) is writable"
        yield Finding(rule=rules.WRITABLE_PLACE, what=what, path=mount.target)
    missing = sorted({"noexec", "nosuid"} - mount.options)
    if missing:
        what = f"{mount.target} ({mount.kind}) is mounted without {' and '.join(missing)}"
        yield Finding(rule=rules.EXECUTABLE_PLACE, what=what, path=mount.target)


def _within(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _attempts(seen: Observation) -> Iterator[Finding]:
    if seen.written is None:
        yield Finding(rule=rules.NOT_TRIED, what="the image has neither python nor sh", path="/")


def _limits(seen: Observation) -> Iterator[Finding]:
    if seen.memory is None:
        yield Finding(rule=rules.NO_MEMORY_LIMIT, what="it may use all of the host's memory", path="/sys/fs/cgroup")
    if seen.pids is None:
        yield Finding(rule=rules.NO_PIDS_LIMIT, what="it may start any number of processes", path="/sys/fs/cgroup")


def _network(seen: Observation) -> Iterator[Finding]:
    for socket in dict.fromkeys(seen.listening):
        name = f"{socket.port}/{socket.protocol}"
        if name not in seen.ports and not socket.is_loopback:
            where = f"/proc/1/net/{socket.protocol}"
            yield Finding(rule=rules.UNDECLARED_PORT, what=f"{name} is open on {socket.address}", path=where)
    for port in seen.silent:
        yield Finding(rule=rules.SILENT_PORT, what=f"nothing answers on {port}", path="/proc/1/net/tcp")
    if seen.ways_out and not seen.outgoing:
        what = f"there is a default route by {', '.join(seen.ways_out)}"
        yield Finding(rule=rules.WAY_OUT, what=what, path="/proc/1/net/route")
    for name in seen.shared:
        yield Finding(
            rule=rules.SHARED_NAMESPACE, what=f"its {name} namespace is the host's", path=f"/proc/1/ns/{name}"
        )


def _health(seen: Observation) -> Iterator[Finding]:
    health = seen.health
    if health is None:
        yield Finding(rule=rules.HEALTH_MISSING, what="it has no health check", path="/")
    elif health.code != 0:
        end = f": {health.output[-400:]}" if health.output else ""
        yield Finding(rule=rules.HEALTH_FAILS, what=f"the health check ends with {health.code}{end}", path="/")
    elif health.code_halted == 0:
        yield Finding(rule=rules.HEALTH_BLIND, what="it passes while every process is halted", path="/")


def _stop(seen: Observation) -> Iterator[Finding]:
    if seen.stopped == _KILLED:
        what = f"it had to be killed after {seen.stop_seconds} s"
        yield Finding(rule=rules.IGNORES_STOP, what=what, path="/")


def _finding(rule: Rule, what: str) -> Finding:
    return Finding(rule=rule, what=what, path=_STATUS)


_KERNELS_FACTS: tuple[Callable[[Observation], Iterator[Finding]], ...] = (
    _processes, _secrets, _mounts, _limits, _network,
)  # fmt: skip
_TRIED: tuple[Callable[[Observation], Iterator[Finding]], ...] = (_attempts, _health, _stop)
