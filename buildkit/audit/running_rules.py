"""The rules of the audit of a running container. Sections are those of the CIS Docker Benchmark 1.6.0."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW


def _cis(*sections: str) -> tuple[str, ...]:
    return tuple(f"CIS Docker Benchmark {section}" for section in sections)


DOES_NOT_RUN = Rule(
    id="does-not-run",
    title="The container ends under the recommended flags",
    severity=HIGH,
    why="An image that only runs with more rights is run with more rights, by everybody, for ever.",
    advice="Read its log: a folder that it writes to belongs into tmpfs of [running], a port below 1024 must move up.",
)
PROCESS_ROOT = Rule(
    id="process-root",
    title="A process runs as root",
    severity=HIGH,
    why="Whoever takes it over needs one flaw of the kernel, or one careless mount, to be root on the host.",
    advice='Say user = "…" in [config], and start nothing as root.',
    references=_cis("4.1"),
)
PROCESS_CAPABILITIES = Rule(
    id="process-capabilities",
    title="A process has capabilities",
    severity=HIGH,
    why="Each capability is a part of root's power; those of the bounding set come back with a setuid program.",
    advice="Run it with --cap-drop=all, and give back by --cap-add the one that it needs.",
    references=_cis("5.4"),
)
NEW_PRIVILEGES = Rule(
    id="new-privileges",
    title="A process may gain privileges",
    severity=HIGH,
    why="A setuid program, or one with capabilities, gives its rights to whoever starts it.",
    advice="Run it with --security-opt=no-new-privileges.",
    references=_cis("5.26"),
)
NO_SECCOMP = Rule(
    id="no-seccomp",
    title="System calls are not filtered",
    severity=HIGH,
    why="Most ways out of a container begin with a system call that no service needs.",
    advice="Leave podman's own profile on: no --security-opt=seccomp=unconfined, no --privileged.",
    references=_cis("5.22"),
)
ROOT_WRITABLE = Rule(
    id="root-writable",
    title="The root file system can be written to",
    severity=HIGH,
    why="An intruder changes programs and libraries, and stays until the container is thrown away.",
    advice="Run it with --read-only --read-only-tmpfs=false; name what must be writable in tmpfs of [running].",
    references=_cis("5.13"),
)
WRITABLE_PLACE = Rule(
    id="writable-place",
    title="A place can be written to that nobody named",
    severity=MEDIUM,
    why="What can be written survives in it, or is imported from it.",
    advice="Leave the volume out, or name a folder in memory in tmpfs of [running].",
    references=_cis("5.13"),
)
EXECUTABLE_PLACE = Rule(
    id="executable-place",
    title="What is written can be started",
    severity=MEDIUM,
    why="An intruder who can write and start a program brings their own: a read-only root does not help against that.",
    advice="Mount it with noexec and nosuid, as tmpfs of [running] does.",
    references=_cis("5.13"),
)
NO_MEMORY_LIMIT = Rule(
    id="no-memory-limit",
    title="Memory is not limited",
    severity=MEDIUM,
    why="One large request makes the host swap, and the kernel end processes of others.",
    advice="Run it with --memory and --memory-swap of one value; nox -s doctor, where this host cannot.",
    references=_cis("5.11"),
)
NO_PIDS_LIMIT = Rule(
    id="no-pids-limit",
    title="The number of processes is not limited",
    severity=MEDIUM,
    why="Processes that start processes leave none for the rest of the host.",
    advice="Run it with --pids-limit; nox -s doctor, where this host cannot.",
    references=_cis("5.29"),
)
UNDECLARED_PORT = Rule(
    id="undeclared-port",
    title="A process listens on a port that the image does not name",
    severity=MEDIUM,
    why="Containers of the same network reach it: debuggers, metrics and admin pages are found that way.",
    advice="Turn it off, bind it to 127.0.0.1, or name it in ports of [config].",
    references=_cis("5.9"),
)
SILENT_PORT = Rule(
    id="silent-port",
    title="Nobody listens on a port that the image names",
    severity=MEDIUM,
    why="The service does not answer, or answers elsewhere than everybody is told.",
    advice="Name the port that it listens on in ports of [config], and let it listen on 0.0.0.0.",
    references=_cis("5.9"),
)
WAY_OUT = Rule(
    id="way-out",
    title="The container can open connections to elsewhere",
    severity=MEDIUM,
    why="What is stolen leaves by it, and an intruder's tools come in by it.",
    advice="Use a network with no_default_route=1 (podman 4.6, netavark 1.7), or say outgoing = true in [running].",
    references=_cis("5.30"),
)
SHARED_NAMESPACE = Rule(
    id="shared-namespace",
    title="The container shares a namespace with the host",
    severity=HIGH,
    why="It sees, and may disturb, the host's processes, network or shared memory.",
    advice="Leave --network=host, --pid=host, --ipc=host and --uts=host out.",
    references=_cis("5.10", "5.16", "5.17", "5.21"),
)
ENVIRONMENT_SECRET = Rule(
    id="environment-secret",
    title="A process has a secret in its environment",
    severity=HIGH,
    why="It is in `podman inspect`, in crash reports, and in every program that the service starts.",
    advice="Give it as a file: podman run --secret; and take it out of env of [config].",
    references=_cis("4.10"),
)
HEALTH_MISSING = Rule(
    id="health-missing",
    title="Nobody can ask the container whether it is well",
    severity=LOW,
    why="A service that hangs is neither seen nor started again.",
    advice="Say [config.healthcheck] in the stage file.",
    references=_cis("4.6", "5.27"),
)
HEALTH_FAILS = Rule(
    id="health-fails",
    title="The health check does not pass",
    severity=HIGH,
    why="The service does not answer under the recommended flags, or the check cannot run under them.",
    advice="Run podman healthcheck run NAME, and read podman logs NAME.",
    references=_cis("5.27"),
)
HEALTH_BLIND = Rule(
    id="health-blind",
    title="The health check passes while the service hangs",
    severity=MEDIUM,
    why="It says that all is well whatever happens, which is worse than no check.",
    advice="Let it ask the service for something, within a time.",
    references=_cis("5.27"),
)
IGNORES_STOP = Rule(
    id="ignores-stop",
    title="The service does not end when asked",
    severity=MEDIUM,
    why="It is killed in the middle of requests, at each deployment; as process 1 it must handle the signal itself.",
    advice='Handle SIGTERM, or let tini be the entrypoint: entrypoint = ["tini", "--"].',
)
NOT_TRIED = Rule(
    id="not-tried",
    title="Writing could not be tried",
    severity=Severity.NOTE,
    why="There is no interpreter in the image to try it with; what the mounts say was checked.",
    advice="Nothing is to be done.",
)
